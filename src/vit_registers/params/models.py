"""Models: released, of one's own, trained here, tagged or planted; and any of them at another input size."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from vit_registers.params.base import Count, Name, Positive, Share, Strict, Whole


class PositionResampling(Strict):
    """How learned position embeddings get to another grid; DINOv2 without registers: antialias false, offset 0.1."""

    antialias: bool = True
    offset: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if self.antialias and self.offset:
            raise ValueError("offset: nobody's models were trained with antialias and an offset; take one of them")
        return self


class SizedModel(Strict):
    """A model at an input size of one's choice. ``image_size``: one side, or height and width; null for its own."""

    image_size: Count | tuple[Count, Count] | None = None
    positions: PositionResampling = PositionResampling()

    @property
    def size(self) -> tuple[int, int] | None:
        """Height and width of the input, if they were given."""
        side = self.image_size
        return (side, side) if isinstance(side, int) else side


class FetchedModel(SizedModel):
    """Any ViT that is not made here."""


class TimmModel(FetchedModel):
    """A model of timm by name; ``weights: random`` must be asked for, it is never a fallback.

    ``arguments`` go to timm, e.g. ``{reg_tokens: 4}`` for a DeiT-III with registers.
    """

    kind: Literal["timm"]
    name: str
    weights: Literal["pretrained", "random"] = "pretrained"
    arguments: dict[str, Any] = Field(default={})


class FileModel(FetchedModel):
    """A checkpoint file (safetensors or pickled tensors) over timm's architecture ``name`` with ``arguments``.

    What is null is timm's default for the architecture.
    """

    kind: Literal["file"]
    path: str
    name: str
    arguments: dict[str, Any] = Field(default={})
    mean: tuple[float, float, float] | None = None
    std: tuple[Positive, Positive, Positive] | None = None
    crop_pct: Annotated[float, Field(gt=0.0, le=1.0)] | None = None
    interpolation: Literal["bicubic", "bilinear"] | None = None


class OpenClipModel(FetchedModel):
    """The visual tower of an OpenCLIP model, e.g. ``ViT-B-16`` with ``pretrained: laion2b_s34b_b88k``."""

    kind: Literal["openclip"]
    name: str
    pretrained: str | None


class OtherSize(Strict):
    """What of a recipe's architecture one model has otherwise; null: as the recipe says."""

    width: Count | None = None
    depth: Count | None = None
    heads: Count | None = None

    @property
    def given(self) -> dict[str, int]:
        """What is not as the recipe says."""
        return self.model_dump(exclude_none=True)


class TrainedModel(Strict):
    """A small ViT that the pipeline trains by itself; ``architecture`` is laid over the recipe's, for other sizes."""

    kind: Literal["trained"]
    dataset: Name
    recipe: Name
    registers: Whole
    architecture: OtherSize = OtherSize()


class TaggedModel(Strict):
    """``base`` with a tag added to some position embeddings: the clean reference of a planted model."""

    kind: Literal["tagged"]
    base: Name
    planting: Name


class PlantedModel(Strict):
    """A tagged model with register neurons written into one MLP: the oracle, because its neurons are known."""

    kind: Literal["planted"]
    base: Name
    planting: Name


class ResizedModel(SizedModel):
    """``base``, any other model of the study, at another input size: its weights with positions resampled to it."""

    kind: Literal["resized"]
    base: Name
    image_size: Count | tuple[Count, Count]


Model = Annotated[
    TimmModel | FileModel | OpenClipModel | TrainedModel | TaggedModel | PlantedModel | ResizedModel,
    Field(discriminator="kind"),
]


class Architecture(Strict):
    """Arguments of timm's ``VisionTransformer`` for the models trained here; [CLS] and learned positions always."""

    image_size: Count
    patch_size: Count
    width: Count
    depth: Count
    heads: Count


class NamedArchitecture(Strict):
    """One of timm's ViTs from nothing; ``arguments`` go to timm."""

    name: str
    image_size: Count
    arguments: dict[str, Any] = Field(default={})


class Recipe(Strict):
    """What every training has; fixed epochs, so that results never depend on speed.

    A step sums over ``shards`` batches of ``batch_size`` images, however many processes share them: one process ends
    where several do, up to rounding. Of the first ``watched_images`` test images patch norms and the mean attention of
    [CLS] and registers at the last block are kept after every epoch; of the first ``watched_maps`` of these, whole
    attention maps. ``keep_every`` so many epochs the weights are kept as well; 0 for never.
    """

    epochs: Count
    batch_size: Count
    shards: Count = 1
    lr: Positive
    betas: tuple[Share, Share]
    weight_decay: Annotated[float, Field(ge=0.0)]
    precision: Literal["fp32", "bf16"]
    checkpoint_steps: Count
    watched_images: Count
    watched_maps: Count
    keep_every: Whole = 0

    @model_validator(mode="after")
    def _maps_of_watched(self) -> Self:
        if self.watched_maps > self.watched_images:
            raise ValueError(f"watched_maps: expected at most the {self.watched_images} of watched_images")
        return self


class SmallRecipe(Recipe):
    """AdamW and cross-entropy; warm-up over a share of the steps, cosine to zero; flips and quarter turns."""

    kind: Literal["small"]
    architecture: Architecture
    warmup_share: Share
    label_smoothing: Share
    clip_norm: Positive


class Deit3Recipe(Recipe):
    """DeiT-III of bach2025: LAMB, binary cross-entropy, ThreeAugment, Mixup and CutMix, repeated augmentation.

    Learning rates change from epoch to epoch. ``repeats`` is how often an image is augmented anew in an epoch, of which
    there are as many fewer images. ``workers`` read images and change no result.
    """

    kind: Literal["deit3"]
    architecture: NamedArchitecture
    warmup_epochs: Whole
    warmup_lr: Positive
    final_lr: Annotated[float, Field(ge=0.0)]
    clip_norm: Positive
    layer_scale: Positive
    drop_path: Share
    mixup: Annotated[float, Field(ge=0.0)]
    cutmix: Annotated[float, Field(ge=0.0)]
    color_jitter: Annotated[float, Field(ge=0.0)]
    repeats: Count
    workers: Whole

    @model_validator(mode="after")
    def _fits_timm(self) -> Self:
        if self.batch_size % 2:
            raise ValueError(f"batch_size: Mixup mixes pairs, got {self.batch_size}; take an even one")
        if self.warmup_epochs >= self.epochs:
            raise ValueError(f"warmup_epochs: expected fewer than the {self.epochs} epochs, got {self.warmup_epochs}")
        return self


AnyRecipe = Annotated[SmallRecipe | Deit3Recipe, Field(discriminator="kind")]


class Planting(Strict):
    """How register neurons are planted; the closed form is in ``backbones/planting.py``."""

    block: Whole
    neurons: Annotated[int, Field(ge=2, multiple_of=2)]
    positions: list[Whole]
    tag_strength: Positive
    images: Count
    norm_ratio: Positive
    direction: Literal["random", "cls", "cls-raw"]
