"""Cosines of attention maps and ridge regression: one definition each.

Torch is loaded by what computes with it, not by the module: who measures cached features need not wait for it.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor


def cosines(maps: NDArray[np.float32], cls: int) -> dict[str, NDArray[np.float64]]:
    """Cosines over patches of the maps of registers, pair by pair, and with that of [CLS], image by image (bach2025).

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


def ridge(products: "Tensor", targets: "Tensor", penalty: float, constant: bool = False) -> "Tensor":
    """Ridge regression w = (X'X + penalty m I)^-1 X'y from its sums, m being the mean of the diagonal of X'X.

    ``products`` X'X (d, d) and ``targets`` X'y, (d,) or (d, k): sums, means, or weighted sums of the same samples.
    ``constant``: the last feature is the constant 1; it is neither penalised nor part of m.
    """
    import torch

    products = products.clone()
    diagonal = products.diagonal()[: -1 if constant else None]
    diagonal.add_(penalty * diagonal.mean())
    solution: Tensor = torch.linalg.solve(products, targets)
    return solution
