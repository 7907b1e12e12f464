"""The step that accounts for energy and carbon of trainings (Appendix E of bach2025).

Hours are those that the trainings took here, so this is the one readout that is not the same again on one machine.
Beside them stands the arithmetic of published tables: what their own factors give, and what they list.
"""

from pathlib import Path

from vit_registers.core import table as metrics
from vit_registers.core.files import read_json
from vit_registers.core.table import Metric
from vit_registers.params import PublishedEnergy
from vit_registers.pipeline.configs import EnergyStep


def kwh(processors: int, hours: float, watts: float, pue: float) -> float:
    """Energy in kWh that a place with this ``pue`` takes for ``processors`` of so many ``watts``."""
    return processors * hours * watts / 1000.0 * pue


def run(cfg: EnergyStep, models: Path, out: Path) -> None:
    """Write rows of the tidy table to ``out`` from the time.json of every training below ``models``."""
    assumed, rows = cfg.energy, []
    for name in cfg.models:
        took = read_json(models / name / "time.json")
        card = read_json(models / name / "model.json")["training"]
        hours = took["seconds"] / 3600.0
        energy = kwh(took["processes"], hours, assumed.watts, assumed.pue)
        values = {
            "hours": (hours, "h"),
            "processor_hours": (took["processes"] * hours, "h"),
            "energy": (energy, "kWh"),
            "carbon": (energy * assumed.kg_per_kwh, "kg CO2 equivalent"),
        }
        rows += [
            Metric(name, card["dataset"], "training", "energy", metric, value, unit, card["steps"])
            for metric, (value, unit) in values.items()
        ]
    for name, listed in assumed.published.items():
        rows += _published(name, listed)
    metrics.write(metrics.frame(rows), out)


def _published(name: str, listed: PublishedEnergy) -> list[Metric]:
    """What the factors of a published table give, what it lists, and what the listed numbers imply."""
    energy = kwh(listed.processors, listed.hours, listed.watts, listed.pue)
    values = {
        "hours": (listed.hours, "h"),
        "processor_hours": (listed.processors * listed.hours, "h"),
        "energy": (energy, "kWh"),
        "energy_listed": (listed.kwh, "kWh"),
        "energy_error": (listed.kwh / energy - 1.0, "fraction"),
        "pue_implied": (listed.pue * listed.kwh / energy, "ratio"),
        "carbon_listed": (listed.kg, "kg CO2 equivalent"),
        "intensity_implied": (listed.kg / energy, "kg per kWh"),
        "intensity_implied_by_listed": (listed.kg / listed.kwh, "kg per kWh"),
    }
    return [
        Metric(name, "as published", "training", "energy", metric, value, unit, 1)
        for metric, (value, unit) in values.items()
    ]
