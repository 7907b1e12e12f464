"""The recipe of the embedded study: a small ViT learns classes in minutes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

from pydantic import PositiveFloat

from vit_registers.core.prose import percent, plural, setting
from vit_registers.core.schedules import cosine
from vit_registers.params.base import Share
from vit_registers.params.bases import Recipe
from vit_registers.training.architectures import Architecture

if TYPE_CHECKING:
    from torch import nn

    from vit_registers.data.manifest import Manifest
    from vit_registers.pipeline.configs import TrainConfig
    from vit_registers.training.augmentation.geometric import InMemory
    from vit_registers.training.supervised import Supervised

# What is done to each image, in words.
AUGMENTATIONS = {
    "dihedral": "a random flip or quarter turn of every image",
    "mirror": "every image mirrored with probability one half",
    "crop": "every image padded with black by an eighth of its side, cropped at random and mirrored with probability "
    "one half",
    "none": "images as they are",
}

# What the head reads, in words.
READ = {
    "cls": "a [CLS] token",
    "mean_patch": "no [CLS], a head that normalises and reads the mean patch,",
    "mean_normalised_patch": "no [CLS], a head that reads the mean of the normalised patches,",
}
# How initial weights are drawn, in words.
DRAWN = {
    "jax": "initial weights drawn uniformly after Xavier",
    "deit": "initial weights drawn from a normal of deviation $0.02$",
}


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

    def with_architecture(self, changes: dict[str, int]) -> SmallRecipe:
        """See :class:`Recipe`."""
        changed = self.architecture.model_copy(update=changes)
        changed.check()
        return self.model_copy(update={"architecture": changed})

    def architecture_arguments(self, registers: int, classes: int) -> dict[str, Any]:
        """See :class:`Recipe`."""
        return self.architecture.arguments(registers, classes)

    def build(self, registers: int, classes: int) -> nn.Module:
        """See :class:`Recipe`; [CLS] and registers are drawn as timm draws them, with deviation 1e-6."""
        from vit_registers.models import backbone

        arguments = self.architecture_arguments(registers, classes)
        return backbone.build({**arguments, "drop_path_rate": self.architecture.drop_path})

    def batches(self, cfg: TrainConfig, manifest: Manifest) -> InMemory:
        """All images in memory, each flipped, turned or shifted by its own draw."""
        from vit_registers.training.augmentation.geometric import InMemory

        return InMemory(cfg, self, manifest)

    def objective(self, registers: int, classes: int, per_epoch: int) -> Supervised:
        """Cross-entropy with smoothed labels by AdamW, gradients clipped together."""
        from torch import nn, optim

        from vit_registers.training.supervised import Supervised, parameter_groups

        module = self.build(registers, classes)

        def optimizer() -> optim.Optimizer:
            groups = parameter_groups(module, self.weight_decay)
            return optim.AdamW(groups, lr=self.lr, betas=self.betas, fused=True)

        criterion = nn.CrossEntropyLoss(label_smoothing=self.label_smoothing)
        return Supervised(module, criterion, optimizer, self.clip_norm)

    def learning_rate(self, per_epoch: int) -> Callable[[int], float]:
        """Linear warm-up, then a cosine to zero, step by step."""
        steps = per_epoch * self.epochs
        warmup = max(1, round(steps * self.warmup_share))

        def by_step(step: int) -> float:
            if step < warmup:
                return self.lr * (step + 1) / warmup
            return cosine(self.lr, 0.0, step - warmup, max(1, steps - warmup))

        return by_step

    def model_label(self, registers: int) -> str | None:
        """See :class:`Recipe`: what the head reads, where that is not [CLS]."""
        if self.architecture.reads == "cls":
            return None
        named = "Mean-patch ViT" if self.architecture.reads == "mean_patch" else "Mean-normalised-patch ViT"
        return f"{named}, {plural(registers, 'register')}" if registers else named

    def architecture_sentence(self) -> str:
        """See :class:`Recipe`."""
        return self.architecture.sentence()

    def own_sentence(self, datasets: str) -> str:
        """See :class:`Recipe`."""
        shape = self.architecture
        scaled = f", LayerScale from {setting(shape.layer_scale)}" if shape.layer_scale else ""
        dropped = f", stochastic depth {setting(shape.drop_path)}" if shape.drop_path else ""
        return (
            f"Unless said otherwise they have {shape.sentence()}; all have patches of "
            f"${shape.patch_size} \\times {shape.patch_size}$ pixels on images of "
            f"${shape.image_size} \\times {shape.image_size}$, {READ[shape.reads]} and learned position embeddings, "
            f"none of them for registers, {DRAWN[shape.weights]}{scaled}{dropped}. "
            f"Training on {datasets}: AdamW, learning rate {setting(self.lr)} after a linear warm-up "
            f"over {percent(self.warmup_share)} of the steps, then a cosine to zero; "
            f"$\\beta = ({self.betas[0]:g}, {self.betas[1]:g})$; weight decay {setting(self.weight_decay)} on "
            f"matrices only; cross-entropy with label smoothing {setting(self.label_smoothing)}; gradients clipped at "
            f"norm {setting(self.clip_norm)}; {AUGMENTATIONS[self.augmentation]}."
        )
