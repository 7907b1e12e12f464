"""Recipes of supervised trainings, and what every recipe has."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from vit_registers.core.prose import architecture
from vit_registers.params.base import Share, Strict


class Architecture(Strict):
    """Arguments of timm's ``VisionTransformer`` for the models trained here; [CLS] and learned positions always.

    ``layer_scale``: what LayerScale begins with, null for none. ``drop_path``: stochastic depth of the last block.
    """

    image_size: PositiveInt
    patch_size: PositiveInt
    width: PositiveInt
    depth: PositiveInt
    heads: PositiveInt
    layer_scale: PositiveFloat | None = None
    drop_path: Share = 0.0


class NamedArchitecture(Strict):
    """One of timm's ViTs from nothing; ``arguments`` go to timm."""

    name: str
    image_size: PositiveInt
    arguments: dict[str, Any] = Field(default={})

    def sentence(self) -> str:
        """The architecture with its arguments and input size, as LaTeX."""
        return architecture(self.name, self.image_size, self.arguments)


class Recipe(Strict):
    """What every training has; fixed epochs, so that results never depend on speed.

    A step sums over ``shards`` batches of ``batch_size`` images, however many processes share them: one process ends
    where several do, up to rounding. Of the first ``watched_images`` test images patch norms and the mean attention of
    [CLS] and registers at the last block are kept after every epoch; of the first ``watched_maps`` of these, whole
    attention maps. ``keep_every`` so many epochs the weights are kept as well; 0 for never.
    """

    epochs: PositiveInt
    batch_size: PositiveInt
    shards: PositiveInt = 1
    lr: PositiveFloat
    betas: tuple[Share, Share]
    weight_decay: Annotated[float, Field(ge=0.0)]
    precision: Literal["fp32", "bf16"]
    checkpoint_steps: PositiveInt
    watched_images: PositiveInt
    watched_maps: PositiveInt
    keep_every: NonNegativeInt = 0

    @model_validator(mode="after")
    def _maps_of_watched(self) -> Self:
        if self.watched_maps > self.watched_images:
            raise ValueError(f"watched_maps: expected at most the {self.watched_images} of watched_images")
        return self


class SmallRecipe(Recipe):
    """AdamW and cross-entropy; warm-up over a share of the steps, cosine to zero.

    ``augmentation``: ``dihedral``, flips and quarter turns; ``mirror``, horizontal flips; ``crop``, an eighth of the
    side padded with black, a random crop and a mirror, as is usual for CIFAR; ``none``.
    """

    kind: Literal["small"]
    architecture: Architecture
    augmentation: Literal["dihedral", "mirror", "crop", "none"] = "dihedral"
    warmup_share: Share
    label_smoothing: Share
    clip_norm: PositiveFloat


class Deit3Recipe(Recipe):
    """DeiT-III of bach2025: LAMB, binary cross-entropy, ThreeAugment, Mixup and CutMix, repeated augmentation.

    Learning rates change from epoch to epoch. ``repeats`` is how often an image is augmented anew in an epoch, of which
    there are as many fewer images. ``workers`` read images and change no result.
    """

    kind: Literal["deit3"]
    architecture: NamedArchitecture
    warmup_epochs: NonNegativeInt
    warmup_lr: PositiveFloat
    final_lr: Annotated[float, Field(ge=0.0)]
    clip_norm: PositiveFloat
    layer_scale: PositiveFloat
    drop_path: Share
    mixup: Annotated[float, Field(ge=0.0)]
    cutmix: Annotated[float, Field(ge=0.0)]
    color_jitter: Annotated[float, Field(ge=0.0)]
    repeats: PositiveInt
    workers: NonNegativeInt

    @model_validator(mode="after")
    def _fits_timm(self) -> Self:
        if self.batch_size % 2:
            raise ValueError(f"batch_size: Mixup mixes pairs, got {self.batch_size}; take an even one")
        if self.warmup_epochs >= self.epochs:
            raise ValueError(f"warmup_epochs: expected fewer than the {self.epochs} epochs, got {self.warmup_epochs}")
        return self
