"""What registers cost, counted: parameters, and operations of one image (Fig. 12 of darcet2024).

Counted, not quoted and not timed, and on torch's meta device: no weights are needed, so that the papers' architectures
are counted on any machine.
"""

from typing import Any

import timm
import torch
from torch import nn

from vit_registers.core.errors import InputError
from vit_registers.experiments.job import Job
from vit_registers.experiments.register_cost.params import Config
from vit_registers.models.operations import count


def build(name: str, arguments: dict[str, Any], registers: int) -> nn.Module:
    """timm's architecture ``name`` with so many registers and no head, without memory for its weights."""
    key = "num_reg_tokens" if "eva" in name or "dinov3" in name else "reg_tokens"
    try:
        with torch.device("meta"):
            return timm.create_model(name, pretrained=False, num_classes=0, **{**arguments, key: registers}).eval()
    except (TypeError, RuntimeError, AssertionError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise InputError(f"experiments.register_cost.architectures: {name} cannot be built ({reason})") from None


def run(cfg: Config, job: Job) -> None:
    """Fill rows of each architecture with each number of registers."""
    for label, architecture in cfg.settings.architectures.items():
        plain: tuple[int, int] | None = None
        for registers in sorted({0, *cfg.settings.registers}):
            module: Any = build(architecture.name, architecture.arguments, registers)
            size = tuple(module.patch_embed.img_size)
            parameters, flops = count(module, size)
            plain = plain or (parameters, flops)
            values = {
                "architecture_parameters": float(parameters),
                "architecture_parameters_increase": parameters / plain[0] - 1.0,
                "flops": flops / 1e9,
                "flops_increase": flops / plain[1] - 1.0,
                "architecture_patches": float(module.patch_embed.num_patches),
            }
            for metric, value in values.items():
                job.rows.add(
                    metric,
                    value,
                    1,
                    architecture=label,
                    image_height=size[0],
                    image_width=size[1],
                    registers=registers,
                )
