"""The projection head of caron2021."""

from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vit_registers.params import Projection


class Prototypes(nn.Module):
    """A linear layer without bias and with weight normalisation: each of its rows a direction and a length."""

    def __init__(self, width: int, count: int, unit: bool) -> None:
        super().__init__()
        self.direction = nn.Linear(width, count, bias=False).weight  # drawn as torch draws linear layers
        self.length = nn.Parameter(torch.ones(count, 1), requires_grad=not unit)

    def forward(self, features: Tensor) -> Tensor:
        """(n, width) to (n, count)."""
        return F.linear(features, self.length * F.normalize(self.direction, dim=1))


class Head(nn.Module):
    """Three layers with GELU, features of length one, and their products with the prototypes."""

    def __init__(self, width: int, cfg: Projection) -> None:
        super().__init__()
        sizes = (width, cfg.hidden, cfg.hidden, cfg.bottleneck)
        layers: list[Any] = [nn.Linear(*pair) for pair in pairwise(sizes)]
        for layer in layers:
            nn.init.trunc_normal_(layer.weight, std=0.02)
            nn.init.zeros_(layer.bias)
        self.layers = nn.Sequential(layers[0], nn.GELU(), layers[1], nn.GELU(), layers[2])
        self.prototypes = Prototypes(cfg.bottleneck, cfg.prototypes, cfg.unit_prototypes)

    def forward(self, tokens: Tensor) -> Tensor:
        """[CLS] tokens (n, width) to logits (n, prototypes), in fp32.

        Whatever the precision of training: they are divided by temperatures of a few hundredths, which would turn the
        rounding of bfloat16 into tenths.
        """
        with torch.autocast(tokens.device.type, enabled=False):
            return self.prototypes(F.normalize(self.layers(tokens.float()), dim=-1))
