"""Rows of tables: the columns that several tables share, and the cells of one condition."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from vit_registers.views.study import Condition, Study
from vit_registers.views.table import Cell, Column, Table

KEYS = ("dataset", "model", "condition")
MODEL = Column("model_label", "Model")
CONDITION = Column("condition_label", "Condition")


def shown(column: Column, title: str, **changes: Any) -> Column:
    """The same column under another title."""
    return replace(column, title=title, **changes)


def row_of(study: Study, condition: Condition, columns: Iterable[Column], first: bool = True) -> dict[str, Cell]:
    """Keys, labels and what was measured of one condition; the model's name only where ``first``."""
    row: dict[str, Cell] = {"dataset": condition.dataset, "model": condition.model, "condition": condition.name}
    row["model_label"] = study.model_label(condition) if first else ""
    row["condition_label"] = study.conditions[condition.name]
    for column in columns:
        if column.metric is not None:
            row[column.key] = study.estimate(condition, column.metric, **_axes(column.where))
    return row


def difference(study: Study, condition: Condition, against: Condition, column: Column) -> Cell:
    """The paired difference of what a column shows from another condition."""
    assert column.metric is not None
    return study.estimate(condition, column.metric, against=against, **_axes(column.where))


def _axes(where: Mapping[str, Any]) -> dict[str, Any]:
    return dict(where)


def by_condition(study: Study, table: Table) -> Table:
    """All conditions of all models, a thin rule between models."""
    for condition in study.planned:
        first = condition in study.baselines
        table.add(row_of(study, condition, table.columns, first), rule=first)
    return table
