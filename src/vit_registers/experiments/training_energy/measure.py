"""Energy and carbon of trainings (Appendix E of bach2025).

Hours are those that the trainings took here, so this is the one measure that does not repeat itself on one machine.
Beside them stands the arithmetic of published tables: what their own factors give, and what they list.
"""

from vit_registers.core.doors import read_json
from vit_registers.core.errors import InputError
from vit_registers.experiments.job import Job
from vit_registers.experiments.training_energy.params import Config, PublishedEnergy


def kwh(processors: int, hours: float, watts: float, pue: float) -> float:
    """Energy in kWh that a place with this ``pue`` takes for ``processors`` of so many ``watts``."""
    return processors * hours * watts / 1000.0 * pue


def run(cfg: Config, job: Job) -> None:
    """Fill rows of every training, from the time that it took and the device it took it on, and of published tables.

    :class:`InputError` where params have no power for a device.
    """
    assumed = cfg.settings
    for name in cfg.models:
        took = read_json(job.models / name / "time.json", "seconds", "processes", "device")
        training = read_json(job.models / name / "model.json", "training")["training"]
        hours = took["seconds"] / 3600.0
        watts = _watts(cfg, name, took["device"])
        energy = kwh(took["processes"], hours, watts, assumed.pue)
        values = {
            "processor_watts": watts,
            "training_hours": hours,
            "processor_hours": took["processes"] * hours,
            "energy": energy,
            "carbon": energy * assumed.kg_per_kwh,
        }
        for metric, value in values.items():
            dataset, steps = training["dataset"], training["steps"]
            job.rows.add(metric, value, steps, dataset=dataset, model=name, group="measured")
    for paper, listed in assumed.published.items():
        for metric, value in _published(listed).items():
            job.rows.add(metric, value, 1, paper=paper, group="published")


def _watts(cfg: Config, model: str, device: str) -> float:
    """Power of the device that trained a model."""
    for known, watts in cfg.settings.watts.items():
        if known == device:
            return watts
    raise InputError(
        f"experiments.training_energy.watts: '{model}' was trained on '{device}', whose power is not given; add "
        f"'{device}: <watts>'"
    )


def _published(listed: PublishedEnergy) -> dict[str, float]:
    """What the factors of a published table give, what it lists, and what the listed numbers imply, by metric."""
    energy = kwh(listed.processors, listed.hours, listed.watts, listed.pue)
    return {
        "training_hours": listed.hours,
        "processor_hours": listed.processors * listed.hours,
        "processor_watts": listed.watts,
        "energy": energy,
        "energy_listed": listed.kwh,
        "energy_error": listed.kwh / energy - 1.0,
        "pue_implied": listed.pue * listed.kwh / energy,
        "carbon_listed": listed.kg,
        "intensity_implied": listed.kg / energy,
        "intensity_implied_by_listed": listed.kg / listed.kwh,
    }
