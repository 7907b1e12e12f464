"""Training images, batch by batch: what a step sees is a function of (seed, model, epoch, step), not of the past."""

from collections.abc import Iterator
from typing import Protocol

import torch
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.data.distributed_sampler import RepeatAugSampler
from timm.data.mixup import Mixup
from timm.data.transforms_factory import transforms_imagenet_train
from torch import Tensor

from vit_registers.core.errors import InputError
from vit_registers.core.seeds import derive, generator
from vit_registers.data.manifest import Manifest
from vit_registers.models.preprocess import Preprocess, load_pixels
from vit_registers.params import Deit3Recipe, DinoRecipe, SmallRecipe
from vit_registers.pipeline.slices import TrainStep
from vit_registers.training.augmentation import geometric
from vit_registers.training.augmentation.multicrop import MultiCropped
from vit_registers.training.randomness import seeded
from vit_registers.training.reading import Augmenting, read

Batch = tuple[int, Tensor, Tensor]  # shard, and what the objective of the recipe compares: see its loss


class Batches(Protocol):
    """Training images of one recipe."""

    preprocess: Preprocess
    per_epoch: int

    def steps(self, epoch: int, first: int, shards: list[int]) -> Iterator[list[Batch]]:
        """Of each step of an epoch, from ``first`` on, the batches of those ``shards``."""
        ...


def batches(cfg: TrainStep, manifest: Manifest) -> Batches:
    """The images of split train, as the recipe wants them; :class:`InputError` where they are not enough for a step."""
    found: Batches
    if isinstance(cfg.recipe, Deit3Recipe):
        found = Augmented(cfg, cfg.recipe, manifest)
    elif isinstance(cfg.recipe, DinoRecipe):
        found = MultiCropped(cfg, cfg.recipe, manifest)
    else:
        found = Cached(cfg, cfg.recipe, manifest)
    if not found.per_epoch:
        images = cfg.recipe.batch_size * cfg.recipe.shards
        raise InputError(
            f"data set '{manifest.name}': {len(manifest.rows('train'))} training images, but a step of '{cfg.name}' "
            f"takes {images}; lower batch_size or shards"
        )
    return found


class Cached:
    """All images in memory, each flipped, turned or shifted by its own draw: the small recipe."""

    def __init__(self, cfg: TrainStep, recipe: SmallRecipe, manifest: Manifest) -> None:
        size = recipe.architecture.image_size
        self.preprocess = Preprocess.square(size, size, "bicubic", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
        self.images, self.labels = load_pixels(manifest, manifest.rows("train"), self.preprocess)
        self.cfg, self.size, self.shards = cfg, recipe.batch_size, recipe.shards
        self.draw, self.augmented = geometric.AUGMENTATIONS[recipe.augmentation]
        self.per_epoch = len(self.images) // (self.size * self.shards)

    def steps(self, epoch: int, first: int, shards: list[int]) -> Iterator[list[Batch]]:
        """See :class:`Batches`."""
        rng = generator(self.cfg.seed, "epoch", self.cfg.name, epoch)
        order = rng.permutation(len(self.images))
        draws = self.draw(rng, len(self.images), self.images.shape[-1])
        for step in range(first, self.per_epoch):
            of_step: list[Batch] = []
            for shard in shards:
                start = (step * self.shards + shard) * self.size
                chosen = slice(start, start + self.size)
                rows = torch.from_numpy(order[chosen])
                inputs = self.preprocess.normalise(self.augmented(self.images[rows], draws[chosen]))
                of_step.append((shard, inputs, self.labels[rows]))
            yield of_step


class Augmented:
    """Images from their files through ThreeAugment, repeated, then mixed: DeiT-III, from timm's parts.

    Repeated augmentation hands the repeats of an image to different shards, as DeiT's sampler to different GPUs; each
    shard is mixed by itself, as each GPU does.
    """

    def __init__(self, cfg: TrainStep, recipe: Deit3Recipe, manifest: Manifest) -> None:
        size = recipe.architecture.image_size
        mean, std = IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
        self.preprocess = Preprocess.square(size, size, "bicubic", mean, std)  # evaluated without a margin
        transform = transforms_imagenet_train(
            size,
            auto_augment="3a",
            color_jitter=recipe.color_jitter,
            force_color_jitter=True,  # timm leaves it out where it augments otherwise
            interpolation="bicubic",
            mean=mean,
            std=std,
        )
        self.rows = manifest.rows("train")
        self.data = Augmenting(manifest, transform)
        self.mixup = None
        if recipe.mixup or recipe.cutmix:
            classes = len(manifest.classes)
            self.mixup = Mixup(recipe.mixup, recipe.cutmix, label_smoothing=0.0, num_classes=classes)
        self.cfg, self.recipe, self.classes = cfg, recipe, len(manifest.classes)
        self.per_epoch = len(self._sampler(0)) // recipe.batch_size

    def _sampler(self, shard: int) -> RepeatAugSampler:
        return RepeatAugSampler(self.rows, self.recipe.shards, shard, num_repeats=self.recipe.repeats)

    def _order(self, epoch: int, shard: int) -> list[tuple[int, int]]:
        """Row and seed of every image that a shard sees in an epoch."""
        sampler = self._sampler(shard)
        sampler.set_epoch(derive(self.cfg.seed, "epoch", self.cfg.name, epoch))
        return [
            (int(self.rows[index]), derive(self.cfg.seed, "augment", self.cfg.name, epoch, shard, place))
            for place, index in enumerate(sampler)
        ]

    def steps(self, epoch: int, first: int, shards: list[int]) -> Iterator[list[Batch]]:
        """See :class:`Batches`."""
        orders, steps = [self._order(epoch, shard) for shard in shards], range(first, self.per_epoch)
        read_in = read(self.data, orders, self.recipe.batch_size, steps, self.recipe.workers)
        for step, of_step in zip(steps, read_in, strict=True):
            yield [self._mixed(epoch, step, shard, *batch) for shard, batch in zip(shards, of_step, strict=True)]

    def _mixed(self, epoch: int, step: int, shard: int, images: Tensor, labels: Tensor) -> Batch:
        if self.mixup is None:
            return shard, images, torch.nn.functional.one_hot(labels, self.classes).float()
        with seeded(derive(self.cfg.seed, "mix", self.cfg.name, epoch, step, shard)):
            return (shard, *self.mixup(images, labels))
