"""Images of a manifest as batches, decoded while the model computes, kept in memory where they fit."""

import math
from collections import deque
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
from vit_registers.params.passes import Loading

CACHE_BYTES = 1 << 30  # of decoded uint8 images; a larger data set is decoded again for every condition


class Batches(Protocol):
    """Images that come in batches, wherever they are."""

    def batches(self, numbers: Sequence[NDArray[np.int64]]) -> Iterator[Tensor]:
        """One normalised float32 batch (b, 3, h, w) per entry of ``numbers``."""


class Images:
    """Batches of a manifest's images; several conditions over one data set decode it once if it fits in the cache.

    Images are asked for by number, as the manifest counts them: second views have numbers of their own. At most
    ``views`` of these are asked for.

    ``loading``: how many threads decode (PIL decodes and resizes outside of Python's lock), and how many batches are
    made ahead. For a model on CUDA batches are made in page-locked memory, from which the device copies while it
    computes, and images of the model's own size are normalised there: a quarter of the bytes is copied.
    """

    def __init__(
        self,
        manifest: Manifest,
        preprocess: Preprocess,
        device: torch.device | None = None,
        loading: Loading | None = None,
        views: int = 0,
    ) -> None:
        self.manifest, self.preprocess = manifest, preprocess
        self.device, self.loading = device or torch.device("cpu"), loading or Loading()
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
        """One normalised float32 batch (b, 3, h, w) per entry of ``numbers``, further ones made meanwhile."""
        normalise = self.preprocess.normalise
        if self.device.type != "cuda":
            yield from self._ahead(numbers, self._load, normalise)
            return
        for pixels in self._ahead(numbers, self._load, torch.Tensor.pin_memory):
            yield normalise(pixels.to(self.device, non_blocking=True))

    def native(self, rows: Sequence[NDArray[np.int64]], patch: Size) -> Iterator[Tensor]:
        """The same at the images' own size, padded to whole patches: one padded size in each batch."""

        def finish(stacked: Tensor) -> Tensor:
            return stacked.pin_memory() if self.device.type == "cuda" else stacked

        return self._ahead(rows, lambda row: self._load_native(row, patch), finish)

    def _ahead(
        self,
        numbers: Sequence[NDArray[np.int64]],
        load: Callable[[int], Tensor],
        finish: Callable[[Tensor], Tensor],
    ) -> Iterator[Tensor]:
        """A batch per entry of ``numbers``, in their order; ``ahead`` further ones are under way when one is given."""
        decoders, maker = ThreadPoolExecutor(self.loading.workers), ThreadPoolExecutor(1)

        def make(decoded: list[Future[Tensor]]) -> Tensor:
            return finish(torch.stack([future.result() for future in decoded]))

        try:
            under_way: deque[Future[Tensor]] = deque()
            for batch in numbers:
                under_way.append(maker.submit(make, [decoders.submit(load, int(number)) for number in batch]))
                if len(under_way) > self.loading.ahead:
                    yield under_way.popleft().result()
            while under_way:
                yield under_way.popleft().result()
        finally:  # who asks for no more, or is refused an image, need not wait for what is under way
            decoders.shutdown(cancel_futures=True)
            maker.shutdown(cancel_futures=True)
