"""Images read from their files in other processes, each augmented as its own seed says."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from vit_registers.data.images import load_image
from vit_registers.data.manifest import Manifest
from vit_registers.training.randomness import seeded

Order = Sequence[tuple[int, int]]  # row of the manifest and seed, image by image


class Augmenting(Dataset[tuple[Any, int]]):
    """What ``transform`` makes of images of a manifest, and their labels, by (row, seed)."""

    def __init__(self, manifest: Manifest, transform: Callable[[Image.Image], Any]) -> None:
        self.manifest, self.transform = manifest, transform
        self.labels = manifest.table["label"].to_numpy()

    def __getitem__(self, index: tuple[int, int]) -> tuple[Any, int]:
        """What the seed makes of the image of a row, and its label."""
        row, seed = index
        with seeded(seed):
            return self.transform(load_image(self.manifest.file(row))), int(self.labels[row])


def read(
    data: Augmenting, orders: Sequence[Order], size: int, steps: Sequence[int], workers: int
) -> Iterator[list[tuple[Any, Tensor]]]:
    """Of each of the ``steps``, one batch of ``size`` images and labels for each of the ``orders``.

    How many ``workers`` read is of no consequence to what they read.
    """
    wanted = [order[step * size : (step + 1) * size] for step in steps for order in orders]
    loader = iter(DataLoader(data, batch_sampler=wanted, num_workers=workers))  # type: ignore[arg-type]
    for _ in steps:
        yield [next(loader) for _ in orders]
