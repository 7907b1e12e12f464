"""Tables of what trained registers change: models by their number, and models with them against models without."""

from dataclasses import replace

from vit_registers.params.condition import BASELINE
from vit_registers.views.columns import CORLOC, KEYS, KNN, MODEL, TOP1_CLS, TOP1_PATCHES, row_of, tells
from vit_registers.views.study import Condition, Study
from vit_registers.views.table import Cell, Column, Table

MIOU = Column("miou", "Segmentation, mIoU (%)", "miou", {"head": "refitted"})
RMSE = Column("rmse", "Depth, RMSE", "rmse", {"head": "refitted"})
ZERO_SHOT = Column("zero_shot_top1", "Zero-shot, top-1 (%)", "zero_shot_top1")


def register_count(study: Study) -> Table:
    """Models trained with 0, 1, 2 ... registers and nothing else changed; one seed each."""
    cosine = "Cosine of attention maps"
    columns = [
        Column("registers", "Registers", alignment="r"),
        TOP1_CLS,
        TOP1_PATCHES,
        KNN,
        CORLOC,
        Column("register_cosine", "Registers", "register_cosine", group=cosine),
        Column("cls_register_cosine", "[CLS] and registers", "cls_register_cosine", group=cosine),
    ]
    table = Table(columns, KEYS[:2], empty="no model of this study was trained with a chosen number of registers")
    for condition in study.by_count:
        row = row_of(study, condition, columns)
        if tells(row):
            table.add(row | {"registers": study.plan.registers[condition.model]})
    return table


def lost_registers(study: Study) -> Table:
    """Object discovery with and without registers (Table 1 of bach2025, Table 3 of darcet2024)."""
    return _with_and_without(study, [replace(CORLOC, title="LOST, CorLoc (%)")])


def downstream_registers(study: Study) -> Table:
    """Classification, segmentation and depth with and without registers (Table 2 of darcet2024, Fig. 8)."""
    compared = [TOP1_CLS, MIOU, RMSE]
    if len(study.metric_rows("zero_shot_top1")):
        compared.append(ZERO_SHOT)
    return _with_and_without(study, compared)


def pairs(study: Study) -> list[tuple[Condition, Condition, bool]]:
    """Comparisons of two models as training left them, by data set, and whether over several trainings of these.

    None that was made from another model here.
    """
    found = []
    for dataset in study.datasets:
        ran = {c.model: c for c in study.baselines if c.dataset == dataset and _trained(study, c.model)}
        for comparison in study.plan.comparisons:
            a, b = ran.get(comparison.a.model), ran.get(comparison.b.model)
            if a and b and {comparison.a.intervention, comparison.b.intervention} == {BASELINE}:
                found.append((a, b, comparison.trainings))
    return found


def _trained(study: Study, model: str) -> bool:
    return study.is_natural(model) and model not in study.plan.resized


def _with_and_without(study: Study, compared: list[Column]) -> Table:
    """A row per pair and measure: without registers, with them, and the paired difference.

    p stands only where there are several trainings.
    """
    found = pairs(study)
    columns = [
        MODEL,
        Column("without_label", "Against"),
        Column("trainings", "Trainings", alignment="r"),
        Column("measure", "Measure"),
        Column("without", "Without"),
        Column("with", "With"),
        Column("change", "Change", signed=True, p=any(over for _, _, over in found)),
    ]
    keys = ("dataset", "model", "reference")
    table = Table(columns, keys, empty="this study compares no model with registers with one without")
    for a, b, over in found:
        for i, shown in enumerate(compared):
            row: dict[str, Cell] = {"dataset": a.dataset, "model": a.model, "reference": b.model}
            row |= {"model_label": study.model_label(a) if i == 0 else "", "measure": shown.title}
            row["without_label"] = study.model_label(b) if i == 0 else ""
            metric, where = shown.metric, dict(shown.where)
            assert metric is not None
            row["trainings"] = _trainings(study, a, b, metric) if over else 1
            for side, condition in (("without", b), ("with", a)):
                value = study.estimate(condition, metric, over_trainings=over, **where)
                row[side] = replace(value, n=None)  # the difference says it
            row["change"] = study.estimate(a, metric, against=b, over_trainings=over, **where)
            table.add(row, rule=i == 0)
    return table


def _trainings(study: Study, a: Condition, b: Condition, metric: str) -> int | None:
    """Number of pairs of trainings behind a difference."""
    numbers = study.rows_of(a, metric, reference_model=b.model)["trainings"].dropna()
    return None if numbers.empty else int(numbers.iloc[0])
