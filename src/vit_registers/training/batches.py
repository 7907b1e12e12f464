"""Training images, batch by batch: what a step sees is a function of (seed, draws, epoch, step), not of the past."""

from collections.abc import Iterator
from typing import Protocol

from torch import Tensor

from vit_registers.core.errors import InputError
from vit_registers.data.manifest import Manifest
from vit_registers.models.preprocess import Preprocess
from vit_registers.pipeline.configs import TrainConfig

Batch = tuple[int, Tensor, Tensor]  # number of the micro-batch, and what the recipe's objective takes: see its loss


class Batches(Protocol):
    """Training images of one recipe: ``per_epoch`` steps make an epoch."""

    preprocess: Preprocess
    per_epoch: int

    def steps(self, epoch: int, first: int, micro_batches: list[int]) -> Iterator[list[Batch]]:
        """Of each step of an epoch, from ``first`` on, those ``micro_batches``."""
        ...


def batches(cfg: TrainConfig, manifest: Manifest) -> Batches:
    """The images of split train, as the recipe wants them; :class:`InputError` where they are not enough for a step."""
    found: Batches = cfg.recipe.batches(cfg, manifest)
    if not found.per_epoch:
        images = cfg.recipe.batch_size * cfg.recipe.micro_batches
        raise InputError(
            f"data set '{manifest.name}': {len(manifest.rows('train'))} training images, but a step of '{cfg.name}' "
            f"takes {images}; lower batch_size or micro_batches"
        )
    return found
