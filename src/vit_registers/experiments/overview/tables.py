"""The table of models."""

from vit_registers.views.columns import CORLOC, KEYS, KNN, MODEL, TOP1_CLS, TOP1_PATCHES, row_of
from vit_registers.views.study import Study
from vit_registers.views.table import Column, Table

COLUMNS = (
    MODEL,
    Column("made", "Weights"),
    TOP1_CLS,
    TOP1_PATCHES,
    KNN,
    CORLOC,
)


def models(study: Study) -> Table:
    """Every model as it is: how it was made, classification, object discovery."""
    table = Table(COLUMNS, KEYS)
    for condition in study.baselines:
        table.add(row_of(study, condition, COLUMNS) | {"made": study.plan.made[condition.model]})
    return table
