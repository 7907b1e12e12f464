"""Token ablation: what [CLS], registers and random patches are needed for, task by task (parodi2026).

Nothing is measured here: rows are those of classification, retrieval, correspondence, dense prediction and object
discovery.
"""

from vit_registers.pipeline.experiment import Experiment, Figure, Table

SHOWN = ("top1", "recall_at_1", "correspondence", "miou", "corloc")
EXPERIMENT = Experiment(
    title="Token ablation",
    order=60,
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
)
