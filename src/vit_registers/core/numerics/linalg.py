"""Cosines, divergence, effective rank, principal components, Gram matrices and ridge regression: one definition each.

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


def row_cosines(a: NDArray[Any], b: NDArray[Any]) -> NDArray[np.float64]:
    """Cosine of every vector of ``a`` (..., d) with the one at the same place of ``b``, (...)."""
    a, b = np.asarray(a, dtype=np.float32), np.asarray(b, dtype=np.float32)
    product, squares = np.einsum("...d,...d->...", a, b), [np.einsum("...d,...d->...", x, x) for x in (a, b)]
    return np.asarray(product / np.sqrt(squares[0] * squares[1]), dtype=np.float64)


def spectrum(tokens: NDArray[Any]) -> NDArray[np.float64]:
    """Eigenvalues (..., min(n, d)) of the covariance of tokens (..., n, d) about their mean, in ascending order.

    Squared singular values of the centred tokens over n; of the two products that have them, the smaller is taken.
    """
    centred = np.asarray(tokens, dtype=np.float64)
    centred = centred - centred.mean(axis=-2, keepdims=True)
    n, d = centred.shape[-2:]
    other = np.swapaxes(centred, -1, -2)
    product = centred @ other if n < d else other @ centred
    return np.maximum(np.linalg.eigvalsh(product / n), 0.0)


def effective_rank(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """exp of the entropy of non-negative values (..., k) over their sum (...): as many as k where all are equal.

    Of singular values (Roy and Vetterli 2007), or of eigenvalues. Zero where there is nothing but zeros.
    """
    total = values.sum(axis=-1, keepdims=True)
    shares = np.divide(values, total, out=np.zeros_like(values), where=total > 0.0)
    logs = np.log(shares, out=np.zeros_like(shares), where=shares > 0.0)
    return np.where(total[..., 0] > 0.0, np.exp(-(shares * logs).sum(axis=-1)), 0.0)


def jensen_shannon(p: NDArray[np.float64], q: NDArray[np.float64]) -> NDArray[np.float64]:
    """Jensen-Shannon divergence in bits of distributions (..., k), (...): 0 of the same, 1 of such that share nothing.

    They are divided by their sums, which half precision leaves near 1.
    """
    p, q = (x / x.sum(axis=-1, keepdims=True) for x in (p, q))
    middle = (p + q) / 2.0
    halves = [x * np.log2(np.divide(x, middle, out=np.ones_like(x), where=x > 0.0)) for x in (p, q)]
    return np.asarray((halves[0] + halves[1]).sum(axis=-1) / 2.0)


def principal_axes(products: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """The ``count`` first eigenvectors of a covariance (d, d) as columns (d, count), largest first.

    Their sign is such that the largest component is positive, so that the same tokens have the same colours again.
    """
    axes = np.linalg.eigh(products)[1][:, ::-1][:, :count]
    largest = np.take_along_axis(axes, np.abs(axes).argmax(axis=0)[None], axis=0)
    return np.asarray(axes * np.where(largest < 0.0, -1.0, 1.0))


def gram_shares(parts: NDArray[np.float64]) -> NDArray[np.float64]:
    """What pairs of ``parts`` (k, n, d) are of the Gram matrix of their sum (k, k), adding up to 1 (lappe2025).

    <A B', F F'> / |F F'|^2 for parts A, B and the sum F, about their means over the n images: on the diagonal Gram
    matrices of single parts, beside it the cross terms. From products of channels, as <A B', F F'> = <F'A, F'B>.
    """
    centred = parts - parts.mean(axis=1, keepdims=True)
    whole = centred.sum(axis=0)
    products = (whole.T @ centred).reshape(len(parts), -1)  # F'A
    return np.asarray(products @ products.T / np.square(whole.T @ whole).sum())


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
