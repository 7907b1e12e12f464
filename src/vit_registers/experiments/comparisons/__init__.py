"""Comparisons: paired differences between conditions, for every measure that keeps values by image."""

from vit_registers.core.table import Metric
from vit_registers.experiments.comparisons.params import Config
from vit_registers.pipeline.experiment import Experiment, Measure, Table

EXPERIMENT = Experiment(
    title="Comparisons",
    order=35,
    measures=(
        Measure(
            name="comparisons",
            run="measure:run",
            config=Config,
            reads=("images",),
            per=("dataset",),
            # Differences are rows of the metrics compared. This one has no value, only the reason.
            metrics=(Metric("difference", "", "stands for all metrics where conditions could not be compared"),),
        ),
    ),
    tables=(
        Table(
            name="comparisons",
            draw="tables:comparisons",
            differences=True,
            caption="Paired differences over the same test images, in percentage points. Brackets hold the "
            "{{ interval }}; p is not corrected for the number of comparisons. The question says what was expected "
            "beforehand; the numbers say what happened. Differences of other metrics, features and heads are in the "
            "CSV of this table.",
            size="footnotesize",
            long=True,
            when="compared",
        ),
    ),
)
