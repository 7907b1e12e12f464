"""The table of what registers cost."""

from dataclasses import replace

import pandas as pd

from vit_registers.views.study import Study, estimate
from vit_registers.views.table import Cell, Column, Table

METRICS = {
    "architecture_parameters": Column("parameters", "Parameters", alignment="r"),
    "architecture_parameters_increase": Column("parameters_increase", "Increase (%)", alignment="r", decimals=3),
    "flops": Column("flops", "GFLOP", alignment="r"),
    "flops_increase": Column("flops_increase", "Increase (%)", alignment="r", decimals=2),
}


def _architectures(study: Study) -> list[str]:
    """Architectures from that of the fewest parameters to that of the most."""
    plain = study.metric_rows("architecture_parameters", registers=0)
    return list(plain.sort_values(["value", "architecture"])["architecture"])


def register_cost(study: Study) -> Table:
    """Parameters and operations of one image, by architecture and number of registers; counted, not measured."""
    head = [Column("architecture", "Architecture"), Column("input", "Input", alignment="r")]
    columns = [*head, Column("registers", "Registers", alignment="r"), *METRICS.values()]
    table = Table(columns, empty="nothing was counted")
    for architecture in _architectures(study):
        mine = study.rows[study.rows["architecture"] == architecture]
        for i, registers in enumerate(sorted(set(mine["registers"]))):
            rows = mine[mine["registers"] == registers]
            row: dict[str, Cell] = {"architecture": "", "input": "", "registers": int(registers)}
            if i == 0:
                row |= {"architecture": architecture, "input": _size(rows.iloc[0])}
            for metric, column in METRICS.items():
                row[column.key] = replace(estimate(rows[rows["metric"] == metric].iloc[0]), n=None)
            table.add(row, rule=i == 0)
    return table


def _size(row: "pd.Series[int]") -> str:
    return f"{row['image_height']}x{row['image_width']}"
