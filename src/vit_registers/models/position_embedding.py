"""A ViT at another input size: position embeddings resampled in a stated way, rotary ones recomputed."""

import copy
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vit_registers.data.transforms import Size
from vit_registers.models.resampling import PositionResampling


def resampled(positions: Tensor, prefix: int, old: Size, new: Size, how: PositionResampling) -> Tensor:
    """Position embeddings (1, prefix + patches, d) of the grid ``old`` for the grid ``new``; the prefix is kept."""
    grid = positions[:, prefix:].float().unflatten(1, old).permute(0, 3, 1, 2)  # (1, d, h, w)
    if how.offset:
        ratio = [(n + how.offset) / o for n, o in zip(new, old, strict=True)]
        grid = F.interpolate(grid, scale_factor=ratio, mode="bicubic")
    else:
        grid = F.interpolate(grid, size=new, mode="bicubic", antialias=how.antialias)
    patches = grid.permute(0, 2, 3, 1).flatten(1, 2).to(positions.dtype)
    return torch.cat([positions[:, :prefix], patches], dim=1)


def at_size(module: Any, size: Size, how: PositionResampling) -> nn.Module:
    """``module`` for images of ``size`` (height, width): a copy that shares all weights but position embeddings."""
    sized: Any = copy.deepcopy(module, {id(weights): weights for weights in module.parameters()})
    if size == tuple(module.patch_embed.img_size):
        return sized  # type: ignore[no-any-return]
    with torch.no_grad():
        sized.set_input_size(img_size=size)
        if module.pos_embed is not None:
            prefix = 0 if module.no_embed_class else module.num_prefix_tokens
            old, new = (tuple(m.patch_embed.grid_size) for m in (module, sized))
            positions = resampled(module.pos_embed, prefix, old, new, how)
            sized.pos_embed = nn.Parameter(positions, requires_grad=module.pos_embed.requires_grad)
    return sized  # type: ignore[no-any-return]
