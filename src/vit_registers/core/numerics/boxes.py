"""Boxes [x0, y0, x1, y1], half-open, in pixels: of masks, their overlap, and fixed baselines."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def tight(masks: NDArray[np.bool_]) -> Floats:
    """Tight boxes (n, 4) of masks (n, h, w); NaN where a mask is empty."""
    columns, rows = np.asarray(masks.any(axis=1)), np.asarray(masks.any(axis=2))
    low = np.stack([columns.argmax(1), rows.argmax(1)], axis=1)
    high = np.stack([columns.shape[1] - columns[:, ::-1].argmax(1), rows.shape[1] - rows[:, ::-1].argmax(1)], axis=1)
    boxes = np.concatenate([low, high], axis=1).astype(float)
    boxes[~columns.any(axis=1)] = np.nan
    return boxes


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
