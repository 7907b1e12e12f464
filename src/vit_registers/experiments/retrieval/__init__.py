"""Retrieval: is the nearest other image of the same class? recall@1 of parodi2026, with no head to fit."""

from vit_registers.core.table import Metric
from vit_registers.experiments.retrieval.params import Config, Retrieval
from vit_registers.pipeline.experiment import Experiment, Measure, Table

EXPERIMENT = Experiment(
    title="Retrieval",
    order=47,
    params=Retrieval,
    measures=(
        Measure(
            name="retrieval",
            run="measure:run",
            config=Config,
            reads=("manifest", "conditions"),
            images=True,
            metrics=(
                Metric(
                    "recall_at_1",
                    "share",
                    "test images whose nearest other test image, by cosine, is of their class",
                    "higher",
                    "percent",
                ),
                Metric(
                    "recall_at_1_intact",
                    "share",
                    "the same among the other images in the model as it is",
                    "higher",
                    "percent",
                ),
                Metric(
                    "recall_at_1_chance",
                    "share",
                    "the same where any other test image is as likely the nearest",
                    format="percent",
                    exact="counted from the classes of the test images",
                ),
            ),
        ),
    ),
    tables=(
        Table(
            name="retrieval",
            draw="tables:retrieval",
            shows=("recall_at_1", "recall_at_1_intact"),
            caption="Recall@1: test images whose nearest other test image, by cosine, is of their class. Gallery: the "
            "other images under the same condition, or in the model as it is. {{ estimates }}",
            size="scriptsize",
            long=True,
            stacked=True,
        ),
    ),
)
