"""The table of parts against full outputs."""

from vit_registers.views.columns import CONDITION, KEYS, MODEL, tells
from vit_registers.views.study import Condition, Study
from vit_registers.views.table import Cell, Column, Table

CKA = "CKA"
COLUMNS = (
    Column("cka", "Linear", "cka", {"estimator": "linear"}, group=CKA),
    Column("unbiased_cka", "Unbiased", "cka", {"estimator": "unbiased"}, group=CKA),
    Column("cosine", "Cosine", "part_cosine"),
    Column("one_shot", "One shot, top-1 (%)", "one_shot_top1"),
)
WIDE = Column("one_shot_top5", "One shot, top-5 (%)", "one_shot_top5")


def decoupling(study: Study) -> Table:
    """Every part of every model against each full output; the full output itself in one shot."""
    columns = [MODEL, CONDITION, Column("full", "Of"), *COLUMNS]
    if len(study.metric_rows("one_shot_top5")):
        columns.append(WIDE)
    table = Table(columns, (*KEYS, "full_condition"), empty="no attention of [CLS] was restricted in this study")
    for before in study.baselines:
        first = True
        mine = study.of(before.dataset, before.model)
        for full in mine:
            for condition in [full, *(c for c in mine if c != full)]:
                row = _row(study, condition, full.name, columns)
                if tells(row):
                    row |= {"model_label": study.model_label(before) if first else ""}
                    table.add(row, rule=first)
                    first = False
    return table


def _row(study: Study, condition: Condition, full: str, columns: list[Column]) -> dict[str, Cell]:
    """What was measured of a condition against a full output; nothing where that is none."""
    row: dict[str, Cell] = {"dataset": condition.dataset, "model": condition.model, "condition": condition.name}
    row |= {"full_condition": full, "full": study.conditions[full], "condition_label": study.conditions[condition.name]}
    for column in columns:
        rows = study.rows_of(condition, column.metric, full=full) if column.metric else None
        if column.metric is not None and rows is not None and len(rows):
            row[column.key] = study.estimate(condition, column.metric, full=full, **dict(column.where))
    return row
