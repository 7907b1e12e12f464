"""How alike the maps of registers and of [CLS] are (bach2025): one definition for training and finished models.

Without torch: who measures cached features need not wait for it.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def cosines(maps: NDArray[np.float32], cls: int) -> dict[str, NDArray[np.float64]]:
    """How alike the maps of registers are, pair by pair, and to that of [CLS]: cosines over patches, image by image.

    ``maps`` (m, cls + r, p): of [CLS], where there is one, then of the registers. What there are no two maps for is
    left out; each of what is left is (m,).
    """
    registers = maps.shape[1] - cls
    unit = maps / np.maximum(np.linalg.norm(maps, axis=2, keepdims=True), 1e-12)
    whole = unit[:, cls:].sum(axis=1)
    found: dict[str, NDArray[Any]] = {}
    if cls and registers:
        found["cls_register_cosine"] = np.einsum("mp,mp->m", unit[:, 0], whole) / registers
    if registers > 1:  # the mean of all pairs from the length of the sum of unit maps
        found["register_cosine"] = (np.square(whole).sum(axis=1) - registers) / (registers * (registers - 1))
    return {name: values.astype(np.float64) for name, values in found.items()}
