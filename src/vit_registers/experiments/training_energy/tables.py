"""The table of energy and carbon."""

from dataclasses import replace

import pandas as pd

from vit_registers.views.study import Study, estimate
from vit_registers.views.table import Cell, Column, Table

COLUMNS = [
    Column("processor_hours", "Processor hours", alignment="r"),
    Column("processor_watts", "W each", alignment="r"),
    Column("energy", "By its factors", alignment="r", group="Energy (kWh)"),
    Column("energy_listed", "Listed", alignment="r", group="Energy (kWh)"),
    Column("energy_error", "Error (%)", alignment="r", group="Energy (kWh)"),
    Column("pue_implied", "PUE implied", alignment="r"),
    Column("carbon", "Here", alignment="r", group="CO2 (kg)"),
    Column("carbon_listed", "Listed", alignment="r", group="CO2 (kg)"),
    Column("intensity_implied", "kg per kWh implied", alignment="r", printed=False),
    Column("intensity_implied_by_listed", "kg per kWh implied by listed energy", alignment="r", printed=False),
]


def training_energy(study: Study) -> Table:
    """Energy of every training here from the time it took, and of published ones from their own factors."""
    columns = [Column("training", "Training"), *COLUMNS]
    table = Table(columns, ("model", "paper"), empty="this study trained nothing and lists nothing published")
    hours = study.metric_rows("processor_hours")
    for model in (name for name in study.trained if (hours["model"] == name).any()):
        row: dict[str, Cell] = {"model": model, "training": study.models[model]}
        table.add(row | _cells(study.rows[study.rows["model"] == model]))
    for paper in sorted(hours["paper"].dropna()):
        row = {"paper": str(paper), "training": f"{paper}, as published"}
        table.add(row | _cells(study.rows[study.rows["paper"] == paper]))
    return table


def _cells(rows: pd.DataFrame) -> dict[str, Cell]:
    """What there is of each column, which is called as its metric."""
    found = {column.key: rows[rows["metric"] == column.key] for column in COLUMNS}
    return {name: replace(estimate(mine.iloc[0]), n=None) for name, mine in found.items() if len(mine)}
