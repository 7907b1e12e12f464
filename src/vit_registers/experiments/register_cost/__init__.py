"""Cost of registers: parameters and operations of one image by their number (Fig. 12 of darcet2024)."""

from vit_registers.core.table import Metric
from vit_registers.experiments.register_cost.params import Config, RegisterCost
from vit_registers.pipeline.experiment import Experiment, Measure, Table

COUNTED = "counted: nothing is estimated"
OVER_NONE = "over the same architecture without registers"
METRICS = (
    Metric("architecture_parameters", "parameters", "parameters without head", format="whole", exact=COUNTED),
    Metric(
        "architecture_parameters_increase",
        "share",
        f"increase of parameters {OVER_NONE}",
        "lower",
        "percent",
        exact=COUNTED,
    ),
    Metric("flops", "GFLOP", "operations of one image; a multiplication and an addition are two", exact=COUNTED),
    Metric("flops_increase", "share", f"increase of operations {OVER_NONE}", "lower", "percent", exact=COUNTED),
    Metric("architecture_patches", "patches", "patches of the input", format="whole", exact=COUNTED),
)
EXPERIMENT = Experiment(
    title="Cost of registers",
    order=90,
    params=RegisterCost,
    measures=(
        Measure(
            name="register_cost",
            run="measure:run",
            config=Config,
            reads=(),
            per=(),
            axes={"architecture": "string", "image_height": "Int64", "image_width": "Int64"},
            metrics=METRICS,
        ),
    ),
    tables=(
        Table(
            name="register_cost",
            draw="tables:register_cost",
            shows=tuple(metric.name for metric in METRICS),
            caption="Parameters (without head) and floating-point operations of one image, by number of registers, "
            "with the increase over none; a multiplication and an addition are two operations. Counted by torch's "
            "FlopCounterMode in timm's architectures.",
            size="footnotesize",
        ),
    ),
)
