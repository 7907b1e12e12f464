"""Batches whose progress a person can watch."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from vit_registers.extraction.images import Batches


class Watched:
    """Passes on the batches of ``images``, and moves a bar on stderr if that is a terminal; none where ``quiet``."""

    def __init__(self, images: Batches, quiet: bool = False) -> None:
        self.images = images
        self.disable = True if quiet else None  # as tqdm has it: None looks at stderr
        self.bar: Any = None

    @contextmanager
    def phase(self, what: str, images: int) -> Iterator[None]:
        """A bar for so many ``images``, called ``what``."""
        with tqdm(total=images, desc=what, unit="img", disable=self.disable) as self.bar:
            yield
        self.bar = None

    def batches(self, numbers: Sequence[NDArray[np.int64]]) -> Iterator[Tensor]:
        """The batches; the bar moves when one has passed."""
        for rows, pixels in zip(numbers, self.images.batches(numbers), strict=True):
            yield pixels
            if self.bar is not None:
                self.bar.update(len(rows))
