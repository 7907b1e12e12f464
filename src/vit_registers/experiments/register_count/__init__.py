"""Number of registers: models that were trained with some beside models that were trained with none.

Nothing is measured here: rows are those of classification, object discovery, dense prediction and token statistics.
"""

from vit_registers.pipeline.experiment import Experiment, Figure, Table

EXPERIMENT = Experiment(
    title="Number of trained registers",
    order=80,
    tables=(
        Table(
            name="register_count",
            draw="tables:register_count",
            shows=("top1", "corloc", "register_cosine", "cls_register_cosine"),
            caption="Models by number of trained registers, as they are; a row is one training, and no evidence about "
            "registers. CorLoc and attention on {{ dense_images }}; cosines are those of attention maps over the "
            "patches at the last block, of all pairs of registers and of [CLS] with each. {{ estimates }}",
            when="trained",
            stacked=True,
        ),
        Table(
            name="lost_registers",
            draw="tables:lost_registers",
            shows=("corloc",),
            differences=True,
            caption="Object discovery without and with registers. Of one training each there is no p; of several with "
            "common draws, interval and p are over trainings and images. {{ estimates }}",
            size="footnotesize",
        ),
        Table(
            name="downstream_registers",
            draw="tables:downstream_registers",
            shows=("top1", "miou", "rmse", "zero_shot_top1"),
            differences=True,
            caption="Classification, segmentation and depth without and with registers. Of one training each there is "
            "no p; of several with common draws, interval and p are over trainings and images. {{ estimates }}",
            size="footnotesize",
            stacked=True,
        ),
    ),
    figures=(
        Figure(
            name="register_count",
            place="body",
            draw="figures:register_count",
            shows=("top1", "corloc", "miou", "rmse"),
            caption="Tasks by number of trained registers, with the {{ interval }} over test images: accuracy on "
            "[CLS], CorLoc, and segmentation and depth by linear heads on patches. Each panel has its own scale, "
            "which does not begin at zero. A point is one training.",
            when="trained",
        ),
    ),
)
