"""The table of attention sinks."""

from vit_registers.views.columns import CONDITION, KEYS, MODEL
from vit_registers.views.study import Condition, Study
from vit_registers.views.table import Cell, Column, Table

IS, HEADS = "It is (%)", "Heads with a sink (%)"
BLOCK = Column("layer", "Block", alignment="r")
COLUMNS = (
    Column("share", "Share (%)", "sink_share"),
    Column("over_median", "Over the median", "sink_over_median"),
    Column("cls", "[CLS]", "sink_token", {"group": "cls"}, group=IS),
    Column("register", "Register", "sink_token", {"group": "registers"}, group=IS),
    Column("artifacts", "Artifact", "sink_token", {"group": "artifacts"}, group=IS),
    Column("events", "All", "sink_events", {"sink_class": "all", "group": None}, group=HEADS),
    Column("no_op", "No-op", "sink_events", {"sink_class": "no-op"}, group=HEADS),
    Column("broadcast", "Broadcast", "sink_events", {"sink_class": "broadcast"}, group=HEADS),
    Column("ratio", "Ratio", "sink_ratio", printed=False),
)


def attention_sinks(study: Study) -> Table:
    """Every model under every condition: the block with the strongest sink, and the last one."""
    table = Table([MODEL, CONDITION, BLOCK, *COLUMNS], KEYS, empty="no sinks were looked for", heading=MODEL.key)
    for before in study.baselines:
        first = True
        for condition in study.of(before.dataset, before.model):
            for row in _rows(study, condition):
                table.add(row | {"model_label": study.model_label(before) if first else ""}, rule=first)
                first = False
    return table


def _rows(study: Study, condition: Condition) -> list[dict[str, Cell]]:
    """One row for each of the two blocks; one that says why there is none; no row where sinks were not looked for."""
    keys: dict[str, Cell] = {"dataset": condition.dataset, "model": condition.model, "condition": condition.name}
    keys["condition_label"] = study.conditions[condition.name]
    strongest = study.estimate(condition, "sink_layer")
    if strongest.value is None:
        absent = study.estimate(condition, "sink_share")
        return [keys | {"share": absent}] if study.has(condition, "sink_share") else []
    last = max(study.series(condition, "sink_share").index)
    rows: list[dict[str, Cell]] = []
    for layer in dict.fromkeys([int(strongest.value), int(last)]):
        cells: dict[str, Cell] = {
            column.key: study.estimate(condition, str(column.metric), layer=layer, **dict(column.where))
            for column in COLUMNS
        }
        rows.append(keys | {"condition_label": "" if rows else keys["condition_label"], "layer": layer} | cells)
    return rows
