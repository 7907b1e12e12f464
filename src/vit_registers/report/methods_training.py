"""The methods text of what trainings took."""

from vit_registers.core.prose import key, plural
from vit_registers.params import Energy


def energy(cfg: Energy) -> str:
    """Where the numbers of the table of energy come from."""
    listed = [
        f"{key(name)} lists {table.hours:g} hours on {plural(table.processors, 'processor')} of {table.watts:g}\\,W at "
        f" a PUE of {table.pue:g}, {table.kwh:g}\\,kWh and {table.kg:g}\\,kg"
        for name, table in cfg.published.items()
    ]
    published = f" {'; '.join(listed)}." if listed else ""
    return (
        rf"\paragraph{{Energy.}} Hours of the trainings as measured, processors of {cfg.watts:g}\,W, a PUE of "
        f"{cfg.pue:g} and {cfg.kg_per_kwh:g}\\,kg of CO$_2$ equivalent per kWh.{published}"
    )
