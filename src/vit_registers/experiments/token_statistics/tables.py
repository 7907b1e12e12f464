"""The table of registers that look at different regions."""

import pandas as pd

from vit_registers.views.rows import KEYS, MODEL, row_of
from vit_registers.views.study import Condition, Study
from vit_registers.views.table import Column, Table

LOOK = "Attention on the object (%)"
SPREAD = "Spread over registers (points)"


def _by_share(study: Study, condition: Condition) -> list[str]:
    """Registers, as the readout counts them, by the share of their attention that is on the object."""
    rows = study.measured_rows(condition)
    rows = rows[(rows["readout"] == "slots") & rows["metric"].str.fullmatch(r"object_attention\[\d+\]")]
    ordered: pd.Series = rows.sort_values("value")["metric"]
    return [metric.removeprefix("object_attention[").removesuffix("]") for metric in ordered]


def register_slots(study: Study) -> Table:
    """Whether registers look at different regions: every model with registers as it is, at the last block.

    Least and most: of the registers' means over images, so they were chosen; which ones they are is in the CSV.
    """
    columns = [
        MODEL,
        Column("registers", "Registers", printed=False),  # the name of the model says it
        Column("object_area", "Object (%)"),
        Column("object_cls", "[CLS]", group=LOOK),
        Column("least", "Least", group=LOOK),
        Column("most", "Most", group=LOOK),
        Column("object_spread", "Own image", decimals=2, group=SPREAD),
        Column("object_spread_next_image", "Next image", decimals=2, group=SPREAD),
        Column("winning", "Winning"),
        Column("register_cosine", "Cosine"),
        Column("least_register", "Least: register", printed=False),
        Column("most_register", "Most: register", printed=False),
    ]
    table = Table(columns, KEYS[:2], empty="no model of this study has registers")
    for condition in study.baselines:
        if study.estimate(condition, "slots", "winning").value is None:
            continue
        row = row_of(study, condition, columns) | {"registers": study.cfg.registers.get(condition.model)}
        order = _by_share(study, condition)
        for name, register in zip(("least", "most"), (order[0], order[-1]) if order else (), strict=False):
            row[name] = study.estimate(condition, "slots", f"object_attention[{register}]")
            row[f"{name}_register"] = int(register)
        table.add(row)
    return table
