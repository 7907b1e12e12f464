"""The table of correspondence."""

from dataclasses import replace

from vit_registers.views.columns import CONDITION, KEYS, MODEL, by_condition, row_of
from vit_registers.views.study import Condition, Estimate, Study
from vit_registers.views.table import Cell, Column, Table

GROUP = "Second view (%)"
COLUMNS = (
    Column("correspondence", "All patches", "correspondence", {"group": None}, group=GROUP),
    Column("object", "Object", "correspondence", {"group": "object"}, group=GROUP),
    Column("background", "Background", "correspondence", {"group": "background"}, group=GROUP),
    Column("pck", "Keypoints, PCK (%)", "pck", {"group": None}),
)
BASELINES = ("pixels", "same place", "chance")


def correspondence(study: Study) -> Table:
    """What finds patches without a model, then every model under every condition."""
    measured = [c for c in COLUMNS if study.metric_rows(str(c.metric), **c.where)["value"].notna().any()]
    table = Table(
        [MODEL, CONDITION, *(measured or COLUMNS[:1])], KEYS, empty="correspondence was not measured", heading=MODEL.key
    )
    seen: list[list[Cell]] = []
    for condition in study.baselines:
        rows = [_without_a_model(study, condition, measured, name) for name in BASELINES]
        cells = [row[column.key] for row in rows for column in measured]
        known = any(isinstance(cell, Estimate) and cell.value is not None for cell in cells)
        if known and cells not in seen:  # models of one input size and patch size see the same
            seen.append(cells)
            title = f"Without a model, as {study.model_label(condition)} sees {condition.dataset}"
            for row in rows:
                table.add(row | {MODEL.key: title if row is rows[0] else ""}, rule=row is rows[0])
    return by_condition(study, table)


def _without_a_model(study: Study, condition: Condition, columns: list[Column], name: str) -> dict[str, Cell]:
    """What one baseline finds of the patches that a model is asked for."""
    there = [replace(c, metric=f"{c.metric}_baseline", where={**c.where, "baseline": name}) for c in columns]
    return row_of(study, condition, there) | {"model": "", "condition": name, CONDITION.key: name}
