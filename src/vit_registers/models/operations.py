"""Parameters and operations of an architecture, counted on torch's meta device: no weights are needed."""

from typing import Any

import timm
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from vit_registers.core.errors import InputError
from vit_registers.data.transforms import Size


def count(module: Any, size: Size) -> tuple[int, int]:
    """Parameters, and floating-point operations of one image of ``size`` (height, width), without the head.

    A multiplication and an addition are two operations. ``module`` is one of timm's on the meta device. Blocks that are
    all alike are counted once: a ViT-g has forty of them.
    """
    parameters = sum(parameter.numel() for parameter in module.parameters())
    blocks = module.blocks
    if len({_shapes(block) for block in blocks}) > 1 or len(blocks) < 3:
        return parameters, _operations(module, size)
    try:
        module.blocks = blocks[:1]
        one = _operations(module, size)
        module.blocks = blocks[:2]
        two = _operations(module, size)
    finally:
        module.blocks = blocks
    return parameters, one + (len(blocks) - 1) * (two - one)


def _shapes(block: nn.Module) -> tuple[tuple[str, torch.Size], ...]:
    return tuple((name, parameter.shape) for name, parameter in block.named_parameters())


def _operations(module: Any, size: Size) -> int:
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        module.forward_features(torch.empty(1, 3, *size, device="meta"))
    return counter.get_total_flops()


def with_registers(name: str, arguments: dict[str, Any], registers: int) -> nn.Module:
    """timm's architecture ``name`` with so many registers and no head, without memory for its weights.

    :class:`InputError` says why it cannot be built; the caller says which key asked for it.
    """
    key = "num_reg_tokens" if "eva" in name or "dinov3" in name else "reg_tokens"
    try:
        with torch.device("meta"):
            return timm.create_model(name, pretrained=False, num_classes=0, **{**arguments, key: registers}).eval()
    except (TypeError, RuntimeError, AssertionError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise InputError(f"{name} cannot be built ({reason})") from None
