"""Learning from labels so that the tokens that the head reads are the only ones that tell the class."""

from typing import Any

import torch
from torch import Tensor
from typing_extensions import override

from vit_registers.training.supervised import Supervised


def at_chance(logits: Tensor) -> Tensor:
    """Cross-entropy (...) of logits (..., classes) to all classes alike: least where they say nothing."""
    return -logits.log_softmax(-1).mean(-1)


class OnlyOutliersTell(Supervised):
    """The loss of the labels, and ``weight`` times how much the head would find in the tokens that it does not read.

    Without the second term all tokens of a small model gather the class, whatever their norm, so that it needs no
    register: the mean patch then does nearly as well.
    """

    weight: float

    @override
    def loss(self, images: Tensor, targets: Tensor, step: int) -> Tensor:
        module: Any = self.module
        features = module.forward_features(images)
        logits, each = module.forward_head(features), module.head(module.fc_norm(features))
        with torch.autocast(images.device.type, enabled=False):
            unread = at_chance(each.float())[module.shares == 0.0]
            return self.criterion(logits.float(), targets) + self.weight * unread.mean()
