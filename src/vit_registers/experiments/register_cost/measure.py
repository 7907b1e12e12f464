"""The step that counts what registers cost: parameters, and operations of one image (Fig. 12 of darcet2024).

Counted, not quoted and not timed, and on torch's meta device: no weights are needed, so that the papers' architectures
are counted on any machine.
"""

from pathlib import Path
from typing import Any

import timm
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from vit_registers.core import table as metrics
from vit_registers.core.errors import InputError
from vit_registers.core.table import Metric
from vit_registers.pipeline.configs import CostStep


def count(module: nn.Module, size: tuple[int, int]) -> tuple[int, int]:
    """Parameters, and floating-point operations of one image (a multiplication and an addition are two)."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        module.forward_features(torch.empty(1, 3, *size, device="meta"))  # type: ignore[operator]
    return sum(parameter.numel() for parameter in module.parameters()), counter.get_total_flops()


def build(name: str, arguments: dict[str, Any], registers: int) -> nn.Module:
    """timm's architecture ``name`` with so many registers and no head, without memory for its weights."""
    key = "num_reg_tokens" if "eva" in name or "dinov3" in name else "reg_tokens"
    try:
        with torch.device("meta"):
            return timm.create_model(name, pretrained=False, num_classes=0, **{**arguments, key: registers}).eval()
    except (TypeError, RuntimeError, AssertionError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise InputError(f"params: cost.architectures: {name} cannot be built ({reason})") from None


def run(cfg: CostStep, out: Path) -> None:
    """Write rows of the tidy table to ``out``: each architecture with each number of registers."""
    rows: list[Metric] = []
    for label, architecture in cfg.architectures.items():
        plain: tuple[int, int] | None = None
        for registers in sorted({0, *cfg.registers}):
            module: Any = build(architecture.name, architecture.arguments, registers)
            size = tuple(module.patch_embed.img_size)
            parameters, flops = count(module, size)
            plain = plain or (parameters, flops)
            values = {
                "parameters": (float(parameters), "parameters"),
                "parameters_increase": (parameters / plain[0] - 1.0, "fraction"),
                "flops": (flops / 1e9, "GFLOP"),
                "flops_increase": (flops / plain[1] - 1.0, "fraction"),
                "patches": (float(module.patch_embed.num_patches), "count"),
            }
            rows += [
                Metric(label, f"{size[0]}x{size[1]}", f"{registers} registers", "cost", metric, value, unit, 1)
                for metric, (value, unit) in values.items()
            ]
    metrics.write(metrics.frame(rows), out)
