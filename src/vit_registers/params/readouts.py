"""What is measured on cached features, and how certain it is."""

from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, field_validator

from vit_registers.params.base import Share, Strict


class Probe(Strict):
    """Linear probe of kukade2025: AdamW, cosine to ``final_lr``, best epoch by validation loss."""

    features: Annotated[list[Literal["cls", "appended", "patch_mean", "cls+patch_mean"]], Field(min_length=1)]
    seeds: Annotated[list[int], Field(min_length=1)]
    lr: PositiveFloat
    final_lr: PositiveFloat
    weight_decay: Annotated[float, Field(ge=0.0)]
    epochs: PositiveInt
    batch_size: PositiveInt
    clip_norm: PositiveFloat
    validation_share: Share


class LinearEvaluation(Strict):
    """DINOv2's linear evaluation: SGD heads for every learning rate on [CLS] of the last ``blocks``, with and without
    the mean patch. ``blocks`` above 1 need ``extraction.cls_blocks``. Learning rates are for batches of 256.
    """

    blocks: Annotated[list[PositiveInt], Field(min_length=1)]
    learning_rates: Annotated[list[PositiveFloat], Field(min_length=1)]
    epochs: PositiveInt
    batch_size: PositiveInt


class Knn(Strict):
    """Weighted nearest neighbours on L2-normalised features, as DINOv2 evaluates."""

    k: PositiveInt
    temperature: PositiveFloat


class Lost(Strict):
    """LOST (simeoni2021): one box per image from the similarity of its patch keys (or queries or values)."""

    feature: Literal["q", "k", "v"]
    layer: int
    k: PositiveInt
    normalise: bool
    centre: bool
    bias: float


class LostSweep(Strict):
    """LOST under every combination of what decides its similarities, in one pass over the images of every model.

    Raw similarities go without a bias, those of L2-normalised patches with each of ``bias``. The setting is chosen on
    ``chosen_on``, a share of the dense images, and reported on the others.
    """

    features: Annotated[list[Literal["q", "k", "v"]], Field(min_length=1)]
    layers: Annotated[list[int], Field(min_length=1)]
    centre: Annotated[list[bool], Field(min_length=1)]
    bias: Annotated[list[Annotated[float, Field(ge=-1.0, le=1.0)]], Field(min_length=1)]
    chosen_on: Annotated[float, Field(gt=0.0, lt=1.0)]


class DinoSeg(Strict):
    """One box per image from the attention of [CLS] at the last block (the second method of simeoni2021).

    The patches that hold ``mass`` of the attention make a mask; the box is that of its largest component. ``head``:
    one head, which needs ``extraction.attention_heads``, or null for their mean. ``skip_last_component`` is
    what the published code does.
    """

    mass: Share
    head: NonNegativeInt | None
    skip_last_component: bool


class Information(Strict):
    """What single tokens know: high-norm patches against ordinary ones (darcet2024, bach2025).

    High are artifacts where detection found some, else patches above ``high_percentile`` of the pooled norms. Of the
    first ``images`` dense images one half trains the probes and the other tests them.
    """

    images: Annotated[int, Field(ge=4)]
    high_percentile: Annotated[float, Field(gt=0.0, lt=100.0)]
    seeds: Annotated[list[int], Field(min_length=1)]
    hidden: PositiveInt
    lr: PositiveFloat
    weight_decay: Annotated[float, Field(ge=0.0)]
    epochs: PositiveInt
    batch_size: PositiveInt


class Dense(Strict):
    """Segmentation and depth by linear heads on patch tokens (DINOv2's dense evaluation, darcet2024).

    Of the dense images ``train_share`` trains the heads and the others test them. Segmentation: AdamW with a cosine to
    zero over ``epochs`` of batches of ``batch_size`` images; of the pixels one of ``every`` in each row and column
    has its say in the loss, all of them in the score. Depth: ridge regression, ``ridge`` being a share of the mean
    squared channel.
    """

    train_share: Annotated[float, Field(gt=0.0, lt=1.0)]
    epochs: PositiveInt
    batch_size: PositiveInt
    lr: PositiveFloat
    weight_decay: Annotated[float, Field(ge=0.0)]
    every: PositiveInt
    ridge: PositiveFloat


class ZeroShot(Strict):
    """Classification by OpenCLIP's text tower (darcet2024): prompts that the name of each class is put into.

    ``openai``: the 80 prompts for ImageNet; ``simple``: OpenCLIP's choice of seven; or prompts with ``{}`` in place of
    the name.
    """

    templates: str | list[str]

    @field_validator("templates")
    @classmethod
    def _known(cls, templates: str | list[str]) -> str | list[str]:
        whole = isinstance(templates, list) and templates and all("{}" in template for template in templates)
        if templates not in ("openai", "simple") and not whole:
            raise ValueError(f"expected openai, simple, or a list of prompts with {{}} in each, got {templates}")
        return templates


class CountedArchitecture(Strict):
    """One of timm's architectures; ``arguments`` go to timm, e.g. ``{img_size: 224}``."""

    name: str
    arguments: dict[str, Any] = Field(default={})


class Cost(Strict):
    """What registers cost, counted without weights; none is always among ``registers``."""

    registers: Annotated[list[NonNegativeInt], Field(min_length=1)]
    architectures: Annotated[dict[str, CountedArchitecture], Field(min_length=1)]


class PublishedEnergy(Strict):
    """What a paper lists: hours of its trainings together, processors at once, energy and carbon as it gives them."""

    hours: PositiveFloat
    processors: PositiveInt
    watts: PositiveFloat
    pue: Annotated[float, Field(ge=1.0)]
    kwh: PositiveFloat
    kg: PositiveFloat


class Energy(Strict):
    """Energy and carbon of trainings: processors x hours x power x PUE x carbon intensity (bach2025).

    Hours are measured; ``watts`` of a processor, ``pue`` (what the place takes over what its machines take) and
    ``kg_per_kwh`` are assumed.
    """

    watts: PositiveFloat
    pue: Annotated[float, Field(ge=1.0)]
    kg_per_kwh: PositiveFloat
    published: dict[str, PublishedEnergy]


class Gallery(Strict):
    """The images that figures show, the same for every model: the first of the dense split from as many classes."""

    images: PositiveInt


class Comparison(Strict):
    """A paired difference: ``a`` minus ``b``, each ``model/intervention``, over the same test images."""

    question: str
    a: Annotated[str, Field(pattern=r"^[^/]+/[^/]+$")]
    b: Annotated[str, Field(pattern=r"^[^/]+/[^/]+$")]


class Statistics(Strict):
    """Intervals and paired tests."""

    confidence: Annotated[float, Field(gt=0.5, lt=1.0)]
    resamples: PositiveInt
