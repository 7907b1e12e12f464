"""What a training minimises: all that differs between training with labels and without."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from vit_registers.training.distributed import Processes

TOKENS = ("cls_token", "reg_token", "pos_embed")  # not decayed, unless a recipe says so


class Objective(nn.Module, ABC):
    """Modules in training, as the one module whose state is theirs together; steps count from 0."""

    labelled: bool  # whether the model has a head that names classes

    @property
    @abstractmethod
    def model(self) -> nn.Module:
        """What is monitored after every epoch and saved in the end: a timm ViT."""

    @property
    @abstractmethod
    def trained(self) -> nn.Module:
        """What gradients go to."""

    @abstractmethod
    def optimizer(self) -> torch.optim.Optimizer:
        """A new optimizer of what is trained."""

    @abstractmethod
    def loss(self, inputs: Tensor, targets: Tensor, step: int) -> Tensor:
        """Mean loss of a micro-batch, both parts of it as the recipe's batches have them; a scalar in fp32.

        Called where autocast is on if the recipe says so, with generators seeded for this step and micro-batch.
        """

    @abstractmethod
    def before_update(self, optimizer: torch.optim.Optimizer, step: int) -> None:
        """Between the mean gradient over all micro-batches and the optimizer's step: clipping, decay."""

    def after_update(self, processes: Processes, step: int) -> None:
        """What follows the weights after each of their steps."""
