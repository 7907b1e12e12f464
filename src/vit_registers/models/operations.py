"""Parameters and operations of an architecture, counted on torch's meta device: no weights are needed."""

from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from vit_registers.data.transforms import Size


def count(module: Any, size: Size) -> tuple[int, int]:
    """Parameters, and floating-point operations of one image of ``size`` (height, width), without the head.

    A multiplication and an addition are two operations. ``module`` is one of timm's on the meta device.
    """
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        module.forward_features(torch.empty(1, 3, *size, device="meta"))
    return sum(parameter.numel() for parameter in module.parameters()), counter.get_total_flops()
