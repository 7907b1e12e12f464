"""The table of models."""

from vit_registers.views.columns import KEYS, MODEL, row_of
from vit_registers.views.study import Study
from vit_registers.views.table import Column, Table

COLUMNS = (
    MODEL,
    Column("made", "Weights"),
    Column("top1_cls", "Top-1 (%), [CLS]", "top1", {"feature": "cls", "head": "refitted"}),
    Column("top1_patch_mean", "Top-1 (%), mean patch", "top1", {"feature": "patch_mean", "head": "refitted"}),
    Column("knn_cls", "kNN (%), [CLS]", "top1", {"feature": "cls", "head": "knn"}),
    Column("corloc", "CorLoc (%)", "corloc", {"head": "lost"}),
)


def models(study: Study) -> Table:
    """Every model as it is: how it was made, classification, object discovery."""
    table = Table(COLUMNS, KEYS)
    for condition in study.baselines:
        table.add(row_of(study, condition, COLUMNS) | {"made": study.plan.made[condition.model]})
    return table
