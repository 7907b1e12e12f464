"""The table of what registers cost."""

from dataclasses import replace

from vit_registers.views.study import Condition, Study
from vit_registers.views.table import Cell, Column, Table


def register_cost(study: Study) -> Table:
    """Parameters and operations of one image, by architecture and number of registers; counted, not measured."""
    columns = [
        Column("architecture", "Architecture"),
        Column("input", "Input", "r"),
        Column("registers", "Registers", "r"),
        Column("parameters", "Parameters", "r"),
        Column("parameters_increase", "Increase (%)", "r", decimals=3),
        Column("flops", "GFLOP", "r"),
        Column("flops_increase", "Increase (%)", "r", decimals=2),
    ]
    table = Table(columns, empty="nothing was counted")
    rows = study.rows[study.rows["readout"] == "cost"]
    seen: set[tuple[str, str]] = set()
    for model in dict.fromkeys(study.cfg.costs):
        mine = rows[rows["model"] == model]
        counts = sorted(set(mine["intervention"].str.removesuffix(" registers").astype(int)))
        for number in counts:
            condition = Condition(str(mine["dataset"].iloc[0]), model, f"{number} registers")
            first = (model, condition.dataset) not in seen
            seen.add((model, condition.dataset))
            row: dict[str, Cell] = {"architecture": model if first else "", "registers": number}
            row["input"] = condition.dataset if first else ""
            for column in columns[3:]:
                row[column.key] = replace(study.estimate(condition, "cost", column.key), n=None)
            table.add(row, rule=first)
    return table
