"""Comparisons: paired differences between conditions, for every measure that keeps values by image."""

from vit_registers.core.table import Metric
from vit_registers.experiments.comparisons.params import Comparisons, Config
from vit_registers.pipeline.experiment import Experiment, Measure, Table

EXPERIMENT = Experiment(
    title="Comparisons",
    order=35,
    params=Comparisons,
    measures=(
        Measure(
            name="comparisons",
            run="measure:run",
            config=Config,
            reads=("images",),
            per=("dataset",),
            axes={"family": "string", "of": "string", "verdict": "string"},
            # Differences are rows of the metrics compared; of which metric these are says the axis ``of``, and what the
            # tests of difference and of equivalence say together the axis ``verdict``.
            metrics=(
                Metric("difference", "", "stands for all metrics where conditions could not be compared"),
                Metric(
                    "equivalent",
                    "yes: 1, no: 0",
                    "whether a difference is shown to be within the margin of its metric (TOST), which the note says",
                    format="whole",
                ),
                Metric(
                    "repaired_share",
                    "share",
                    "difference from before over that of the control from before: 0 nothing is repaired, 1 all",
                    format="percent",
                ),
            ),
        ),
    ),
    tables=(
        Table(
            name="comparisons",
            draw="tables:comparisons",
            differences=True,
            caption="Paired differences over the same test images, of shares in points. Brackets hold the "
            "{{ interval }}; p is adjusted by Holm's method for all tests of the family of questions, those of other "
            "metrics, features and heads in all_comparisons.csv included. Frozen heads were fitted to the model as it "
            "is and meet the condition unprepared; refitted ones were fitted to it. Verdict: differs, or the same: "
            "shown to be within a margin that was stated beforehand "
            "({% for name, margin in settings.margins.items() %}{{ name | replace('_', ' ') "
            "}} {{ margin }}{{ '; ' if not loop.last }}{% endfor %}), both adjusted; open: neither. Repaired: share of "
            "the damage, none where there may be no damage. Where one training is compared with another there is no "
            "p: the interval knows nothing of the luck of a training.",
            size="scriptsize",
            long=True,
            when="compared",
        ),
        Table(
            name="all_comparisons",
            draw="tables:all_comparisons",
            differences=True,
            caption="Paired differences of every metric, feature and head over the same test images, with p before and "
            "after Holm's adjustment, verdicts and repaired shares.",
            printed=False,
        ),
    ),
)
