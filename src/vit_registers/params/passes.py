"""The pass over a data set: what it keeps, what is done to the model meanwhile, and what is detected in it."""

from typing import Annotated, Literal, Self

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from vit_registers.params.base import Share, Strict


class Extraction(Strict):
    """What the pass over a data set keeps; choosing it chooses what is computed.

    Layers are blocks, counted from 0, or from the end if negative. Arrays per token are kept of the ``dense_images``
    first images of ``dense_split`` only. ``batch_size: auto`` takes what fits into ``memory_mb``. ``projections`` are
    patch queries, keys or values for LOST, of images at the ``model``'s input size or each at its ``native`` one.
    """

    batch_size: PositiveInt | Literal["auto"]
    memory_mb: PositiveInt
    precision: Literal["fp32", "bf16", "fp16"]
    dense_split: str
    dense_images: PositiveInt
    projections: dict[Literal["q", "k", "v"], Annotated[list[int], Field(min_length=1)]]
    projections_size: Literal["model", "native"] = "model"
    cls_blocks: NonNegativeInt = 0
    specials_layers: bool = False
    patch_layers: list[int] = Field(default=[])
    attention_heads: bool = False
    attention_columns: bool = False
    attention_maps: NonNegativeInt = 0
    neighbours: bool = False


class Calibration(Strict):
    """Images whose block outputs give the means, deviations and donors of replacements (parodi2026: 5,000)."""

    split: str
    images: Annotated[int, Field(ge=2)]
    donors: PositiveInt


class Append(Strict):
    """Zero tokens appended and nothing else touched: the control of every test-time register."""

    kind: Literal["append"]
    tokens: PositiveInt


class MoveNeurons(Strict):
    """Test-time registers (jiang2025): register neurons moved from the patches to ``tokens`` appended tokens.

    ``neurons`` says which: the first ``top_k`` that detection ``found`` (null: as many as detection takes), the first
    ``half`` of them, the ``next`` as many in the ranking, or as many at ``random`` from the same layers. ``tokens: 0``
    clears the neurons without a register.
    The switches default to what the paper describes; the published code takes ``max_over: layer`` and
    ``images: first``, as it changes the first image of a batch only.
    """

    kind: Literal["move"]
    tokens: NonNegativeInt
    neurons: Literal["found", "half", "next", "random"] = "found"
    top_k: PositiveInt | None = None
    scale: float = 1.0
    patches: Literal["zero", "mean", "only_outliers", "same"] = "zero"
    max_over: Literal["neuron", "layer"] = "neuron"
    max_includes_cls: bool = False
    clear_cls: bool = False
    images: Literal["every", "first"] = "every"


def needs_calibration(by: str, donors: str) -> bool:
    """Whether a replacement draws from calibration images."""
    return by in ("mean", "noise") or (by == "shuffled" and donors == "calibration")


class Replace(Strict):
    """Other values in place of some tokens at ``every`` block output (parodi2026), or at the ``last`` only.

    ``tokens``: [CLS]; the trained registers, or those numbered in ``only``; or ``count`` random patches per image, by
    default as many as the model has registers. ``by``: zero, the calibration mean, Gaussian noise of that mean and
    deviation, or another image's tokens (``shuffled``): of the same ``batch``, as the paper does, or of a
    ``calibration`` image, which does not depend on the batch.
    """

    kind: Literal["replace"]
    tokens: Literal["cls", "registers", "patches"]
    by: Literal["zero", "mean", "noise", "shuffled"] = "zero"
    at: Literal["every", "last"] = "every"
    only: Annotated[list[NonNegativeInt], Field(min_length=1)] | None = None
    count: PositiveInt | None = None
    donors: Literal["batch", "calibration"] = "batch"

    @model_validator(mode="after")
    def _fits_its_tokens(self) -> Self:
        if self.only is not None and self.tokens != "registers":
            raise ValueError(f"only: numbers registers, but tokens is {self.tokens}; remove it")
        if self.count is not None and self.tokens != "patches":
            raise ValueError(f"count: is of random patches, but tokens is {self.tokens}; remove it")
        return self

    @property
    def calibrated(self) -> bool:
        """Whether calibration has to come first."""
        return needs_calibration(self.by, self.donors)


class RestrictClsAttention(Strict):
    """The last layer's attention output of [CLS] sums over ``to`` only, not renormalised (lappe2025).

    ``skip`` keeps the skip connection of [CLS] around that attention; the paper leaves it out.
    """

    kind: Literal["restrict_cls_attention"]
    to: Literal["patches", "registers", "nothing"]
    skip: bool = False


Single = Annotated[Append | MoveNeurons | Replace | RestrictClsAttention, Field(discriminator="kind")]


class Chain(Strict):
    """Several interventions at once, in order; at most one may append tokens."""

    kind: Literal["chain"]
    of: Annotated[list[Single], Field(min_length=2)]


Intervention = Annotated[Append | MoveNeurons | Replace | RestrictClsAttention | Chain, Field(discriminator="kind")]


def singles(intervention: "Intervention | None") -> list[Append | MoveNeurons | Replace | RestrictClsAttention]:
    """The single interventions in order; none for the baseline."""
    if intervention is None:
        return []
    return intervention.of if isinstance(intervention, Chain) else [intervention]


class Detection(Strict):
    """Artifact tokens and register neurons (jiang2025, kukade2025).

    ``threshold`` is the ratio to the median patch norm, the norm itself, the percentile of all patch norms, or how far
    two modes of the log norms are apart at least (Ashman's D, 2 as a rule), by ``threshold_rule``.
    """

    threshold_rule: Literal["ratio", "absolute", "percentile", "bimodal"]
    threshold: PositiveFloat
    outlier_layer: int
    highest_layer: int
    top_k: PositiveInt
    images: PositiveInt
    minimum_share: Share
    sparsity: Literal["off", "signed", "absolute"]
    bootstrap: PositiveInt

    @model_validator(mode="after")
    def _percentile_below_100(self) -> "Detection":
        if self.threshold_rule == "percentile" and self.threshold >= 100:
            raise ValueError(f"threshold: a percentile must be below 100, got {self.threshold}")
        return self
