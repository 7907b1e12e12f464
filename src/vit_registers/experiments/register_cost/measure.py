"""What registers cost, counted: parameters, and operations of one image (Fig. 12 of darcet2024)."""

from typing import Any

from vit_registers.core.errors import InputError
from vit_registers.experiments.job import Job
from vit_registers.experiments.register_cost.params import Config, CountedArchitecture
from vit_registers.models.operations import count, with_registers


def _build(architecture: CountedArchitecture, registers: int) -> Any:
    try:
        return with_registers(architecture.name, architecture.arguments, registers)
    except InputError as error:
        raise InputError(f"experiments.register_cost.architectures: {error}") from None


def run(cfg: Config, job: Job) -> None:
    """Fill rows of each architecture with each number of registers."""
    for label, architecture in cfg.settings.architectures.items():
        plain: tuple[int, int] | None = None
        for registers in sorted({0, *cfg.settings.registers}):
            module = _build(architecture, registers)
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
