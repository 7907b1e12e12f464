"""The recipe of self-distillation without labels: caron2021, "Emerging Properties in Self-Supervised ViTs"."""

from typing import Annotated, Literal, Self

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from vit_registers.params.base import Share, Strict
from vit_registers.params.positions import PositionResampling
from vit_registers.params.recipes import NamedArchitecture, Recipe

Strength = Annotated[float, Field(ge=0.0)]
Hue = Annotated[float, Field(ge=0.0, le=0.5)]
Area = tuple[Annotated[float, Field(gt=0.0, le=1.0)], Annotated[float, Field(gt=0.0, le=1.0)]]


class Crops(Strict):
    """Two global crops at the input size and ``local_crops`` of ``local_size``; scales are shares of the area."""

    global_scale: Area  # 0.4, 1.0
    local_crops: NonNegativeInt  # 8
    local_size: PositiveInt  # 96 beside 224
    local_scale: Area  # 0.05, 0.4

    @model_validator(mode="after")
    def _ranges(self) -> Self:
        for name, (low, high) in (("global_scale", self.global_scale), ("local_scale", self.local_scale)):
            if low > high:
                raise ValueError(f"{name}: expected the smaller share first, got {low:g}, {high:g}")
        return self


class Colours(Strict):
    """What is done to the colours of a crop, each with its probability.

    ``blur_shares``: of the first global crop, the second and local ones.
    """

    jitter: tuple[Strength, Strength, Strength, Hue]  # 0.4, 0.4, 0.2, 0.1: brightness, contrast, saturation, hue
    jitter_share: Share  # 0.8
    grey_share: Share  # 0.2
    blur_radius: tuple[Strength, Strength]  # 0.1, 2.0 at 224 pixels
    blur_shares: tuple[Share, Share, Share]  # 1.0, 0.1, 0.5
    solarise_share: Share  # 0.2, of the second global crop only


class Projection(Strict):
    """The head: three layers with GELU, a bottleneck of length one, and ``prototypes`` that it is compared with."""

    hidden: PositiveInt  # 2048
    bottleneck: PositiveInt  # 256
    prototypes: PositiveInt  # 65536
    unit_prototypes: bool = True  # the code's norm_last_layer; its authors set it to false for ViT-S
    frozen_epochs: NonNegativeInt  # 1: prototypes as they were drawn


class Teacher(Strict):
    """The running mean of the student, its temperature through a warm-up, and the centre of its output."""

    momentum: Share  # 0.996; goes to 1 along a cosine
    warmup_temperature: PositiveFloat  # 0.04
    temperature: PositiveFloat  # 0.07
    warmup_epochs: NonNegativeInt  # 30
    centre_momentum: Share  # 0.9


class DinoRecipe(Recipe):
    """Self-distillation without labels (caron2021); comments give the paper's values.

    ``weight_decay`` goes to ``final_weight_decay`` along a cosine. ``lr`` is the peak as it is; the paper scales 5e-4
    by images of a step over 256. Of what only the published code says: ``clip: parameter`` clips the gradient of each
    parameter by itself, ``decay_tokens`` decays [CLS], registers and positions as well, and ``positions`` of local
    crops are resampled without antialiasing and with 0.1 added to the new sides. ``workers`` read images and change
    no result.
    """

    kind: Literal["dino"]
    architecture: NamedArchitecture
    drop_path: Share  # 0.1, of the student
    warmup_epochs: NonNegativeInt  # 10
    final_lr: Strength  # 1e-6
    final_weight_decay: Strength  # 0.4, from 0.04
    clip_norm: PositiveFloat  # 3.0
    clip: Literal["parameter", "whole"] = "parameter"
    decay_tokens: bool = True
    student_temperature: PositiveFloat  # 0.1
    teacher: Teacher
    projection: Projection
    crops: Crops
    colours: Colours
    positions: PositionResampling = PositionResampling(antialias=False, offset=0.1)
    workers: NonNegativeInt

    @model_validator(mode="after")
    def _within_the_epochs(self) -> Self:
        for name, epochs in (("", self.warmup_epochs), ("teacher.", self.teacher.warmup_epochs)):
            if epochs >= self.epochs:
                raise ValueError(f"{name}warmup_epochs: expected fewer than the {self.epochs} epochs, got {epochs}")
        return self
