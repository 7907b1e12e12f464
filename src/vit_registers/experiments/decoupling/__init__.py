"""Decoupling: what [CLS] gets from patches and what from registers at the last block (lappe2025)."""

from vit_registers.core.table import Metric
from vit_registers.experiments.decoupling.params import Config, Decoupling, ImagesConfig
from vit_registers.pipeline.experiment import Experiment, Figure, Measure, Table

SHOWN = ("cka", "part_cosine", "one_shot_top1", "one_shot_top5")
INTERVALS = (
    "Of CKA and of shares of the Gram matrix the interval is that of a jackknife over images, of one shot that over "
    "episodes. "
)
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
            axes={"part": "string", "full": "string", "estimator": "string"},
            metrics=(
                Metric("cka", "CKA", "similarity of a part of [CLS] of all test images to the full output"),
                Metric("part_cosine", "cosine", "of a part of [CLS] of a test image to the full output, mean"),
                Metric("part_norm", "L2 norm", "of a part of [CLS] of a test image, mean"),
                Metric("part_norm_ratio", "ratio", "of that norm to that of the full output, mean"),
                Metric(
                    "gram_share",
                    "share",
                    "of the Gram matrix of the full output, that of a part alone, or of all pairs of different parts",
                    format="percent",
                ),
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
        Measure(
            name="image_dependence",
            run="image_dependence:run",
            config=ImagesConfig,
            reads=("manifest", "baseline"),
            arrays=True,
            axes={"state": "string"},
            metrics=(
                Metric(
                    "register_share",
                    "share",
                    "of the attention that [CLS] gives to registers and patches at the last block, that on registers",
                    format="percent",
                ),
                Metric(
                    "register_share_sd",
                    "share",
                    "standard deviation of register_share over images",
                    format="percent",
                    exact="describes the images; register_share has an interval",
                ),
                Metric(
                    "register_share_uniform",
                    "share",
                    "of registers among registers and patches",
                    format="percent",
                    exact="counted from the tokens",
                ),
                Metric(
                    "pairwise_cosine",
                    "cosine",
                    "of a token of one image to that of another where the last block takes it, mean over pairs: raw, "
                    "after the norm in front of the attention, or less its mean over images",
                ),
                Metric(
                    "largest_dimensions",
                    "share",
                    "of the squared norm of a token, that in the dimensions with the largest mean",
                    format="percent",
                ),
                Metric(
                    "longest_register",
                    "share",
                    "images in which the register is the longest of all where the last block takes them",
                    format="percent",
                ),
                Metric("longest_register_ratio", "ratio", "norm of that register to the mean of all other tokens"),
                Metric("cls_cosine_to_last", "cosine", "of [CLS] leaving a block to that leaving the last, mean"),
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
            "image each on the full output, then tested on the restricted one. " + INTERVALS + "{{ estimates }}",
            size="scriptsize",
            stacked=True,
        ),
        Table(
            name="decoupling_parts",
            draw="tables:parts",
            shows=("cka", "part_cosine", "part_norm", "part_norm_ratio", "gram_share", *SHOWN[2:]),
            caption="Parts of [CLS] after the attention of the last block, before its MLP, in models as they are: sums "
            "over patches, over registers and over [CLS] itself, and the skip connection. Of: the attention output, or "
            "that with the skip. Norm: mean L2 norm; over that of the full output in the CSV. Gram: share of the full "
            "output's Gram matrix; those of the parts and of the cross terms between them add up to 100 %. "
            + INTERVALS
            + "{{ estimates }}",
            size="scriptsize",
            long=True,
            stacked=True,
        ),
        Table(
            name="image_dependence",
            draw="tables:image_dependence",
            shows=("longest_register", "longest_register_ratio", "pairwise_cosine", "largest_dimensions"),
            caption="How much [CLS] and registers of models as they are depend on the image, where the last block "
            "takes them. Longest: share of images in which a register is the longest, and for the one that most often "
            "is, its norm over the mean of all other tokens. Pairwise cosine: of two images, of the raw token, "
            "after the norm in front of the attention, and of the raw token less its mean over images. Largest: "
            "share of the squared norm in the {{ settings.largest_dimensions }} dimensions with the largest "
            "mean. Of cosines the interval is that of a jackknife over images. {{ estimates }}",
            size="scriptsize",
            long=True,
            stacked=True,
        ),
        Table(
            name="attention_split",
            draw="tables:attention_split",
            shows=("register_share", "register_share_sd", "register_share_uniform", "parameters"),
            caption="Of the attention that [CLS] gives to registers and patches at the last block, the share on "
            "registers, on {{ dense_images }}: mean and standard deviation over images, and what it would be if all "
            "got the same. What [CLS] gives to itself is left out. {{ estimates }}",
            when="trained",
        ),
    ),
    figures=(
        Figure(
            name="attention_split",
            draw="figures:attention_split",
            arrays=("image_dependence",),
            shows=("register_share", "register_share_uniform", "parameters"),
            caption="Of the attention that [CLS] gives to registers and patches at the last block, the share on "
            "registers, image by image, on {{ dense_images }}; models by number of parameters. Dashed: the share if "
            "all tokens got the same.",
            when="trained",
        ),
        Figure(
            name="cls_and_skip",
            draw="figures:cls_and_skip",
            shows=("cls_cosine_to_last", "part_norm"),
            caption="Left: cosine of [CLS] leaving each block to that leaving the last, models as they are, mean over "
            "the test images with its interval. Right: what [CLS] takes from patches at the last block against what "
            "the skip connection brings, mean L2 norms; on the line both are as long.",
        ),
        Figure(
            name="largest_dimensions",
            draw="figures:largest_dimensions",
            arrays=("image_dependence",),
            shows=("longest_register",),
            caption="The dimensions with the largest mean of the register that is most often the longest, where the "
            "last block takes it, before and after the norm in front of the attention; mean over the test images. "
            "Over the largest of them before.",
            when="trained",
        ),
    ),
)
