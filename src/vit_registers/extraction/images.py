"""Images of a manifest as batches, decoded while the model computes, kept in memory where they fit."""

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vit_registers.data.images import load_image
from vit_registers.data.manifest import Manifest
from vit_registers.data.transforms import Size
from vit_registers.models.preprocess import Preprocess

CACHE_BYTES = 1 << 30  # of decoded uint8 images; a larger data set is decoded again for every condition
DECODERS = 4


class Batches(Protocol):
    """Images that come in batches, wherever they are."""

    def batches(self, numbers: Sequence[NDArray[np.int64]]) -> Iterator[Tensor]:
        """One normalised float32 batch (b, 3, h, w) per entry of ``numbers``."""


class Images:
    """Batches of a manifest's images; several conditions over one data set decode it once if it fits in the cache.

    Images are asked for by number, as the manifest counts them: second views have numbers of their own. At most
    ``views`` of these are asked for. ``pinned``: batches are made in page-locked memory, from which a CUDA device
    copies while it computes.
    """

    def __init__(self, manifest: Manifest, preprocess: Preprocess, pinned: bool = False, views: int = 0) -> None:
        self.manifest, self.preprocess, self.pinned = manifest, preprocess, pinned
        bytes_needed = (len(manifest.table) + views) * 3 * math.prod(preprocess.size)
        self.cache: dict[int, Tensor] | None = {} if bytes_needed <= CACHE_BYTES else None

    def _load(self, number: int) -> Tensor:
        if self.cache is not None and number in self.cache:
            return self.cache[number]
        pixels = self.preprocess.pixels(load_image(self.manifest.picture(number)))
        if self.cache is not None:
            self.cache[number] = pixels
        return pixels

    def _load_native(self, row: int, patch: Size) -> Tensor:
        image = load_image(self.manifest.file(row))
        return self.preprocess.padded(torch.from_numpy(np.array(image)).permute(2, 0, 1), patch)

    def batches(self, numbers: Sequence[NDArray[np.int64]]) -> Iterator[Tensor]:
        """One normalised float32 batch (b, 3, h, w) per entry of ``numbers``, the next one made meanwhile."""
        return self._ahead(numbers, self._load, self.preprocess.normalise)

    def native(self, rows: Sequence[NDArray[np.int64]], patch: Size) -> Iterator[Tensor]:
        """The same at the images' own size, padded to whole patches: one padded size in each batch."""
        return self._ahead(rows, lambda row: self._load_native(row, patch), lambda stacked: stacked)

    def _ahead(
        self,
        rows: Sequence[NDArray[np.int64]],
        load: Callable[[int], Tensor],
        finish: Callable[[Tensor], Tensor],
    ) -> Iterator[Tensor]:
        with ThreadPoolExecutor(DECODERS) as decoders, ThreadPoolExecutor(1) as maker:

            def make(decoded: list[Future[Tensor]]) -> Tensor:
                batch = finish(torch.stack([future.result() for future in decoded]))
                return batch.pin_memory() if self.pinned else batch

            def start(batch: NDArray[np.int64]) -> Future[Tensor]:
                return maker.submit(make, [decoders.submit(load, int(row)) for row in batch])

            ahead = start(rows[0]) if len(rows) else None
            for i in range(len(rows)):
                assert ahead is not None
                current, ahead = ahead, start(rows[i + 1]) if i + 1 < len(rows) else None
                yield current.result()
