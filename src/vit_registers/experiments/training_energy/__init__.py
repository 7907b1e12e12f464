"""Energy of training: energy and carbon of the trainings, beside published tables (Appendix E of bach2025)."""

from vit_registers.core.table import Metric
from vit_registers.experiments.training_energy.params import Config, TrainingEnergy
from vit_registers.pipeline.experiment import Experiment, Measure, Table

ONCE = "of one training, or of one published list: there is no sample"
METRICS = (
    Metric("training_hours", "h", "hours that training took", exact=ONCE),
    Metric("processor_hours", "h", "hours times processors", exact=ONCE),
    Metric("processor_watts", "W", "power of a processor: assumed by device, or as a paper lists it", exact=ONCE),
    Metric("energy", "kWh", "processor hours times power and PUE", exact=ONCE),
    Metric("energy_listed", "kWh", "energy as a paper lists it", exact=ONCE),
    Metric(
        "energy_error", "share", "listed energy over that of the listed factors, less one", format="percent", exact=ONCE
    ),
    Metric("pue_implied", "ratio", "PUE at which the listed energy would be right", exact=ONCE),
    Metric("carbon", "kg CO2 equivalent", "energy times carbon intensity", exact=ONCE),
    Metric("carbon_listed", "kg CO2 equivalent", "carbon as a paper lists it", exact=ONCE),
    Metric("intensity_implied", "kg per kWh", "listed carbon over the energy of the listed factors", exact=ONCE),
    Metric("intensity_implied_by_listed", "kg per kWh", "listed carbon over listed energy", exact=ONCE),
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
