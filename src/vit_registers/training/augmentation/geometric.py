"""Flips, quarter turns and shifts of whole batches of images, each image by its own draw."""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vit_registers.core.seeds import generator
from vit_registers.data.manifest import Manifest
from vit_registers.models.preprocess import Preprocess, load_pixels
from vit_registers.pipeline.configs import TrainConfig
from vit_registers.training.batches import Batch
from vit_registers.training.recipes.small import SmallRecipe

Draws = NDArray[np.int64]
MARGIN = 8  # a crop may leave the image by one part in so many of its side


def dihedral(images: Tensor, draw: Draws) -> Tensor:
    """Each image (n, 3, s, s) turned and mirrored by its own element 0..7 of the square's symmetries ``draw`` (n,)."""
    out = torch.empty_like(images)
    for element in range(8):
        rows = torch.from_numpy(np.flatnonzero(draw == element))
        turned = torch.rot90(images[rows], element % 4, dims=(2, 3))
        out[rows] = turned.flip(3) if element >= 4 else turned
    return out


def mirrored(images: Tensor, draw: Draws) -> Tensor:
    """Each image (n, 3, s, s) flipped from left to right where its ``draw`` (n,) is 1."""
    flipped = torch.from_numpy(draw == 1).view(-1, 1, 1, 1)
    return torch.where(flipped, images.flip(3), images)


def cropped(images: Tensor, draw: Draws) -> Tensor:
    """Each image (n, 3, s, s) framed in zeros, cut out from row and column ``draw`` (n, 3) of the frame, mirrored.

    The frame is s // 8 wide; the third of a draw says whether what was cut out is mirrored.
    """
    side, margin = images.shape[3], images.shape[3] // MARGIN
    framed = torch.nn.functional.pad(images, (margin,) * 4)
    steps = torch.arange(side)
    top, left, mirror = torch.from_numpy(draw).unsqueeze(2).unbind(1)  # (n, 1) each
    rows, columns = top + steps, left + torch.where(mirror == 1, side - 1 - steps, steps)  # (n, s) each
    each = torch.arange(len(images)).view(-1, 1, 1)
    return framed[each, :, rows.unsqueeze(2), columns.unsqueeze(1)].permute(0, 3, 1, 2)


def _crops(rng: np.random.Generator, count: int, side: int) -> Draws:
    places = rng.integers(2 * (side // MARGIN) + 1, size=(count, 2))
    return np.column_stack((places, rng.integers(2, size=count)))


Draw = Callable[[np.random.Generator, int, int], Draws]
# By name in params: what is drawn for so many images of a side, and what is done to a batch by its part of that.
AUGMENTATIONS: dict[str, tuple[Draw, Callable[[Tensor, Draws], Tensor]]] = {
    "dihedral": (lambda rng, count, side: rng.integers(8, size=count), dihedral),
    "mirror": (lambda rng, count, side: rng.integers(2, size=count), mirrored),
    "crop": (_crops, cropped),
    "none": (lambda rng, count, side: np.zeros(count, np.int64), lambda images, draw: images),
}


class InMemory:
    """All images in memory, each flipped, turned or shifted by its own draw: the small recipe."""

    def __init__(self, cfg: TrainConfig, recipe: SmallRecipe, manifest: Manifest) -> None:
        size = recipe.architecture.image_size
        self.preprocess = Preprocess.square(size, size, "bicubic", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
        self.images, self.labels = load_pixels(manifest, manifest.rows("train"), self.preprocess)
        self.cfg, self.size, self.micro_batches = cfg, recipe.batch_size, recipe.micro_batches
        self.draw, self.augmented = AUGMENTATIONS[recipe.augmentation]
        self.per_epoch = len(self.images) // (self.size * self.micro_batches)

    def steps(self, epoch: int, first: int, micro_batches: list[int]) -> Iterator[list[Batch]]:
        """See :class:`vit_registers.training.batches.Batches`."""
        rng = generator(self.cfg.seed, "epoch", self.cfg.drawn_as, epoch)
        order = rng.permutation(len(self.images))
        draws = self.draw(rng, len(self.images), self.images.shape[-1])
        for step in range(first, self.per_epoch):
            of_step: list[Batch] = []
            for micro_batch in micro_batches:
                start = (step * self.micro_batches + micro_batch) * self.size
                chosen = slice(start, start + self.size)
                rows = torch.from_numpy(order[chosen])
                inputs = self.preprocess.normalise(self.augmented(self.images[rows], draws[chosen]))
                of_step.append((micro_batch, inputs, self.labels[rows]))
            yield of_step
