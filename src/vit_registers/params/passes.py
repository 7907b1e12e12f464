"""The pass over a data set: what it keeps, what calibration measures, and what is detected."""

from typing import Annotated, Literal, Self

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from vit_registers.params.base import Name, Share, Strict, Untracked

TRAIN = "train"  # the split that heads are trained on
# A sink event (fesser2026): so many of the queries give one token so much of their attention, or more.
SINK_ATTENTION, SINK_QUERIES = 0.5, 0.9


class Loading(Strict):
    """How images are made ready while the model computes; what comes out does not depend on it.

    ``workers``: threads that decode. ``ahead``: batches that are made before they are asked for; each takes the memory
    of its images.
    """

    workers: Annotated[PositiveInt, Untracked()] = 4
    ahead: Annotated[PositiveInt, Untracked()] = 2


class Extraction(Loading):
    """What the pass over a data set keeps; choosing it chooses what is computed.

    Layers are blocks, counted from 0, or from the end if negative. Arrays per token are kept of the ``dense_images``
    first images of ``dense_split`` only. Of ``train_dense_images`` of split ``train``, spread evenly over it, patch
    tokens and norms are kept of models as they are, to train probes of single tokens on. ``batch_size: auto`` takes
    what fits into ``memory_mb``. ``projections`` are patch queries, keys or values for LOST, of images at the
    ``model``'s input size or each at its ``native`` one.

    Of models as they are, ``specials_layers`` keeps [CLS] and registers at every block, and ``cls_parts`` what [CLS]
    adds up in the last: from patches, from registers, from itself, and the skip connection.

    ``pairs``: of so many of the dense images, the first that have one, the second view passes as well, if an experiment
    of the run reads it. ``sink_images``: the first dense images in whose attention sinks are looked for, which costs
    the logits of their pass a second time.

    ``frozen_only`` names interventions under which no head is refitted: of them the images of split ``train`` are not
    passed.

    ``shards``: jobs among which the batches of each pair of data set and model are shared; what they give together is
    byte for byte what one job gives.
    """

    batch_size: PositiveInt | Literal["auto"]
    memory_mb: PositiveInt
    precision: Literal["fp32", "bf16", "fp16"]
    dense_split: str
    dense_images: PositiveInt
    train_dense_images: NonNegativeInt = 0
    projections: dict[Literal["q", "k", "v"], Annotated[list[int], Field(min_length=1)]]
    projections_size: Literal["model", "native"] = "model"
    cls_blocks: NonNegativeInt = 0
    specials_layers: bool = False
    cls_parts: bool = False
    patch_layers: list[int] = Field(default=[])
    attention_heads: bool = False
    attention_columns: bool = False
    attention_maps: NonNegativeInt = 0
    neighbours: bool = False
    pairs: NonNegativeInt = 0
    sink_images: NonNegativeInt = 0
    frozen_only: list[Name] = Field(default=[])
    shards: Annotated[PositiveInt, Untracked()] = 1

    @model_validator(mode="after")
    def _what_is_needed_is_passed(self) -> Self:
        if self.frozen_only and self.dense_split == TRAIN:
            raise ValueError(
                f"frozen_only: images of split {TRAIN} are not passed, but dense_split is {TRAIN}; change one"
            )
        if self.train_dense_images and self.dense_split == TRAIN:
            raise ValueError(
                f"train_dense_images: probes must not be trained on what tests them, but dense_split is {TRAIN}; set "
                "it to 0 or take another dense_split"
            )
        return self


class Calibration(Strict):
    """At most so many ``images`` give the means and deviations that ablations draw from (parodi2026: 5,000).

    Of the first ``resample_sources`` of them the special tokens are kept whole, to be put in place of others'.
    ``sink_values``: whether the mean value of the most attended token of every head is measured, too (fesser2026:
    4,096 images).
    """

    split: str
    images: Annotated[int, Field(ge=2)]
    resample_sources: PositiveInt
    sink_values: bool = False


class Detection(Strict):
    """Outlier (high-norm) patches and register neurons (jiang2025, kukade2025).

    Both are looked for on the first ``images`` images of ``split``: on training images, or what is repaired later would
    have been chosen on the very images on which the repair is measured.

    ``threshold`` is the ratio to the median patch norm, the norm itself, the percentile of all patch norms, or how far
    two modes of the log norms are apart at least (Ashman's D, 2 as a rule), by ``threshold_rule``; but for ``absolute``
    every block has a threshold of its own. A ``percentile`` defines high-norm patches and finds no artifacts: there are
    as many of them in every model. ``outlier_layer``: the block whose output norms decide, or ``any``: the last block
    with at least half as many outliers as the block with the most, so that artifacts count that are gone at the output.

    Neurons are ranked up to ``highest_layer``, inclusive; ``arising`` is the first block whose output has artifacts,
    which leaves out neurons that merely respond to them. ``score``: mean |activation| at outliers, as published, or
    ``contribution``, the same times the norm of what the neuron writes for an activation of 1. ``sparsity`` leaves out
    neurons that are active everywhere, judged over the patches of an image or over ``all`` its tokens, as published.

    ``repeats``: how often detection is repeated, with the neurons found so far moved to one appended token, to find
    further ones (outliers2026); what is found so is for repeated test-time registers alone.
    """

    split: str
    images: PositiveInt
    threshold_rule: Literal["ratio", "absolute", "percentile", "bimodal"]
    threshold: PositiveFloat
    outlier_layer: int | Literal["any"]
    highest_layer: int | Literal["arising"]
    score: Literal["activation", "contribution"]
    top_k: PositiveInt
    minimum_share: Share
    sparsity: Literal["off", "signed", "absolute"]
    sparsity_tokens: Literal["patches", "all"]
    bootstrap: PositiveInt
    repeats: NonNegativeInt = 0

    @property
    def finds(self) -> bool:
        """Whether the rule can find artifacts, or defines what is high."""
        return self.threshold_rule != "percentile"

    @model_validator(mode="after")
    def _percentile_defines(self) -> Self:
        if self.finds:
            return self
        if self.threshold >= 100:
            raise ValueError(f"threshold: a percentile must be below 100, got {self.threshold}")
        if self.outlier_layer == "any":
            raise ValueError(
                "outlier_layer: any block has as many patches above its percentile as any other; name the block, or "
                "take another threshold_rule"
            )
        return self
