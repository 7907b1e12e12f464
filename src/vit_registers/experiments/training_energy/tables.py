"""The table of energy and carbon."""

from dataclasses import replace

from vit_registers.views.study import Condition, Study, trained
from vit_registers.views.table import Cell, Column, Table


def training_energy(study: Study) -> Table:
    """Energy of every training here from the time it took, and of published ones from their own factors."""
    columns = [
        Column("training", "Training"),
        Column("processor_hours", "Processor hours", "r", decimals=3),
        Column("energy", "By its factors", "r", decimals=3, group="Energy (kWh)"),
        Column("energy_listed", "Listed", "r", group="Energy (kWh)"),
        Column("energy_error", "Error (%)", "r", group="Energy (kWh)"),
        Column("pue_implied", "PUE implied", "r", decimals=2),
        Column("carbon", "Here", "r", decimals=3, group="CO2 (kg)"),
        Column("carbon_listed", "Listed", "r", group="CO2 (kg)"),
        Column("intensity_implied", "kg per kWh implied", "r", decimals=3, printed=False),
        Column("intensity_implied_by_listed", "kg per kWh implied by listed energy", "r", decimals=3, printed=False),
    ]
    table = Table(columns, ("model",), empty="this study trained nothing and lists nothing published")
    rows = study.rows[study.rows["readout"] == "energy"]
    found = dict.fromkeys(zip(rows["dataset"], rows["model"], strict=True))
    ours = {name: place for place, name in enumerate(trained(study))}
    for dataset, model in sorted(found, key=lambda of: (ours.get(of[1], len(ours)), of)):
        condition = Condition(str(dataset), str(model), "training")
        row: dict[str, Cell] = {"model": condition.model}
        row["training"] = study.models.get(condition.model, f"{condition.model}, as published")
        for column in columns[1:]:
            row[column.key] = replace(study.estimate(condition, "energy", column.key), n=None)
        table.add(row)
    return table
