"""DeiT-III, as bach2025 trains its registers."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from vit_registers.core.prose import plural, setting
from vit_registers.params.base import Share
from vit_registers.params.bases import Recipe
from vit_registers.training.architectures import NamedArchitecture, build_as_deit

if TYPE_CHECKING:
    from torch import nn

    from vit_registers.data.manifest import Manifest
    from vit_registers.pipeline.configs import TrainConfig
    from vit_registers.training.augmentation.three_augment import Repeated
    from vit_registers.training.supervised import Supervised


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

    def architecture_arguments(self, registers: int, classes: int) -> dict[str, Any]:
        """See :class:`Recipe`."""
        return self.architecture.all_arguments(registers, classes, init_values=self.layer_scale)

    def build(self, registers: int, classes: int) -> nn.Module:
        """See :class:`Recipe`."""
        return build_as_deit(self.architecture_arguments(registers, classes), self.drop_path)

    def batches(self, cfg: TrainConfig, manifest: Manifest) -> Repeated:
        """Images from their files through ThreeAugment, repeated, then mixed."""
        from vit_registers.training.augmentation.three_augment import Repeated

        return Repeated(cfg, self, manifest)

    def objective(self, registers: int, classes: int, per_epoch: int) -> Supervised:
        """Binary cross-entropy by LAMB, which clips by itself.

        DeiT's loss takes every class that has any part in a mixed image as wholly there.
        """
        from timm.loss.binary_cross_entropy import BinaryCrossEntropy
        from timm.optim.lamb import Lamb

        from vit_registers.training.supervised import Supervised, parameter_groups

        module = self.build(registers, classes)

        def optimizer() -> Lamb:
            groups = parameter_groups(module, self.weight_decay)
            return Lamb(groups, lr=self.lr, betas=self.betas, eps=1e-8, max_grad_norm=self.clip_norm)

        return Supervised(module, BinaryCrossEntropy(smoothing=0.0, target_threshold=0.0), optimizer, None)

    def learning_rate(self, per_epoch: int) -> Callable[[int], float]:
        """Epoch by epoch: linear warm-up, then a cosine that starts at epoch 0, under the warm-up, as in timm.

        (DeiT's loop sets the rate of an epoch after it, and so trains the second epoch at the rate of the first; that
        is not followed.)
        """
        import torch
        from timm.scheduler.cosine_lr import CosineLRScheduler

        carrier = torch.optim.SGD([torch.nn.Parameter(torch.empty(0))], lr=self.lr)
        schedule = CosineLRScheduler(
            carrier,
            t_initial=self.epochs,
            lr_min=self.final_lr,
            warmup_t=self.warmup_epochs,
            warmup_lr_init=self.warmup_lr,
        )

        def by_step(step: int) -> float:
            schedule.step(step // per_epoch)
            return float(carrier.param_groups[0]["lr"])

        return by_step

    def architecture_sentence(self) -> str:
        """See :class:`Recipe`."""
        return self.architecture.sentence()

    def own_sentence(self, datasets: str) -> str:
        """See :class:`Recipe`."""
        return (
            f"They are {self.architecture.sentence()}, "
            f"LayerScale from {setting(self.layer_scale)}, stochastic depth {setting(self.drop_path)}. Training on "
            f"{datasets} by the recipe of DeiT-III: LAMB, learning rate {setting(self.lr)} after "
            f"{plural(self.warmup_epochs, 'epoch')} of linear warm-up from {setting(self.warmup_lr)}, then a cosine to "
            f"{setting(self.final_lr)}, epoch by epoch; $\\beta = ({self.betas[0]:g}, {self.betas[1]:g})$; weight "
            f"decay {setting(self.weight_decay)} on matrices only; binary cross-entropy; gradients clipped at norm "
            f"{setting(self.clip_norm)}; random resized crops and mirroring, ThreeAugment, colour jitter "
            f"{setting(self.color_jitter)}, each image {self.repeats} times in an epoch of as many fewer images, "
            f"Mixup {setting(self.mixup)} and CutMix {setting(self.cutmix)}."
        )
