"""Above which norm a patch is an outlier, and at which blocks that is looked at: for interventions on outlier patches.

Thresholds are those of detection, of each block its own; an intervention sees them in what detection wrote.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from vit_registers.core import prose
from vit_registers.core.errors import InputError
from vit_registers.interventions.base import Known, NotApplicable

if TYPE_CHECKING:
    from torch import Tensor

    from vit_registers.models.layout import TokenLayout

# Blocks whose outputs are changed: the first that has artifacts, the one that decided whether there are some, all, or
# one by its number.
At = Literal["arising", "deciding", "every"] | int
Limits = tuple[tuple[int, float], ...]  # (layer, threshold), by layer


def where(at: At) -> str:
    """The blocks in a sentence."""
    if isinstance(at, int):
        return prose.block(at)
    return {
        "arising": "the first block that has artifacts",
        "deciding": "the block that decided whether there are artifacts",
        "every": "every block",
    }[at]


def at_label(at: At, default: At) -> str:
    """What labels add where the blocks are not those that are usual."""
    return "" if at == default else f" at {where(at)}"


def layer_of(at: int, depth: int, known: Known) -> int:
    """A block counted from 0; :class:`InputError` for one that is not there."""
    if not -depth <= at < depth:
        raise InputError(
            f"condition '{known.condition}': at: block {at} of a model of {depth} blocks; expected {-depth} to "
            f"{depth - 1}"
        )
    return at % depth


def limits(at: At, depth: int, known: Known) -> Limits | NotApplicable:
    """Thresholds by layer of the blocks that are meant; not applicable where detection found no outlier patches.

    Whether it found neurons behind them does not matter here.
    """
    found = known.registers
    if found is None:
        raise InputError(f"condition '{known.condition}' changes outlier patches; detect them first")
    if not found["found"] and not found.get("images_ranked"):
        return NotApplicable(found["reason"])
    if isinstance(at, int):
        layers = [layer_of(at, depth, known)]
    else:
        layers = {"arising": [found["first_layer"]], "deciding": [found["outlier_layer"]], "every": [*range(depth)]}[at]
    return tuple((int(layer), float(found["threshold_by_layer"][layer])) for layer in layers)


def norms(tokens: Tensor, layout: TokenLayout) -> Tensor:
    """L2 norms (b, p), in fp32 or better, of the patches among ``tokens`` (b, t, d), as detection takes them."""
    import torch

    dtype = torch.promote_types(tokens.dtype, torch.float32)
    return torch.linalg.vector_norm(tokens[:, layout.patch_slice], dim=-1, dtype=dtype)
