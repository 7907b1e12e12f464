"""Tables of token statistics: where artifacts stand, and registers that look at different regions."""

from dataclasses import replace

from vit_registers.views.columns import CONDITION, KEYS, MODEL, row_of
from vit_registers.views.study import NONE_FOUND, Estimate, Study, estimate
from vit_registers.views.table import Column, Table

GIVEN = {"registers": "Registers (%)", "appended": "Appended tokens (%)", "artifacts": "Artifacts (%)"}
LOOK = "Attention on the object (%)"
SPREAD = "Spread over registers (points)"


def attention_shares(study: Study) -> Table:
    """What [CLS] attends to beside patches and itself, and what uniform attention would give to it.

    A condition without any of these tokens has no row.
    """
    of_cls = {"group": "cls"}
    columns = [
        MODEL,
        CONDITION,
        *(
            column
            for target, heading in GIVEN.items()
            for column in (
                Column(f"to_{target}", "Here", "attention", {**of_cls, "target": target}, group=heading),
                Column(
                    f"uniform_{target}", "Uniform", "attention_uniform", {**of_cls, "target": target}, group=heading
                ),
            )
        ),
        Column(
            "artifacts_in_reference",
            "Made from",
            "attention_in_reference",
            {**of_cls, "target": "artifacts"},
            group=GIVEN["artifacts"],
        ),
    ]
    empty = "no model of this study has registers, appended tokens or artifacts that a [CLS] could attend to"
    table = Table(columns, KEYS, empty=empty, heading=MODEL.key)
    named = set()
    for condition in study.planned:
        row = row_of(study, condition, columns)
        for target in GIVEN:  # what there is none of gets nothing
            uniform = row[f"uniform_{target}"]
            if not (isinstance(uniform, Estimate) and uniform.value):
                row[f"to_{target}"] = row[f"uniform_{target}"] = Estimate(None)
            else:
                row[f"uniform_{target}"] = replace(uniform, n=None, low=None, high=None)
        if all(cell.value is None for cell in row.values() if isinstance(cell, Estimate)):
            continue
        first = (condition.dataset, condition.model) not in named
        named.add((condition.dataset, condition.model))
        table.add(row if first else row | {"model_label": ""}, rule=first)
    return table


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
        Column("object_area", "Object", "object_area", interval=False, group="Patches (%)"),
        Column("object_cls", "[CLS]", "object_attention", {"group": "cls"}, interval=False, group=LOOK),
        Column("least", "Least", group=LOOK, interval=False),
        Column("most", "Most", group=LOOK, interval=False),
        Column("object_spread", "Own image", "object_spread", decimals=2, group=SPREAD),
        Column(
            "object_spread_next_image",
            "Next image",
            "object_spread_next_image",
            decimals=2,
            interval=False,
            group=SPREAD,
        ),
        Column("object_spread_difference", "Difference", decimals=2, signed=True, p=True, group=SPREAD),
        Column("winning", "Winning", "winning_registers", interval=False),
        Column("register_cosine", "Cosine", "register_cosine", interval=False),
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
