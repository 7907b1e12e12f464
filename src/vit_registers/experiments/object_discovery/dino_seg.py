"""DINO-seg (the baseline of simeoni2021): one box per image from where [CLS] attends to."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from vit_registers.core.numerics.boxes import tight
from vit_registers.experiments.object_discovery.lost import FOUR_CONNECTED

Bools = NDArray[np.bool_]


def heaviest(attention: NDArray[np.float32], mass: float) -> Bools:
    """The fewest patches that hold ``mass`` of each row of ``attention`` (n, p), the most attended ones.

    Of equal ones the first is taken; a row without any attention has none.
    """
    order = np.argsort(-attention, axis=1, kind="stable")
    sorted_ = np.take_along_axis(attention.astype(np.float64), order, axis=1)
    before = np.cumsum(sorted_, axis=1) - sorted_
    kept = (before < mass * sorted_.sum(axis=1, keepdims=True)) & (sorted_ > 0)
    mask = np.zeros_like(kept)
    np.put_along_axis(mask, order, kept, axis=1)
    return mask


def discover(
    attention: NDArray[np.float32], grid: tuple[int, int], mass: float, skip_last: bool
) -> NDArray[np.float64]:
    """Boxes (n, 4) in patches, half-open, of attention (n, p) over the patches; NaN where there is no mask.

    The box is that of the largest 4-connected component of the mask, the first in reading order of those as large.
    With ``skip_last`` the last component in reading order never counts, and where it is the only one the answer is
    what lies outside of it, most of the image: an off-by-one of the published code.
    """
    masks = heaviest(attention, mass).reshape(-1, *grid)
    return tight(np.stack([_largest(mask, skip_last) for mask in masks]))


def _largest(mask: Bools, skip_last: bool) -> Bools:
    labels, count = ndimage.label(mask, FOUR_CONNECTED)
    counted = count - 1 if skip_last else count
    if counted < 1:
        return ~mask if skip_last and count else mask
    sizes = np.bincount(labels.ravel())[1 : counted + 1]
    found: Bools = labels == 1 + int(sizes.argmax())
    return found
