"""What changes from step to step of a self-distillation (caron2021)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vit_registers.core.schedules import cosine, linear

if TYPE_CHECKING:
    from vit_registers.training.recipes.dino import DinoRecipe


class DistillationSchedules:
    """Values by step, counted from 0, of a training in steps of which ``per_epoch`` make an epoch.

    As in the published code the warm-up's first step has a learning rate of zero, and cosines end one step after the
    last, so that the teacher moves to the end.
    """

    def __init__(self, recipe: DinoRecipe, per_epoch: int) -> None:
        self.recipe, self.per_epoch, self.steps = recipe, per_epoch, per_epoch * recipe.epochs

    def learning_rate(self, step: int) -> float:
        """Linear warm-up from zero, then a cosine."""
        recipe, warmup = self.recipe, self.recipe.warmup_epochs * self.per_epoch
        if step < warmup:
            return linear(0.0, recipe.lr, step, warmup)
        return cosine(recipe.lr, recipe.final_lr, step - warmup, self.steps - warmup)

    def weight_decay(self, step: int) -> float:
        """A cosine from one weight decay to the other."""
        return cosine(self.recipe.weight_decay, self.recipe.final_weight_decay, step, self.steps)

    def teacher_momentum(self, step: int) -> float:
        """What the teacher keeps of itself: a cosine to 1."""
        return cosine(self.recipe.teacher.momentum, 1.0, step, self.steps)

    def teacher_temperature(self, step: int) -> float:
        """Linear over the epochs of the teacher's warm-up, the same in all steps of an epoch."""
        teacher, epoch = self.recipe.teacher, step // self.per_epoch
        if epoch < teacher.warmup_epochs:
            return linear(teacher.warmup_temperature, teacher.temperature, epoch, teacher.warmup_epochs)
        return teacher.temperature

    def prototypes_frozen(self, step: int) -> bool:
        """Whether prototypes stay as they are in this step."""
        return step // self.per_epoch < self.recipe.projection.frozen_epochs
