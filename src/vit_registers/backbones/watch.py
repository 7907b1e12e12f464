"""What is watched while a model trains: patch norms on the same images after every epoch (bach2025, darcet2024)."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vit_registers.backbones.preprocess import Preprocess

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
def patch_norms(module: nn.Module, images: Tensor, preprocess: Preprocess) -> list[list[float]]:
    """For each block median, 99th percentile, mean over images of the largest, and share above three medians.

    ``images`` uint8 (n, 3, s, s). Precision is full whatever the training's; the module is left in training mode.
    """
    module.eval()
    device = next(module.parameters()).device
    norms: list[list[Tensor]] = []
    with _outputs(module) as caught:
        for batch in images.split(BATCH):
            module(preprocess.normalise(batch.to(device)))
            norms.append([tokens[:, module.num_prefix_tokens :].norm(dim=-1).cpu() for tokens in caught])  # type: ignore[misc]
            caught.clear()
    module.train()
    return [_summary(torch.cat(of_block)) for of_block in zip(*norms, strict=True)]


def _summary(norms: Tensor) -> list[float]:
    """The numbers of ``COLUMNS`` of a block's norms (n, p)."""
    pooled = norms.double().numpy()
    median = np.median(pooled)
    values = (median, np.percentile(pooled, 99), pooled.max(axis=1).mean(), (pooled > OUTLIER * median).mean())
    return [float(value) for value in values]
