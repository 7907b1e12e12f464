"""Self-distillation without labels: caron2021, "Emerging Properties in Self-Supervised Vision Transformers"."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from vit_registers.core.prose import joined, percent, plural, setting
from vit_registers.models.resampling import PositionResampling
from vit_registers.params.base import Share, Strict
from vit_registers.params.bases import Recipe
from vit_registers.training.architectures import NamedArchitecture, build_as_deit
from vit_registers.training.schedules import DistillationSchedules

if TYPE_CHECKING:
    from torch import nn

    from vit_registers.data.manifest import Manifest
    from vit_registers.pipeline.configs import TrainConfig
    from vit_registers.training.augmentation.multicrop import MultiCropped
    from vit_registers.training.distilled import Distilled

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

    def sentence(self) -> str:
        """What happens to a crop, as LaTeX."""
        jitter, blurs = (joined([setting(value) for value in values]) for values in (self.jitter, self.blur_shares))
        low, high = self.blur_radius
        return (
            f"A crop is mirrored with probability one half; brightness, contrast, saturation and hue change by up to "
            f"{jitter} with probability {setting(self.jitter_share)}; it is grey with probability "
            f"{setting(self.grey_share)}; blurred with a radius of {setting(low)} to {setting(high)} pixels with "
            f"probability {blurs} (first and second global crop, local crops); a second global crop is solarised with "
            f"probability {setting(self.solarise_share)}."
        )


class Projection(Strict):
    """The head: three layers with GELU, a bottleneck of length one, and ``prototypes`` that it is compared with."""

    hidden: PositiveInt  # 2048
    bottleneck: PositiveInt  # 256
    prototypes: PositiveInt  # 65536
    unit_prototypes: bool = True  # the code's norm_last_layer; its authors set it to false for ViT-S
    frozen_epochs: NonNegativeInt  # 1: prototypes as they were drawn

    def sentence(self) -> str:
        """The head, as LaTeX."""
        lengths = "of length one" if self.unit_prototypes else "whose lengths are learnt"
        return (
            f"Projection heads, in 32-bit precision throughout, have two hidden layers of {self.hidden}, a bottleneck "
            f"of {self.bottleneck} channels brought to length one, and {self.prototypes} prototypes {lengths}, which "
            f"stay as they were drawn for {plural(self.frozen_epochs, 'epoch')}."
        )


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

    def architecture_arguments(self, registers: int, classes: int) -> dict[str, Any]:
        """See :class:`Recipe`; no head, as no labels are seen."""
        return self.architecture.all_arguments(registers, 0)

    def build(self, registers: int, classes: int) -> nn.Module:
        """See :class:`Recipe`."""
        return build_as_deit(self.architecture_arguments(registers, classes), self.drop_path)

    def batches(self, cfg: TrainConfig, manifest: Manifest) -> MultiCropped:
        """Global and local crops of images from their files."""
        from vit_registers.training.augmentation.multicrop import MultiCropped

        return MultiCropped(cfg, self, manifest)

    def objective(self, registers: int, classes: int, per_epoch: int) -> Distilled:
        """Cross-entropy of a student from its teacher, which is the model."""
        from vit_registers.training.distilled import Distilled

        return Distilled(self, registers, self._schedules(per_epoch))

    def learning_rate(self, per_epoch: int) -> Callable[[int], float]:
        """Linear warm-up from zero, then a cosine, step by step."""
        return self._schedules(per_epoch).learning_rate

    def _schedules(self, per_epoch: int) -> DistillationSchedules:
        return DistillationSchedules(self, per_epoch)

    def architecture_sentence(self) -> str:
        """See :class:`Recipe`."""
        return self.architecture.sentence()

    def own_sentence(self, datasets: str) -> str:
        """See :class:`Recipe`."""
        parts = (
            self._optimisation_sentence(datasets),
            self._teacher_sentence(),
            self.projection.sentence(),
            self._crops_sentence(),
            self.colours.sentence(),
        )
        return " ".join(parts)

    def _optimisation_sentence(self, datasets: str) -> str:
        spared = "biases and norms" if self.decay_tokens else "biases, norms, [CLS], registers and position embeddings"
        clipped = {"parameter": "of each parameter by itself", "whole": "of all parameters together"}[self.clip]
        return (
            f"They are {self.architecture.sentence()}, without a head. Training on {datasets} without labels by "
            f"self-distillation \\citep{{caron2021}}: what is measured is the teacher, a running mean of a student, "
            f"which is trained with stochastic depth {setting(self.drop_path)}. AdamW; learning rate "
            f"{setting(self.lr)} after {plural(self.warmup_epochs, 'epoch')} of linear warm-up from zero, then a "
            f"cosine to {setting(self.final_lr)}, step by step; $\\beta = ({self.betas[0]:g}, {self.betas[1]:g})$; "
            f"weight decay from {setting(self.weight_decay)} along a cosine to {setting(self.final_weight_decay)}, on "
            f"all but {spared}; gradients {clipped} clipped at norm {setting(self.clip_norm)}."
        )

    def _teacher_sentence(self) -> str:
        teacher = self.teacher
        return (
            f"The momentum of the teacher goes from {setting(teacher.momentum)} along a cosine to one. Temperatures: "
            f"{setting(self.student_temperature)} of the student; of the teacher {setting(teacher.temperature)}, over "
            f"the first {plural(teacher.warmup_epochs, 'epoch')} linearly from {setting(teacher.warmup_temperature)}. "
            f"Its output is centred by a running mean of momentum {setting(teacher.centre_momentum)}."
        )

    def _crops_sentence(self) -> str:
        crops = self.crops
        low, high = crops.global_scale
        text = f"Both see two crops of {percent(low)} to {percent(high)} of the area of an image"
        if not crops.local_crops:
            return f"{text}."
        low, high = crops.local_scale
        return (
            f"{text}; the student also {plural(crops.local_crops, 'crop')} of {percent(low)} to {percent(high)} at "
            f"${crops.local_size} \\times {crops.local_size}$ pixels, with {self.positions.sentence()}."
        )
