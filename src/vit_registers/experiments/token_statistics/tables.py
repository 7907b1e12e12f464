"""Tables of token statistics: where artifacts stand, and registers that look at different regions."""

from dataclasses import replace

from vit_registers.views.columns import KEYS, MODEL, row_of
from vit_registers.views.study import NONE_FOUND, Study, estimate
from vit_registers.views.table import Column, Table

LOOK = "Attention on the object (%)"
SPREAD = "Spread over registers (points)"


def positions(study: Study) -> Table:
    """Where artifacts stand in every model that has some: how often at one position, and how many on the border."""
    border = Column("border_positions", "Positions there (%)", "border_positions", alignment="r")
    columns = [
        MODEL,
        Column("artifact_share", "Artifact patches (%)", "detected_artifact_share", decimals=2),
        Column("artifact_rate_max", "Most at one position (%)", "artifact_rate_max"),
        Column("place", "There"),
        Column("artifacts_on_border", "On the border (%)", "artifacts_on_border"),
        border,
    ]
    table = Table(columns, KEYS[:2], empty=NONE_FOUND)
    for condition in study.placed:
        rows = study.rows_of(condition, "artifact_rate_max")
        if rows.empty:  # its tokens were not measured
            continue
        row = row_of(study, condition, columns)
        at = rows.iloc[0].dropna()
        row["place"] = f"row {at['grid_row']}, column {at['grid_column']}" if "grid_row" in at else ""
        row[border.key] = replace(study.estimate(condition, "border_positions"), n=None)
        table.add(row)
    return table


def register_slots(study: Study) -> Table:
    """Whether registers look at different regions: every model with registers as it is, at the last block.

    Least and most: of the registers' means over images, so they were chosen; which ones they are is in the CSV.
    """
    columns = [
        MODEL,
        Column("registers", "Registers", printed=False),  # the name of the model says it
        Column("object_area", "Object (%)", "object_area"),
        Column("object_cls", "[CLS]", "object_attention", {"group": "cls"}, group=LOOK),
        Column("least", "Least", group=LOOK),
        Column("most", "Most", group=LOOK),
        Column("object_spread", "Own image", "object_spread", decimals=2, group=SPREAD),
        Column("object_spread_next_image", "Next image", "object_spread_next_image", decimals=2, group=SPREAD),
        Column("object_spread_difference", "Difference", decimals=2, signed=True, p=True, group=SPREAD),
        Column("winning", "Winning", "winning_registers"),
        Column("register_cosine", "Cosine", "register_cosine"),
        Column("least_register", "Least: register", printed=False),
        Column("most_register", "Most: register", printed=False),
    ]
    table = Table(columns, KEYS[:2], empty="no model of this study has registers")
    for condition in study.baselines:
        if study.estimate(condition, "winning_registers").value is None:
            continue
        row = row_of(study, condition, columns) | {"registers": study.plan.registers.get(condition.model)}
        row["object_spread_difference"] = study.estimate(condition, "object_spread", reference_group="next image")
        by_share = study.rows_of(condition, "object_attention", group="registers").sort_values("value")
        for name, place in (("least", 0), ("most", -1)) if len(by_share) else ():
            row[name] = estimate(by_share.iloc[place])
            row[f"{name}_register"] = int(by_share["item"].iloc[place])
        table.add(row)
    return table
