"""Learning from labels: one module and its classifier's loss."""

from collections.abc import Callable
from typing import Any

import torch
from timm.optim._param_groups import param_groups_weight_decay
from torch import Tensor, nn

from vit_registers.training.objective import TOKENS, Objective


def parameter_groups(module: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Groups of an optimizer: decay on weight matrices only, not on biases, norms or :data:`TOKENS`."""
    return param_groups_weight_decay(module, weight_decay, no_weight_decay_list=TOKENS)


class Supervised(Objective):
    """``criterion`` of the logits of ``module``, whose gradients are clipped together at ``clip_norm``.

    ``clip_norm`` is None where the optimizer clips by itself. ``optimizer`` makes a new one.
    """

    labelled = True

    def __init__(
        self,
        module: nn.Module,
        criterion: nn.Module,
        optimizer: Callable[[], torch.optim.Optimizer],
        clip_norm: float | None,
    ) -> None:
        super().__init__()
        self.module, self.criterion = module, criterion
        self._optimizer, self.clip_norm = optimizer, clip_norm

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
        return self._optimizer()

    def loss(self, images: Tensor, targets: Tensor, step: int) -> Tensor:
        """Of images (n, 3, s, s) and their labels (n,) or mixed targets (n, classes)."""
        logits = self.module(images)
        with torch.autocast(images.device.type, enabled=False):
            return self.criterion(logits.float(), targets)

    def before_update(self, optimizer: torch.optim.Optimizer, step: int) -> None:
        """Gradients to the norm that the recipe allows."""
        if self.clip_norm is not None:
            nn.utils.clip_grad_norm_(self.module.parameters(), self.clip_norm)
