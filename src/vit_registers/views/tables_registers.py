"""Tables of what trained registers change: models with them against models without, on the same images."""

from dataclasses import replace

from vit_registers.params import Comparison
from vit_registers.views.rows import CORLOC, MODEL, TOP1_CLS, WHERE
from vit_registers.views.study import Condition, Study
from vit_registers.views.table import Cell, Column, Table

MADE_HERE = ("tagged", "planted", "resized")  # from another model of the study: not trained with registers or without
KEYS = ("dataset", "model", "reference")
NOTHING = "this study compares no model with registers with one without"
# Of one image mIoU and RMSE have their own metrics, so their differences do (readouts/dense_scores.py).
PAIRED = {
    "corloc": "corloc",
    "top1_cls": "top1",
    "miou_refit": "iou",
    "rmse_refit": "squared_error",
    "zero_shot": "top1",
}


def _pairs(study: Study) -> list[tuple[Condition, Condition, Comparison]]:
    """Comparisons of two models as training left them, by data set."""
    found = []
    for dataset in study.datasets:
        ran = {f"{c.model}/{c.name}": c for c in study.baselines if c.dataset == dataset}
        for comparison in study.cfg.comparisons:
            a, b = ran.get(comparison.a), ran.get(comparison.b)
            if a is None or b is None or {study.cfg.kinds[a.model], study.cfg.kinds[b.model]} & set(MADE_HERE):
                continue
            found.append((a, b, comparison))
    return found


def _table(study: Study, measures: list[Column]) -> Table:
    """A row per pair and measure: without registers, with them, and the paired difference."""
    columns = [
        MODEL,
        Column("without_label", "Against"),
        Column("measure", "Measure"),
        Column("without", "Without"),
        Column("with", "With"),
        Column("change", "Change", signed=True, p=True),
    ]
    table = Table(columns, KEYS, empty=NOTHING)
    for a, b, comparison in _pairs(study):
        for measure in measures:
            first = measure is measures[0]
            row: dict[str, Cell] = {"dataset": a.dataset, "model": a.model, "reference": b.model}
            row |= {"model_label": study.model_label(a) if first else "", "measure": measure.title}
            row["without_label"] = study.model_label(b) if first else ""
            readout, metric = WHERE[measure.key]
            for side, condition in (("without", b), ("with", a)):
                row[side] = replace(study.estimate(condition, readout, metric), n=None)  # the difference says it
            difference = f"{PAIRED[measure.key]}_difference"
            row["change"] = study.estimate(a, readout, difference, reference=comparison.b)
            table.add(row, rule=first)
    return table


def lost_registers(study: Study) -> Table:
    """Object discovery with and without registers (Table 1 of bach2025, Table 3 of darcet2024)."""
    return _table(study, [replace(CORLOC, title="LOST, CorLoc (%)")])


def downstream_registers(study: Study) -> Table:
    """Classification, segmentation and depth with and without registers (Table 2 of darcet2024, Fig. 8)."""
    measures = [
        replace(TOP1_CLS, title="Top-1 (%), [CLS]"),
        Column("miou_refit", "Segmentation, mIoU (%)"),
        Column("rmse_refit", "Depth, RMSE"),
    ]
    if "openclip" in study.cfg.kinds.values():
        measures.append(Column("zero_shot", "Zero-shot, top-1 (%)"))
    return _table(study, measures)
