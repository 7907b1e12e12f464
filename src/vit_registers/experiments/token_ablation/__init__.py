"""Token ablation: what [CLS], registers and random patches are needed for, task by task (parodi2026).

Tasks are measured elsewhere: rows are those of classification, retrieval, correspondence, dense prediction and object
discovery. What is measured here is whether effects of single registers add up to that of all.
"""

from vit_registers.core.table import Metric
from vit_registers.experiments.token_ablation.params import Config, TokenAblation, single
from vit_registers.pipeline.experiment import Experiment, Figure, Measure, Scene, Table

SHOWN = ("top1", "recall_at_1", "correspondence", "miou", "corloc")
EXPERIMENT = Experiment(
    title="Token ablation",
    order=60,
    params=TokenAblation,
    measures=(
        Measure(
            name="additivity",
            run="additivity:run",
            config=Config,
            reads=("baseline", "images"),
            where=single,
            axes={"of": "string"},
            # of which metric these changes are says the axis ``of``
            metrics=(
                Metric("sum_of_changes", "", "sum of the changes when single registers are replaced", format="percent"),
                Metric("joint_change", "", "change when all registers are replaced together", format="percent"),
                Metric("additivity_gap", "", "sum of the changes less the joint change", format="percent"),
            ),
        ),
    ),
    tables=(
        Table(
            name="token_ablation",
            draw="tables:token_ablation",
            shows=SHOWN,
            differences=True,
            caption="Tokens replaced at the output of every block, or of the last: a linear probe on [CLS] and linear "
            "segmentation, both fitted to the model as it is and frozen; recall@1 on [CLS]; patches that find their "
            "place in a second view; CorLoc of LOST. Change: less the model as it is, in points, where the study "
            "compares them; intervals of the values stand in the tables of the tasks. Segmentation and CorLoc on "
            "{{ dense_images }}. {{ estimates }}",
            size="scriptsize",
            long=True,
            stacked=True,
        ),
        Table(
            name="additivity",
            draw="tables:additivity",
            shows=("sum_of_changes", "joint_change", "additivity_gap"),
            caption="Do the effects of single registers add up? Change, in points, summed over the conditions in "
            "which one register is replaced, change when all are, and their difference, with p of a Wald test "
            "from the shared resamples of the images, not adjusted. Heads were fitted to the model as it is "
            "and frozen. {{ estimates }}",
            size="footnotesize",
            stacked=True,
        ),
    ),
    figures=(
        Figure(
            name="token_ablation",
            draw="figures:token_ablation",
            shows=SHOWN,
            differences=True,
            caption="Change of every task, in points, when tokens are replaced: the condition less the model as it is, "
            "with heads frozen. Empty: not measured, or not compared with the model as it is.",
        ),
    ),
    scenes=(
        Scene(
            name="ablation_map",
            draw="scenes:ablation_map",
            title="Token ablation, task by task",
            shows=SHOWN,
            differences=True,
            caption="What every task gives when tokens are replaced: the value, or the change from the model as it is, "
            "in points, heads frozen. Empty: not measured, or not compared.",
        ),
    ),
)
