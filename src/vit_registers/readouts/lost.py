"""LOST (simeoni2021): one box per image from the similarity of its patches, without labels.

Patches similar to few others are likely to be of an object. The seed is the patch of lowest degree; low-degree patches
similar to the seed expand it; patches similar to those make the mask; the box is that of the seed's component.
"""

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Floats = NDArray[np.float32]
FOUR_CONNECTED = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]])


@dataclass(frozen=True)
class Steps:
    """What LOST decided for n images on a grid of h x w = p patches, in the order it decides."""

    degree: NDArray[np.int64]  # (n, p) number of other patches with positive similarity
    seed: NDArray[np.int64]  # (n,) patch of lowest degree
    kept: NDArray[np.bool_]  # (n, p) the seed and its expansion
    mask: NDArray[np.bool_]  # (n, h, w) patches similar to what was kept
    component: NDArray[np.bool_]  # (n, h, w) 4-connected part of the mask that holds the seed
    box: NDArray[np.float64]  # (n, 4) in patches, half-open; NaN where the seed is not in the mask

    def of(self, image: int) -> "Steps":
        """The steps of one of the images, n = 1."""
        return Steps(**{f.name: getattr(self, f.name)[image : image + 1] for f in fields(self)})


def similarity(features: Floats, normalise: bool, centre: bool, bias: float) -> Floats:
    """A = F F' + bias (n, p, p) of patch features (n, p, d).

    ``centre`` takes each image's mean patch away, ``normalise`` scales patches to length one. The paper does neither;
    models without DINO's features need one or the other, and the report says which was used.
    """
    features = features.astype(np.float32)
    if centre:
        features = features - features.mean(axis=1, keepdims=True)
    if normalise:
        features = features / np.maximum(np.linalg.norm(features, axis=2, keepdims=True), 1e-12)
    return features @ features.transpose(0, 2, 1) + np.float32(bias)


def discover(similar: Floats, grid: tuple[int, int], k: int) -> Steps:
    """LOST on similarities (n, p, p). Ties in degree go to the lowest patch index.

    Of the ``k`` patches of lowest degree those similar to the seed are kept, and the seed itself always.
    """
    n, p = similar.shape[:2]
    images = np.arange(n)
    positive = similar > 0
    degree = positive.sum(axis=2) - positive[:, np.arange(p), np.arange(p)]
    order = np.argsort(degree, axis=1, kind="stable")
    seed = order[:, 0]
    kept = np.zeros((n, p), dtype=bool)
    np.put_along_axis(kept, order[:, :k], True, axis=1)
    kept &= positive[images, seed]
    kept[images, seed] = True
    mask = np.einsum("np,npq->nq", kept.astype(np.float32), similar) > 0
    shaped = mask.reshape(n, *grid)
    component = np.stack([_component(m, int(s)) for m, s in zip(shaped, seed, strict=True)])
    return Steps(degree, seed, kept, shaped, component, _tight(component))


def _component(mask: NDArray[np.bool_], seed: int) -> NDArray[np.bool_]:
    """The 4-connected component of ``mask`` (h, w) that holds patch ``seed``; empty where the seed is outside."""
    if not mask.flat[seed]:
        return np.zeros_like(mask)
    labels: NDArray[np.int32] = ndimage.label(mask, FOUR_CONNECTED)[0]
    component: NDArray[np.bool_] = labels == labels.flat[seed]
    return component


def _tight(component: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Tight half-open boxes (n, 4) of components (n, h, w); NaN where empty."""
    columns, rows = np.asarray(component.any(axis=1)), np.asarray(component.any(axis=2))
    low = np.stack([columns.argmax(1), rows.argmax(1)], axis=1)
    high = np.stack([columns.shape[1] - columns[:, ::-1].argmax(1), rows.shape[1] - rows[:, ::-1].argmax(1)], axis=1)
    boxes = np.concatenate([low, high], axis=1).astype(float)
    boxes[~columns.any(axis=1)] = np.nan
    return boxes
