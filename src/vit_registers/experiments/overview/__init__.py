"""The models of the study as they are: nothing is measured here, the table shows what others measured."""

from vit_registers.pipeline.experiment import Experiment, Table

EXPERIMENT = Experiment(
    title="Models",
    order=5,
    tables=(
        Table(
            name="models",
            draw="tables:models",
            shows=("top1", "corloc"),
            caption="The models as they are, on {{ datasets | join(' and ') }}; CorLoc on {{ dense_images }}. "
            "Accuracies of the linear probe are means over its seeds. {{ estimates }}",
            long=True,
            stacked=True,
            size="footnotesize",
        ),
    ),
)
