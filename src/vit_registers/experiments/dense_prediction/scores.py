"""Scores of predicted maps of classes and of depth: over all pixels of all images, in resamples, and image by image."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vit_registers.core.stats import Bootstrap, Floats
from vit_registers.data.transforms import Size
from vit_registers.experiments.dense_prediction.heads import DepthHead, SegmentationHead, Upsampling
from vit_registers.experiments.dense_prediction.targets import FARTHEST, IGNORED

LOGITS = 2**24  # at a time: memory stays at four bytes each, or one image


@dataclass(frozen=True)
class Score:
    """A metric over all images, and its ``resampled`` values (resamples,).

    ``pooled``: of the pixels of all images together, and no mean of what single images gave.
    """

    metric: str
    value: float
    resampled: Floats
    pooled: bool = False


@dataclass(frozen=True)
class Scored:
    """Scores, and values of each image (m,) by metric, for paired comparisons."""

    scores: list[Score]
    images: dict[str, Floats]


@dataclass(frozen=True)
class Counts:
    """Pixels of every image and class (m, classes): predicted to be of it, of it (target), and both (intersection)."""

    intersection: Floats
    predicted: Floats
    target: Floats


def _chunks(images: int, per_image: int) -> Iterator[slice]:
    size = max(1, LOGITS // per_image)
    return (slice(start, start + size) for start in range(0, images, size))


def counts(head: SegmentationHead, tokens: Tensor, classes: NDArray[np.int16], grid: Size) -> Counts:
    """Pixels by class of tokens (m, p, d) whose images show ``classes`` (m, h, w); those of no class count nowhere."""
    m, height, width = classes.shape
    number = head.bias.shape[0]
    upsampling = Upsampling.between(grid, (height, width))
    found = [torch.zeros(m, number, dtype=torch.long) for _ in range(3)]
    for part in _chunks(m, height * width * number):
        predicted = upsampling(head(tokens[part])).argmax(-1).flatten(1)  # (b, h * w)
        target = torch.from_numpy(classes[part].astype(np.int64)).flatten(1)
        offset = number * torch.arange(len(predicted))[:, None]  # so that images are counted apart
        known = target != IGNORED
        both = (predicted + offset)[predicted == target]
        for into, index in zip(found, (both, (predicted + offset)[known], (target + offset)[known]), strict=True):
            into[part] = torch.bincount(index, minlength=len(predicted) * number).view(-1, number)
    return Counts(*(each.numpy().astype(float) for each in found))


def mean_iou(intersection: Floats, predicted: Floats, target: Floats) -> Floats:
    """Mean intersection over union (...) of counts (..., classes), over classes that are present or predicted."""
    union = predicted + target - intersection
    shares = np.divide(intersection, union, out=np.zeros_like(union), where=union > 0)
    mean: Floats = shares.sum(axis=-1) / (union > 0).sum(axis=-1)
    return mean


def segmentation(found: Counts, bootstrap: Bootstrap) -> Scored:
    """mIoU over classes of the pixels of all images together (as ADE20k counts), and the accuracy over pixels.

    A resample draws images with all their pixels. Of a single image: the accuracy over its pixels.
    """
    parts = (found.intersection, found.predicted, found.target)
    drawn = mean_iou(*(bootstrap.means(part) for part in parts))
    accuracy: Floats = found.intersection.sum(axis=1) / found.target.sum(axis=1)
    scores = [
        Score("miou", float(mean_iou(*(part.sum(axis=0) for part in parts))), drawn, pooled=True),
        Score("pixel_accuracy", float(accuracy.mean()), bootstrap.means(accuracy)),
    ]
    return Scored(scores, {"pixel_accuracy": accuracy})


def squared_errors(
    head: DepthHead,
    tokens: Tensor,
    depth: NDArray[np.uint16],
    grid: Size,
    unit: float = FARTHEST,
    limits: tuple[float, float] | None = None,
) -> tuple[Floats, Floats]:
    """Sum of squared errors (m,) over the pixels of known depth (m, h, w) of each image, and their number (m,).

    ``unit`` of the stored values makes a depth of 1. Predictions are clipped to ``limits``, if there are any.
    """
    m, height, width = depth.shape
    upsampling = Upsampling.between(grid, (height, width))
    total, known = np.zeros(m), np.zeros(m)
    for part in _chunks(m, height * width):
        predicted = upsampling(head(tokens[part])[..., None])[..., 0].double().numpy()
        if limits is not None:
            predicted = predicted.clip(*limits)
        there = depth[part] > 0
        total[part] = (np.where(there, predicted - depth[part] / unit, 0.0) ** 2).sum(axis=(1, 2))
        known[part] = there.sum(axis=(1, 2))
    return total, known


def depths(metric: str, total: Floats, known: Floats, bootstrap: Bootstrap) -> Scored:
    """RMSE over the pixels of all images together (as NYUd counts), by the name of its metric."""
    drawn = np.sqrt(bootstrap.means(total) / bootstrap.means(known))
    return Scored([Score(metric, float(np.sqrt(total.sum() / known.sum())), drawn, pooled=True)], {})
