"""Learning from labels: one module and its classifier's loss."""

import torch
from torch import Tensor, nn

from vit_registers.training import recipe as recipes
from vit_registers.training.objective import Objective


class Supervised(Objective):
    """The small recipe and DeiT-III."""

    labelled = True

    def __init__(self, recipe: recipes.Supervised, registers: int, classes: int) -> None:
        super().__init__()
        self.recipe = recipe
        self.module = recipes.build(recipe, registers, classes)
        self.criterion = recipes.loss(recipe)

    @property
    def model(self) -> nn.Module:
        """See :class:`Objective`."""
        return self.module

    @property
    def trained(self) -> nn.Module:
        """See :class:`Objective`."""
        return self.module

    def optimizer(self) -> torch.optim.Optimizer:
        """See :class:`Objective`."""
        return recipes.optimizer(self.module, self.recipe)

    def loss(self, seen: Tensor, other: Tensor, step: int) -> Tensor:
        """Of images (n, 3, s, s) and their labels (n,) or targets (n, classes)."""
        logits = self.module(seen)
        with torch.autocast(seen.device.type, enabled=False):
            return self.criterion(logits.float(), other)

    def before_update(self, optimizer: torch.optim.Optimizer, step: int) -> None:
        """See :class:`Objective`."""
        recipes.clip(self.module, self.recipe)
