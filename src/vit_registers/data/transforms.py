"""How an image becomes a model's input by resizing and cropping, and where its boxes fall there and back."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Floats = NDArray[np.float64]
Size = tuple[int, int]  # height, width


def covering(height: int, width: int, target: Size) -> Size:
    """Smallest size of the same aspect that covers ``target``; the longer side is cut as torchvision cuts it."""
    if target[0] * width >= target[1] * height:
        return target[0], max(target[1], int(target[0] * width / height))
    return max(target[0], int(target[1] * height / width)), target[1]


@dataclass(frozen=True)
class Transform:
    """An image of ``height`` x ``width``, resized until it covers ``resize``, centre-cropped to ``size``.

    Without ``resize`` the image keeps its size and is padded at the bottom and the right (simeoni2021). It is the same
    transform for every model. Boxes are carried there and back by one scale and shift, so targets and predictions are
    compared in pixels of the image (bach2025 compared boxes in a crop with boxes in a squashed image).
    """

    height: int
    width: int
    resize: Size | None
    size: Size

    @classmethod
    def of(cls, index: Mapping[str, Any], height: int, width: int) -> "Transform":
        """The transform to the model's own input size by which features of ``index`` (index.json) were extracted."""
        resize, size = (_pair(index["preprocess"][key]) for key in ("resize", "size"))
        return cls(height, width, resize, size)

    @property
    def resized(self) -> Size:
        """Height and width before the crop."""
        return (self.height, self.width) if self.resize is None else covering(self.height, self.width, self.resize)

    @property
    def scale(self) -> Floats:
        """Input pixels per image pixel, x and y."""
        return np.array(self.resized[::-1]) / np.array([self.width, self.height])

    @property
    def offset(self) -> Floats:
        """Left and top margin (x, y) that the crop removes, in input pixels; 0 where the image is padded."""
        return np.round((np.array(self.resized[::-1]) - np.array(self.size[::-1])) / 2.0) * (self.resize is not None)

    def placed(self, image: Image.Image, resampling: Image.Resampling) -> Image.Image:
        """The image itself, or a map of its size, resized and cropped."""
        height, width = self.resized
        if (height, width) != (image.height, image.width):
            image = image.resize((width, height), resampling)
        left, top = (int(margin) for margin in self.offset)
        return image.crop((left, top, left + self.size[1], top + self.size[0]))

    def to_input(self, box: Floats) -> Floats:
        """Boxes [x0, y0, x1, y1], or points [x, y], in image pixels to input pixels."""
        corners = box.shape[-1] // 2
        return box * np.tile(self.scale, corners) - np.tile(self.offset, corners)

    def to_image(self, box: Floats) -> Floats:
        """Boxes or points in input pixels to image pixels, clipped to the image."""
        corners = box.shape[-1] // 2
        limit = np.tile([self.width, self.height], corners)
        return np.clip((box + np.tile(self.offset, corners)) / np.tile(self.scale, corners), 0.0, limit)


def _pair(size: Sequence[int]) -> Size:
    height, width = size
    return int(height), int(width)
