"""The table of zero-shot classification."""

from vit_registers.views.columns import CONDITION, KEYS, MODEL, row_of
from vit_registers.views.study import Study
from vit_registers.views.table import Column, Table

COLUMNS = (
    MODEL,
    CONDITION,
    Column("zero_shot", "Top-1 (%)", "zero_shot_top1"),
    Column("zero_shot_top3", "Top-3 (%)", "zero_shot_top3"),
)


def zero_shot(study: Study) -> Table:
    """The models with a text tower under every condition."""
    table = Table(COLUMNS, KEYS, empty="no model of this study has a text tower")
    for condition in study.planned:
        if study.has(condition, "zero_shot_top1"):
            first = condition in study.baselines
            table.add(row_of(study, condition, COLUMNS, first), rule=first)
    return table
