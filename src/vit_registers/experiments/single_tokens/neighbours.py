"""How alike neighbouring patches are before the first block (darcet2024, Fig. 5a; bach2025, Fig. 6)."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
EDGES = np.linspace(-1.0, 1.0, 41)  # of the histograms, the same for every model


def of_each(pairs: Floats, grid: tuple[int, int]) -> Floats:
    """Cosines (m, p, 4) of each patch with those above, below, left and right of it; NaN where there is none.

    ``pairs`` (m, 2, p): cosines with the patch below, and with the one to the right.
    """
    below, right = (pairs[:, side].reshape(-1, *grid) for side in (0, 1))
    above, left = np.full_like(below, np.nan), np.full_like(right, np.nan)
    above[:, 1:], left[:, :, 1:] = below[:, :-1], right[:, :, :-1]
    return np.stack([above, below, left, right], axis=-1).reshape(len(pairs), -1, 4)


def histograms(cosines: Floats, where: Mapping[str, NDArray[np.bool_]]) -> dict[str, NDArray[Any]]:
    """Counts of ``cosines`` (m, p, 4) in the bins of :data:`EDGES` by group of patches, ``where`` (m, p) they are.

    A patch counts once for each of its neighbours, as published. Cosines may be over one by a rounding.
    """
    found: dict[str, NDArray[Any]] = {"edges_neighbour_cosine": EDGES}
    for group, mask in where.items():
        of_group = cosines[mask]
        counted = np.clip(of_group[~np.isnan(of_group)], EDGES[0], EDGES[-1])
        found[f"histogram/neighbour_cosine/{group}"], _ = np.histogram(counted, bins=EDGES)
    return found
