"""LOST (simeoni2021): one box per image from the similarity of its patches, without labels.

Patches similar to few others are likely to be of an object. The seed is the patch of lowest degree; low-degree patches
similar to the seed expand it; patches similar to those make the mask; the box is that of the seed's component.
"""

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from vit_registers.core.numerics.boxes import tight

Floats = NDArray[np.float32]
FOUR_CONNECTED = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]])
# The same within each image of a stack (n, h, w): images do not touch.
STACKED = np.stack([np.zeros((3, 3), int), FOUR_CONNECTED, np.zeros((3, 3), int)])


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


def similarity(features: Floats, normalise: bool, centre: bool) -> Floats:
    """A = F F' (n, p, p) of patch features (n, p, d).

    ``centre`` takes each image's mean patch away, ``normalise`` scales patches to length one. The paper does neither;
    models without DINO's features need one or the other, and the report says which was used.
    """
    features = features.astype(np.float32, copy=False)
    if centre:
        features = features - features.mean(axis=1, keepdims=True)
    products = features @ features.transpose(0, 2, 1)
    return normalised(products) if normalise else products


def normalised(products: Floats) -> Floats:
    """Cosines (n, p, p) of patches from their products: their lengths stand on the diagonal."""
    squares = np.maximum(np.diagonal(products, axis1=1, axis2=2), np.float32(1e-24))
    lengths: Floats = np.sqrt(squares)
    return products / lengths[:, :, None] / lengths[:, None]


def discover(similar: Floats, grid: tuple[int, int], k: int, bias: float = 0.0) -> Steps:
    """LOST on similarities (n, p, p) with ``bias`` added. Ties in degree go to the lowest patch index.

    Of the ``k`` patches of lowest degree those similar to the seed are kept, and the seed itself always.
    """
    n, p = similar.shape[:2]
    images, zero = np.arange(n), np.float32(-bias)  # a + bias > 0 exactly where a > -bias, also after rounding
    positive = similar > zero
    # One byte an entry: sums of bytes are several times faster than those of booleans.
    number = positive.view(np.uint8).sum(axis=2, dtype=np.uint16 if p < 2**16 else np.int64)
    degree = number.astype(np.int64) - positive[:, np.arange(p), np.arange(p)]
    order = np.argsort(degree, axis=1, kind="stable")
    seed, lowest = order[:, 0], order[:, :k]
    chosen = np.take_along_axis(positive[images, seed], lowest, axis=1)
    chosen[:, 0] = True
    kept = np.zeros((n, p), dtype=bool)
    np.put_along_axis(kept, lowest, chosen, axis=1)
    rows = similar[images[:, None], lowest]  # (n, k, p)
    total = (chosen[:, None].astype(np.float32) @ rows)[:, 0]
    mask = total > zero * chosen.sum(axis=1, keepdims=True).astype(np.float32)
    shaped = mask.reshape(n, *grid)
    component = _components(shaped, seed)
    return Steps(degree, seed, kept, shaped, component, tight(component))


def _components(masks: NDArray[np.bool_], seeds: NDArray[np.int64]) -> NDArray[np.bool_]:
    """The 4-connected components of ``masks`` (n, h, w) that hold their seeds (n,); empty where a seed is outside."""
    labels = np.asarray(ndimage.label(masks, STACKED)[0])
    of_seed = labels.reshape(len(masks), -1)[np.arange(len(masks)), seeds]
    component: NDArray[np.bool_] = masks & (labels == of_seed[:, None, None])
    return component
