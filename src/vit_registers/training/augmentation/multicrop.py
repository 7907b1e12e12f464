"""Multi-crop: two global and several local crops of every image, each with colours of its own (caron2021)."""

import random
from collections.abc import Callable, Iterator

import torch
from PIL import Image, ImageFilter, ImageOps
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import Tensor
from torchvision import transforms

from vit_registers.core.seeds import derive, generator
from vit_registers.data.manifest import Manifest
from vit_registers.models.preprocess import Preprocess
from vit_registers.pipeline.configs import TrainConfig
from vit_registers.training.batches import Batch
from vit_registers.training.reading import Augmenting, Order, read
from vit_registers.training.recipes.dino import DinoRecipe

Change = Callable[[Image.Image], Image.Image]


class _Blur:
    """Gaussian blur by a radius drawn between two, in pixels."""

    def __init__(self, radius: tuple[float, float]) -> None:
        self.radius = radius

    def __call__(self, image: Image.Image) -> Image.Image:
        return image.filter(ImageFilter.GaussianBlur(random.uniform(*self.radius)))


class MultiCrop:
    """RGB image to global crops (2, 3, s, s) and local crops (l, 3, t, t), as uint8: before they are normalised.

    Draws from the global generators, so whoever calls it seeds them.
    """

    def __init__(self, recipe: DinoRecipe) -> None:
        crops, blurs = recipe.crops, recipe.colours.blur_shares
        self.recipe = recipe
        self.size, self.local_size = recipe.architecture.image_size, crops.local_size
        first = self._crop(self.size, crops.global_scale, blurs[0])
        second = self._crop(self.size, crops.global_scale, blurs[1])
        solarise = transforms.RandomApply([ImageOps.solarize], recipe.colours.solarise_share)
        self.globals: list[Change] = [first, transforms.Compose([second, solarise])]
        self.locals: list[Change] = [self._crop(self.local_size, crops.local_scale, blurs[2])] * crops.local_crops

    def _crop(self, side: int, scale: tuple[float, float], blur: float) -> Change:
        colours = self.recipe.colours
        return transforms.Compose(
            [
                transforms.RandomResizedCrop(side, scale, interpolation=transforms.InterpolationMode.BICUBIC),
                transforms.RandomHorizontalFlip(),
                transforms.RandomApply([transforms.ColorJitter(*colours.jitter)], colours.jitter_share),
                transforms.RandomGrayscale(colours.grey_share),
                transforms.RandomApply([_Blur(colours.blur_radius)], blur),
            ]
        )

    def __call__(self, image: Image.Image) -> tuple[Tensor, Tensor]:
        """Global and local crops of an image."""
        return self._taken(self.globals, image, self.size), self._taken(self.locals, image, self.local_size)

    def _taken(self, changes: list[Change], image: Image.Image, side: int) -> Tensor:
        crops = [transforms.functional.pil_to_tensor(change(image)) for change in changes]
        return torch.stack(crops) if crops else torch.empty((0, 3, side, side), dtype=torch.uint8)


class MultiCropped:
    """Crops of images from their files; labels are not looked at.

    A batch is its number, the normalised global crops (2, n, 3, s, s) and the local crops (l, n, 3, t, t). Every image
    is seen once in an epoch, by one micro-batch; images that do not fill a last step are left out.
    """

    def __init__(self, cfg: TrainConfig, recipe: DinoRecipe, manifest: Manifest) -> None:
        size = recipe.architecture.image_size
        self.preprocess = Preprocess.square(size, size, "bicubic", IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD)
        self.cfg, self.recipe = cfg, recipe
        self.rows = manifest.rows("train")
        self.data = Augmenting(manifest, MultiCrop(recipe))
        self.per_epoch = len(self.rows) // (recipe.batch_size * recipe.micro_batches)

    def _order(self, epoch: int, micro_batch: int) -> Order:
        """Row and seed of every image that a micro-batch sees in an epoch."""
        drawn = generator(self.cfg.seed, "epoch", self.cfg.drawn_as, epoch).permutation(self.rows)
        return [
            (int(row), derive(self.cfg.seed, "augment", self.cfg.drawn_as, epoch, micro_batch, place))
            for place, row in enumerate(drawn[micro_batch :: self.recipe.micro_batches])
        ]

    def steps(self, epoch: int, first: int, micro_batches: list[int]) -> Iterator[list[Batch]]:
        """See :class:`vit_registers.training.batches.Batches`."""
        orders = [self._order(epoch, micro_batch) for micro_batch in micro_batches]
        steps = range(first, self.per_epoch)
        for of_step in read(self.data, orders, self.recipe.batch_size, steps, self.recipe.workers):
            numbered = zip(micro_batches, of_step, strict=True)
            yield [(micro_batch, *self._batch(*crops)) for micro_batch, (crops, _) in numbered]

    def _batch(self, global_crops: Tensor, local_crops: Tensor) -> tuple[Tensor, Tensor]:
        normalise = self.preprocess.normalise
        return normalise(global_crops).transpose(0, 1), normalise(local_crops).transpose(0, 1)
