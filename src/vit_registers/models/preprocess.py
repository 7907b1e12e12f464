"""From an image to what a model takes; one geometry for every model, so that all see the same pixels."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from vit_registers.data.images import load_image
from vit_registers.data.manifest import Manifest
from vit_registers.data.transforms import Size, Transform


@dataclass(frozen=True)
class Preprocess:
    """Image to tensor (3, *size): resized until it covers ``resize``, centre crop of ``size``, normalised.

    Sizes are height and width. A model that was trained on squashed images gets the crop too; its metadata say so.
    """

    size: Size
    resize: Size
    interpolation: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    @classmethod
    def square(cls, size: int, resize: int, interpolation: str, mean: Any, std: Any) -> "Preprocess":
        """A square input; ``resize`` is then the shorter side."""
        return cls((size, size), (resize, resize), interpolation, tuple(mean), tuple(std))

    def __call__(self, image: Image.Image) -> Tensor:
        """An RGB image as float32 (3, *size)."""
        return self.normalise(self.pixels(image))

    def pixels(self, image: Image.Image) -> Tensor:
        """An RGB image as uint8 (3, *size), resized and cropped: what is worth keeping in memory."""
        transform = Transform(image.height, image.width, self.resize, self.size)
        placed = transform.placed(image, Image.Resampling[self.interpolation.upper()])
        return torch.from_numpy(np.array(placed)).permute(2, 0, 1)

    def normalise(self, pixels: Tensor) -> Tensor:
        """uint8 (..., 3, h, w) to float32, normalised with mean and std."""
        mean = torch.tensor(self.mean, device=pixels.device).view(3, 1, 1)
        std = torch.tensor(self.std, device=pixels.device).view(3, 1, 1)
        return (pixels.float() / 255.0 - mean) / std

    def padded(self, pixels: Tensor, patch: Size) -> Tensor:
        """uint8 (3, h, w) normalised, then zeros at the bottom and the right to whole patches (simeoni2021)."""
        height, width = whole_patches((pixels.shape[-2], pixels.shape[-1]), patch)
        return F.pad(self.normalise(pixels), (0, width - pixels.shape[-1], 0, height - pixels.shape[-2]))

    def to_json(self) -> dict[str, Any]:
        """Plain JSON for the model's metadata."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Preprocess":
        """Inverse of :meth:`to_json`."""
        whole: dict[str, Any] = {k: tuple(value) if isinstance(value, list) else value for k, value in content.items()}
        return cls(**whole)


def whole_patches(size: Size, patch: Size) -> Size:
    """``size`` rounded up to whole patches."""
    return -(-size[0] // patch[0]) * patch[0], -(-size[1] // patch[1]) * patch[1]


def load_pixels(data: Manifest, rows: NDArray[np.int64], preprocess: Preprocess) -> tuple[Tensor, Tensor]:
    """uint8 images (n, 3, *size) and labels (n,) of some rows, all in memory."""
    pixels = torch.stack([preprocess.pixels(load_image(data.file(row))) for row in rows])
    return pixels, torch.from_numpy(data.table["label"].to_numpy()[rows].copy())
