"""ThreeAugment, repeated augmentation, Mixup and CutMix: DeiT-III, from timm's parts."""

from collections.abc import Iterator

import torch
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.data.distributed_sampler import RepeatAugSampler
from timm.data.mixup import Mixup
from timm.data.transforms_factory import transforms_imagenet_train
from torch import Tensor

from vit_registers.core.seeds import derive
from vit_registers.data.manifest import Manifest
from vit_registers.models.preprocess import Preprocess
from vit_registers.pipeline.configs import TrainConfig
from vit_registers.training.batches import Batch
from vit_registers.training.randomness import seeded
from vit_registers.training.reading import Augmenting, read
from vit_registers.training.recipes.deit3 import Deit3Recipe


class Repeated:
    """Images from their files through ThreeAugment, repeated, then mixed: DeiT-III, from timm's parts.

    Repeated augmentation hands the repeats of an image to different micro-batches, as DeiT's sampler to different GPUs;
    each micro-batch is mixed by itself, as each GPU does.
    """

    def __init__(self, cfg: TrainConfig, recipe: Deit3Recipe, manifest: Manifest) -> None:
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

    def _sampler(self, micro_batch: int) -> RepeatAugSampler:
        return RepeatAugSampler(self.rows, self.recipe.micro_batches, micro_batch, num_repeats=self.recipe.repeats)

    def _order(self, epoch: int, micro_batch: int) -> list[tuple[int, int]]:
        """Row and seed of every image that a micro-batch sees in an epoch."""
        sampler = self._sampler(micro_batch)
        sampler.set_epoch(derive(self.cfg.seed, "epoch", self.cfg.drawn_as, epoch))
        return [
            (int(self.rows[index]), derive(self.cfg.seed, "augment", self.cfg.drawn_as, epoch, micro_batch, place))
            for place, index in enumerate(sampler)
        ]

    def steps(self, epoch: int, first: int, micro_batches: list[int]) -> Iterator[list[Batch]]:
        """See :class:`vit_registers.training.batches.Batches`."""
        orders = [self._order(epoch, micro_batch) for micro_batch in micro_batches]
        steps = range(first, self.per_epoch)
        read_in = read(self.data, orders, self.recipe.batch_size, steps, self.recipe.workers)
        for step, of_step in zip(steps, read_in, strict=True):
            numbered = zip(micro_batches, of_step, strict=True)
            yield [self._mixed(epoch, step, micro_batch, *batch) for micro_batch, batch in numbered]

    def _mixed(self, epoch: int, step: int, micro_batch: int, images: Tensor, labels: Tensor) -> Batch:
        if self.mixup is None:
            return micro_batch, images, torch.nn.functional.one_hot(labels, self.classes).float()
        with seeded(derive(self.cfg.seed, "mix", self.cfg.drawn_as, epoch, step, micro_batch)):
            return (micro_batch, *self.mixup(images, labels))
