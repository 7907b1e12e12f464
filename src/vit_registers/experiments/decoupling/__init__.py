"""Decoupling: what [CLS] gets from patches and what from registers at the last block (lappe2025)."""

from vit_registers.core.table import Metric
from vit_registers.experiments.decoupling.params import Config, Decoupling, restricted
from vit_registers.pipeline.experiment import Experiment, Measure, Table

SHOWN = ("cka", "part_cosine", "one_shot_top1", "one_shot_top5")
EXPERIMENT = Experiment(
    title="Decoupling of [CLS]",
    order=62,
    params=Decoupling,
    measures=(
        Measure(
            name="decoupling",
            run="measure:run",
            config=Config,
            reads=("manifest", "conditions"),
            axes={"full": "string", "estimator": "string"},
            where=restricted,
            metrics=(
                Metric("cka", "CKA", "similarity of [CLS] of all test images to that of the full output"),
                Metric("part_cosine", "cosine", "of [CLS] of a test image to that of the full output, mean"),
                Metric(
                    "one_shot_top1",
                    "share",
                    "classes named right by the nearest of one image of each, fitted on the full output; n: episodes",
                    "higher",
                    "percent",
                ),
                Metric(
                    "one_shot_top5",
                    "share",
                    "the same among the first five, where there are fifty classes or more; n: episodes",
                    "higher",
                    "percent",
                ),
            ),
        ),
    ),
    tables=(
        Table(
            name="decoupling",
            draw="tables:decoupling",
            shows=SHOWN,
            caption="[CLS] after the last block, with its last attention restricted, against full outputs (of: the "
            "model as it is, or without the skip connection, which is what the parts over patches, registers and [CLS] "
            "add up to). CKA: linear, which is biased upwards, and unbiased. One shot: a class by the nearest of one "
            "image each on the full output, then tested on the restricted one. Of CKA the interval is that of a "
            "jackknife over images, of one shot that over episodes. {{ estimates }}",
            size="scriptsize",
            stacked=True,
        ),
    ),
)
