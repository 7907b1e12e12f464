"""Images of a manifest as uint8 batches, decoded while the model computes, kept in memory where they fit."""

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vit_registers.backbones.backbone import Preprocess
from vit_registers.data.images import load_image
from vit_registers.data.manifest import Manifest

CACHE_BYTES = 1 << 30  # of decoded uint8 images; a larger data set is decoded again for every condition
DECODERS = 4


class Images:
    """Batches of a manifest's images; several conditions over one data set decode it once if it fits in the cache."""

    def __init__(self, manifest: Manifest, preprocess: Preprocess) -> None:
        self.manifest, self.preprocess = manifest, preprocess
        bytes_needed = len(manifest.table) * 3 * preprocess.size**2
        self.cache: dict[int, Tensor] | None = {} if bytes_needed <= CACHE_BYTES else None

    def _load(self, row: int) -> Tensor:
        if self.cache is not None and row in self.cache:
            return self.cache[row]
        pixels = self.preprocess.pixels(load_image(self.manifest.file(row)))
        if self.cache is not None:
            self.cache[row] = pixels
        return pixels

    def batches(self, rows: Sequence[NDArray[np.int64]]) -> Iterator[Tensor]:
        """One normalised float32 batch (b, 3, s, s) per entry of ``rows``; the next one is decoded meanwhile."""
        with ThreadPoolExecutor(DECODERS) as pool:

            def start(batch: NDArray[np.int64]) -> list[Future[Tensor]]:
                return [pool.submit(self._load, int(row)) for row in batch]

            ahead = start(rows[0]) if len(rows) else []
            for i in range(len(rows)):
                current, ahead = ahead, start(rows[i + 1]) if i + 1 < len(rows) else []
                yield self.preprocess.normalise(torch.stack([future.result() for future in current]))
