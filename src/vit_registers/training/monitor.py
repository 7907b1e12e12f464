"""Monitoring a training: patch norms and attention on the same images after every epoch.

Norms as darcet2024 and bach2025 plot them, attention of [CLS] and registers at the last block as bach2025 does, read by
the same pass as those of finished models. It draws nothing from any generator and keeps no graph: a training that is
monitored ends in the same weights as one that is not.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from typing_extensions import override

from vit_registers.core.files import replacing
from vit_registers.core.numerics.linalg import cosines
from vit_registers.forward.readers.base import Arrays, Reader, numpy
from vit_registers.forward.readers.norms import Norms
from vit_registers.forward.reading import reading
from vit_registers.models.attention import Attention
from vit_registers.models.backbone import Backbone
from vit_registers.models.layout import TokenLayout
from vit_registers.models.preprocess import Preprocess
from vit_registers.models.supported import layout_of

BATCH = 250  # images per pass
OUTLIER = 3.0  # times the median norm of a block: what counts as far above
COLUMNS = ("norm_median", "norm_p99", "norm_max", "share_above")


class LastAttention(Reader):
    """Attention of [CLS] and registers to patches at the last block, mean over heads, (b, cls + r, p) fp32.

    Extraction stores such rows in half precision; cosines of maps that hardly differ need more.
    """

    def __init__(self, backbone: Backbone, layout: TokenLayout) -> None:
        self.layout, self.last = layout, backbone.depth - 1

    @override
    def attention(self, layer: int, attention: Attention) -> None:
        if layer == self.last:
            self.rows = attention.rows(self.layout.specials).mean(1)[..., self.layout.patch_slice]

    @override
    def take(self) -> Arrays:
        return {"maps": numpy(self.rows)}


def after_epoch(
    module: nn.Module, images: Tensor, preprocess: Preprocess, maps: int
) -> tuple[list[list[float]], dict[str, Tensor]]:
    """One pass of uint8 images (n, 3, s, s): for each block the numbers of ``COLUMNS``, and what images gave.

    That is what :func:`_attention` says, maps of the first ``maps`` images, and :func:`_by_image`. Precision is full
    whatever the training's; the module is left in training mode.
    """
    module.eval()
    backbone = Backbone("in training", module, layout_of(module, "in training"), preprocess, {})
    layout = backbone.layout
    readers = Norms(backbone, layout), LastAttention(backbone, layout)
    batches: list[Arrays] = []
    with reading(backbone, readers, "fp32") as forward:
        for batch in images.split(BATCH):
            forward(preprocess.normalise(batch.to(backbone.device)))
            batches.append({name: array for reader in readers for name, array in reader.take().items()})
    module.train()
    norms, attention = (np.concatenate([arrays[name] for arrays in batches]) for name in ("norms", "maps"))
    of_patches = norms[:, :, layout.patch_slice]  # (n, layers, p)
    summaries = [_summary(of_patches[:, layer]) for layer in range(backbone.depth)]
    return summaries, _attention(torch.from_numpy(attention), layout, maps) | _by_image(of_patches)


def _summary(norms: NDArray[np.float32]) -> list[float]:
    """The numbers of ``COLUMNS`` of a block's norms (n, p): median, 99th percentile, mean over images of the largest,
    and share above three medians.
    """
    pooled = norms.astype(np.float64)
    median = np.median(pooled)
    values = (median, np.percentile(pooled, 99), pooled.max(axis=1).mean(), (pooled > OUTLIER * median).mean())
    return [float(value) for value in values]


def _by_image(norms: NDArray[np.float32]) -> dict[str, Tensor]:
    """Those of ``COLUMNS`` that are means over images, of each image: (layers, n) from norms (n, layers, p)."""
    medians = np.median(norms.astype(np.float64), axis=(0, 2))[:, None]
    values = {"norm_max": norms.max(axis=2), "share_above": (norms > OUTLIER * medians).mean(axis=2)}
    return {name: torch.from_numpy(of_images.T.astype(np.float32)).contiguous() for name, of_images in values.items()}


def _attention(attention: Tensor, layout: TokenLayout, maps: int) -> dict[str, Tensor]:
    """What is kept of an epoch's attention (n, cls + r, p).

    ``maps`` (``maps``, cls + r, h, w): of the first images. ``focus`` (cls + r, h, w): mean over all images. And for
    each image (n,) the cosines of :func:`linalg.cosines` that there are.
    """
    kept = {"maps": attention[:maps].clone(), "focus": attention.mean(0, dtype=torch.float64).float()}
    kept = {name: values.unflatten(-1, layout.grid) for name, values in kept.items()}
    found = cosines(attention.numpy(), layout.cls)
    return kept | {name: torch.from_numpy(values).float() for name, values in found.items()}


def save_attention(epochs: Sequence[dict[str, Tensor]], images: Tensor, path: Path) -> None:
    """Write what was kept after each of the ``epochs`` as npz, epoch first, the same bytes for the same content.

    Arrays: those of :func:`_attention` and :func:`_by_image` stacked, and ``images`` (maps, s, s, 3) uint8, the first
    of ``images`` (n, 3, s, s).
    """
    arrays = {name: torch.stack([epoch[name] for epoch in epochs]).numpy() for name in epochs[0]}
    arrays["images"] = images[: arrays["maps"].shape[1]].permute(0, 2, 3, 1).contiguous().numpy()
    with replacing(path) as temporary:
        np.savez_compressed(temporary, allow_pickle=False, **arrays)
