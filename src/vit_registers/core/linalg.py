"""Cosines, effective rank, principal components, CKA and ridge regression: one definition each.

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


def principal_axes(products: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """The ``count`` first eigenvectors of a covariance (d, d) as columns (d, count), largest first.

    Their sign is such that the largest component is positive, so that the same tokens have the same colours again.
    """
    axes = np.linalg.eigh(products)[1][:, ::-1][:, :count]
    largest = np.take_along_axis(axes, np.abs(axes).argmax(axis=0)[None], axis=0)
    return np.asarray(axes * np.where(largest < 0.0, -1.0, 1.0))


def cka(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """Linear CKA of two features (n, d) and (n, e) of the same images (Kornblith et al. 2019).

    |X'Y|^2 / (|X'X| |Y'Y|) of features about their means: 1 of a feature with itself, turned or scaled. It is biased:
    of features that have nothing to do with each other it grows with d / n, see :func:`unbiased_cka`.
    """
    x, y = x - x.mean(axis=0), y - y.mean(axis=0)
    return float(np.square(x.T @ y).sum() / np.sqrt(np.square(x.T @ x).sum() * np.square(y.T @ y).sum()))


def unbiased_cka(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """CKA from the unbiased estimator HSIC_1 (Song et al. 2012): zero on average of independent features.

    At the cost of products of features (d, e), not of images (n, n); at least four images.
    """
    return float(_hsic(x, y) / np.sqrt(_hsic(x, x) * _hsic(y, y)))


def _hsic(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """HSIC_1 of linear kernels K = XX' and L = YY' without their diagonals, n (n - 3) times.

    tr KL + (1'K1)(1'L1) / ((n - 1)(n - 2)) - 2 (1'KL1) / (n - 2).
    """
    n = len(x)
    x, y = x - x.mean(axis=0), y - y.mean(axis=0)  # changes nothing but the size of the sums
    own = np.square(x).sum(axis=1), np.square(y).sum(axis=1)
    rows = [z @ z.sum(axis=0) - diagonal for z, diagonal in zip((x, y), own, strict=True)]  # K1 and L1
    trace = np.square(x.T @ y).sum() - own[0] @ own[1]
    apart = rows[0].sum() * rows[1].sum() / ((n - 1) * (n - 2)) - 2.0 * (rows[0] @ rows[1]) / (n - 2)
    return float(trace + apart)


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
