"""Rows of tables: the columns that several tables share, and the cells of one condition."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from vit_registers.params.condition import BASELINE
from vit_registers.views.study import Condition, Estimate, Study
from vit_registers.views.table import Cell, Column, Table

KEYS = ("dataset", "model", "condition")
MODEL = Column("model_label", "Model")
CONDITION = Column("condition_label", "Condition")
# Numbers of other experiments that several tables show beside their own.
TOP1_CLS = Column("top1_cls", "Top-1 (%), [CLS]", "top1", {"feature": "cls", "head": "refitted"})
TOP1_PATCHES = Column("top1_patch_mean", "Top-1 (%), mean patch", "top1", {"feature": "patch_mean", "head": "refitted"})
KNN = Column("knn_cls", "kNN (%), [CLS]", "top1", {"feature": "cls", "head": "knn"})
CORLOC = Column("corloc", "CorLoc (%)", "corloc", {"head": "lost"})


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
    """All conditions of the models that these columns were measured on, a thin rule between models."""
    for condition in study.planned:
        first = condition.name == BASELINE
        row = row_of(study, condition, table.columns, first)
        if tells(row):
            table.add(row, rule=first)
    return table


def tells(row: Mapping[str, Cell]) -> bool:
    """Whether a row has a number, or says why it has none: an experiment need not run on every model."""
    return any(isinstance(cell, Estimate) and (cell.value is not None or cell.note) for cell in row.values())
