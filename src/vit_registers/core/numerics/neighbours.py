"""The nearest by cosine, for all of many vectors."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

CHUNK = 1024  # queries whose similarities to all others are held at once


def directions(vectors: NDArray[np.floating]) -> Tensor:
    """Vectors (n, d), each at length one, in single precision."""
    return torch.nn.functional.normalize(torch.from_numpy(np.array(vectors)).float(), dim=1)


def nearest_other(queries: Tensor, gallery: Tensor) -> NDArray[np.int64]:
    """For each of n queries (n, d) the place in the gallery (n, d) with the largest cosine, never its own.

    Both are :func:`directions`.
    """
    found = []
    for start in range(0, len(queries), CHUNK):
        cosines = queries[start : start + CHUNK] @ gallery.T
        each = torch.arange(len(cosines))
        cosines[each, start + each] = -torch.inf
        found.append(cosines.argmax(dim=1))
    return torch.cat(found).numpy()
