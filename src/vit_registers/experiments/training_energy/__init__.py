"""Energy of training: energy and carbon of the trainings, beside published tables (Appendix E of bach2025)."""

from vit_registers.core.table import Metric
from vit_registers.experiments.training_energy.params import Config, TrainingEnergy
from vit_registers.pipeline.experiment import Experiment, Measure, Table

METRICS = (
    Metric("training_hours", "h", "hours that training took"),
    Metric("processor_hours", "h", "hours times processors"),
    Metric("processor_watts", "W", "power of a processor: assumed by device, or as a paper lists it"),
    Metric("energy", "kWh", "processor hours times power and PUE"),
    Metric("energy_listed", "kWh", "energy as a paper lists it"),
    Metric("energy_error", "share", "listed energy over that of the listed factors, less one", format="percent"),
    Metric("pue_implied", "ratio", "PUE at which the listed energy would be right"),
    Metric("carbon", "kg CO2 equivalent", "energy times carbon intensity"),
    Metric("carbon_listed", "kg CO2 equivalent", "carbon as a paper lists it"),
    Metric("intensity_implied", "kg per kWh", "listed carbon over the energy of the listed factors"),
    Metric("intensity_implied_by_listed", "kg per kWh", "listed carbon over listed energy"),
)
EXPERIMENT = Experiment(
    title="Energy of training",
    order=95,
    params=TrainingEnergy,
    measures=(
        Measure(
            name="training_energy",
            run="measure:run",
            config=Config,
            reads=("training",),
            per=(),
            axes={"paper": "string"},
            metrics=METRICS,
        ),
    ),
    tables=(
        Table(
            name="training_energy",
            draw="tables:training_energy",
            shows=tuple(metric.name for metric in METRICS),
            caption="Energy and carbon of trainings. Here: measured hours and assumed factors, stated in the "
            "methods. As published: the energy that the listed factors give, and the listed one.",
            size="footnotesize",
        ),
    ),
)
