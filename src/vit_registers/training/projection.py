"""The projection head of caron2021."""

from itertools import pairwise
from typing import Any

import torch.nn.functional as F
from torch import Tensor, autocast, nn
from torch.nn.utils.parametrizations import weight_norm

from vit_registers.training.recipes.dino import Projection


def prototypes(width: int, count: int, unit: bool) -> nn.Module:
    """A linear layer without bias and with weight normalisation: each of its rows a direction and a length.

    Directions (``original1``) are drawn as torch draws linear layers; lengths (``original0``) start at one, and stay
    there where prototypes are ``unit``.
    """
    layer: Any = weight_norm(nn.Linear(width, count, bias=False))
    length = layer.parametrizations.weight.original0
    nn.init.ones_(length).requires_grad_(not unit)
    return layer


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
        self.prototypes = prototypes(cfg.bottleneck, cfg.prototypes, cfg.unit_prototypes)

    def forward(self, tokens: Tensor) -> Tensor:
        """[CLS] tokens (n, width) to logits (n, prototypes), in fp32.

        Whatever the precision of training: they are divided by temperatures of a few hundredths, which would turn the
        rounding of bfloat16 into tenths.
        """
        with autocast(tokens.device.type, enabled=False):
            return self.prototypes(F.normalize(self.layers(tokens.float()), dim=-1))
