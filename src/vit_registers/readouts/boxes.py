"""Boxes [x0, y0, x1, y1], half-open, in pixels: overlap, fixed baselines, and the way from image to input and back."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def iou(a: Floats, b: Floats) -> Floats:
    """Intersection over union of boxes broadcast against each other: (..., 4), (..., 4) -> (...); NaN counts as 0."""
    low, high = np.maximum(a[..., :2], b[..., :2]), np.minimum(a[..., 2:], b[..., 2:])
    shared = np.prod(np.maximum(high - low, 0.0), axis=-1)
    area = [np.prod(np.maximum(box[..., 2:] - box[..., :2], 0.0), axis=-1) for box in (a, b)]
    union = area[0] + area[1] - shared
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.nan_to_num(np.where(union > 0, shared / union, 0.0))


def best_iou(box: Floats, truth: list[Floats]) -> Floats:
    """Best overlap of each image's box (n, 4) with any of its truths, n arrays of (b >= 1, 4): (n,)."""
    counts = np.array([len(boxes) for boxes in truth])
    overlap = iou(np.repeat(box, counts, axis=0), np.concatenate(truth))
    return np.maximum.reduceat(overlap, np.cumsum(counts) - counts)


@dataclass(frozen=True)
class Geometry:
    """An image of ``width`` x ``height``, its shorter side resized to ``resize``, centre-cropped to ``size``.

    The way of every model's input (backbone.Preprocess). Boxes go forth and back by the same scale and shift, so truth
    and prediction are compared in pixels of the image (bach2025 compared boxes of a crop with boxes of a squash).
    """

    width: int
    height: int
    resize: int
    size: int

    @property
    def scale(self) -> Floats:
        """Input pixels per image pixel, x and y: the longer side is rounded to whole pixels, as torchvision does."""
        short = min(self.width, self.height)
        sides = [
            self.resize if side == short else int(self.resize * side / short) for side in (self.width, self.height)
        ]
        return np.array(sides) / np.array([self.width, self.height])

    @property
    def offset(self) -> Floats:
        """Left and top margin that the crop takes away, in input pixels."""
        sides = self.scale * [self.width, self.height]
        return np.round((sides - self.size) / 2.0)

    def to_input(self, box: Floats) -> Floats:
        """Image pixels to input pixels."""
        return box * np.tile(self.scale, 2) - np.tile(self.offset, 2)

    def to_image(self, box: Floats) -> Floats:
        """Input pixels to image pixels, clipped to the image."""
        limit = np.tile([self.width, self.height], 2)
        return np.clip((box + np.tile(self.offset, 2)) / np.tile(self.scale, 2), 0.0, limit)


def centre_boxes(sizes: NDArray[np.int64], share: float) -> Floats:
    """Centred boxes (n, 4) that cover ``share`` of each side of images of ``sizes`` (n, 2)."""
    half = sizes * share / 2.0
    return np.concatenate([sizes / 2.0 - half, sizes / 2.0 + half], axis=1)


def best_centre_share(sizes: NDArray[np.int64], truth: list[Floats]) -> float:
    """The share of the side, from .1 to 1 in steps of .05, whose centred boxes hit most truths: chosen on training."""
    shares = [round(0.05 * i, 2) for i in range(2, 21)]
    hits = [int((best_iou(centre_boxes(sizes, share), truth) >= 0.5).sum()) for share in shares]
    return shares[int(np.argmax(hits))]


def random_boxes(sizes: NDArray[np.int64], rng: np.random.Generator) -> Floats:
    """Boxes (n, 4) between two corners drawn uniformly over each image."""
    corners = np.sort(rng.random((len(sizes), 2, 2)), axis=1) * sizes[:, None]
    return corners.reshape(-1, 4)
