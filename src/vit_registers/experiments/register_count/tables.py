"""Tables of what trained registers change: models by their number, and models with them against models without."""

from dataclasses import replace
from typing import NamedTuple

from vit_registers.params.study import BASELINE
from vit_registers.views.columns import CORLOC, KEYS, KNN, MODEL, TOP1_CLS, TOP1_PATCHES, row_of
from vit_registers.views.study import Condition, Study
from vit_registers.views.table import Cell, Column, Table

MIOU = Column("miou", "Segmentation, mIoU (%)", "miou", {"head": "refitted"})
RMSE = Column("rmse", "Depth, RMSE", "rmse", {"head": "refitted"})
ZERO_SHOT = Column("zero_shot_top1", "Zero-shot, top-1 (%)", "zero_shot_top1")


class Compared(NamedTuple):
    """What is set side by side, and the metric by image of which there are paired differences."""

    shown: Column
    by_image: str


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
        table.add(row_of(study, condition, columns) | {"registers": study.plan.registers[condition.model]})
    return table


def lost_registers(study: Study) -> Table:
    """Object discovery with and without registers (Table 1 of bach2025, Table 3 of darcet2024)."""
    return _with_and_without(study, [Compared(replace(CORLOC, title="LOST, CorLoc (%)"), "corloc")])


def downstream_registers(study: Study) -> Table:
    """Classification, segmentation and depth with and without registers (Table 2 of darcet2024, Fig. 8)."""
    compared = [Compared(TOP1_CLS, "top1"), Compared(MIOU, "iou"), Compared(RMSE, "squared_error")]
    if len(study.metric_rows("zero_shot_top1")):
        compared.append(Compared(ZERO_SHOT, "zero_shot_top1"))
    return _with_and_without(study, compared)


def _pairs(study: Study) -> list[tuple[Condition, Condition]]:
    """Comparisons of two models as training left them, by data set; none that was made from another model here."""
    found = []
    for dataset in study.datasets:
        ran = {c.model: c for c in study.baselines if c.dataset == dataset and _trained(study, c.model)}
        for comparison in study.plan.comparisons:
            a, b = ran.get(comparison.a.model), ran.get(comparison.b.model)
            if a and b and {comparison.a.intervention, comparison.b.intervention} == {BASELINE}:
                found.append((a, b))
    return found


def _trained(study: Study, model: str) -> bool:
    return study.is_natural(model) and model not in study.plan.resized


def _with_and_without(study: Study, compared: list[Compared]) -> Table:
    """A row per pair and measure: without registers, with them, and the paired difference."""
    columns = [
        MODEL,
        Column("without_label", "Against"),
        Column("measure", "Measure"),
        Column("without", "Without"),
        Column("with", "With"),
        Column("change", "Change", signed=True, p=True),
    ]
    keys = ("dataset", "model", "reference")
    table = Table(columns, keys, empty="this study compares no model with registers with one without")
    for a, b in _pairs(study):
        for i, each in enumerate(compared):
            row: dict[str, Cell] = {"dataset": a.dataset, "model": a.model, "reference": b.model}
            row |= {"model_label": study.model_label(a) if i == 0 else "", "measure": each.shown.title}
            row["without_label"] = study.model_label(b) if i == 0 else ""
            metric, where = each.shown.metric, dict(each.shown.where)
            assert metric is not None
            for side, condition in (("without", b), ("with", a)):
                row[side] = replace(study.estimate(condition, metric, **where), n=None)  # the difference says it
            row["change"] = study.estimate(a, each.by_image, against=b, **where)
            table.add(row, rule=i == 0)
    return table
