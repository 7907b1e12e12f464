"""What is watched while a model trains: patch norms and attention on the same images after every epoch.

Norms as darcet2024 and bach2025 plot them, attention of [CLS] and registers at the last block as bach2025 does.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vit_registers.core.errors import InputError
from vit_registers.core.files import replacing
from vit_registers.core.linalg import cosines
from vit_registers.models.preprocess import Preprocess
from vit_registers.training.attention_maps import last_rows

BATCH = 250  # images per pass
OUTLIER = 3.0  # times the median norm of a block: what counts as far above
COLUMNS = ("norm_median", "norm_p99", "norm_max", "share_above")


@contextmanager
def _outputs(module: nn.Module) -> Iterator[list[Tensor]]:
    """Raw outputs of the blocks of whatever passes, in order."""
    caught: list[Tensor] = []
    blocks: Any = module.blocks
    handles = [block.register_forward_hook(lambda m, i, output: caught.append(output)) for block in blocks]
    try:
        yield caught
    finally:
        for handle in handles:
            handle.remove()


@torch.no_grad()
def after_epoch(
    module: nn.Module, images: Tensor, preprocess: Preprocess, whole: int
) -> tuple[list[list[float]], dict[str, Tensor]]:
    """One pass of uint8 images (n, 3, s, s): for each block the numbers of ``COLUMNS``, and the attention.

    Attention: what :func:`_attention` says, maps of the first ``whole`` images. Precision is full whatever the
    training's; the module is left in training mode.
    """
    module.eval()
    device = next(module.parameters()).device
    prefix: Any = module.num_prefix_tokens
    norms: list[list[Tensor]] = []
    with _outputs(module) as caught, last_rows(module) as rows:
        for batch in images.split(BATCH):
            module(preprocess.normalise(batch.to(device)))
            norms.append([tokens[:, prefix:].norm(dim=-1).cpu() for tokens in caught])
            caught.clear()
        if len(rows) != len(norms):
            raise InputError(
                f"{len(rows)} of {len(norms)} passes attended through F.scaled_dot_product_attention at the last "
                "block; what bypasses it cannot be watched, train another architecture"
            )
        maps = torch.cat([found[:, :, prefix:].cpu() for found in rows])
    module.train()
    grid: Any = module.patch_embed.grid_size  # type: ignore[union-attr]
    cls = int(module.cls_token is not None)
    return [_summary(torch.cat(of_block)) for of_block in zip(*norms, strict=True)], _attention(maps, cls, grid, whole)


def _summary(norms: Tensor) -> list[float]:
    """The numbers of ``COLUMNS`` of a block's norms (n, p): median, 99th percentile, mean over images of the largest,
    and share above three medians.
    """
    pooled = norms.double().numpy()
    median = np.median(pooled)
    values = (median, np.percentile(pooled, 99), pooled.max(axis=1).mean(), (pooled > OUTLIER * median).mean())
    return [float(value) for value in values]


def _attention(maps: Tensor, cls: int, grid: tuple[int, int], whole: int) -> dict[str, Tensor]:
    """What is kept of an epoch's maps (n, cls + r, p), on their ``grid`` (h, w).

    ``maps`` (whole, cls + r, h, w): of the first images. ``focus`` (cls + r, h, w): mean over all images. And for each
    image (n,) the cosines of :func:`alike.cosines` that there are.
    """
    kept = {"maps": maps[:whole].clone(), "focus": maps.mean(0, dtype=torch.float64).float()}
    kept = {name: values.unflatten(-1, grid) for name, values in kept.items()}
    return kept | {name: torch.from_numpy(values).float() for name, values in cosines(maps.numpy(), cls).items()}


def save_attention(epochs: Sequence[dict[str, Tensor]], images: Tensor, path: Path) -> None:
    """Write what was kept after each of the ``epochs`` as npz, epoch first, the same bytes for the same content.

    Arrays: those of :func:`_attention` stacked, and ``images`` (whole, s, s, 3) uint8, the first of ``images``
    (n, 3, s, s).
    """
    arrays = {name: torch.stack([epoch[name] for epoch in epochs]).numpy() for name in epochs[0]}
    arrays["images"] = images[: arrays["maps"].shape[1]].permute(0, 2, 3, 1).contiguous().numpy()
    with replacing(path) as temporary:
        np.savez_compressed(temporary, allow_pickle=False, **arrays)
