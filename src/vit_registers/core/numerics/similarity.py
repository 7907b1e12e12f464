"""CKA of two features of the same images, and how far it would be off on other images."""

from collections.abc import Mapping
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from vit_registers.core.stats import jackknife

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Sums:
    """Sums over n images of two features x (n, d) and y (n, e), of which HSIC is a function.

    Those of a part of the images can be taken away again, so that leaving out groups of images costs no more than one
    pass over all. Features should be about their means before: it changes nothing but the size of the sums.
    """

    n: float
    x: Floats  # (d,)
    y: Floats  # (e,)
    products: Floats  # X'Y (d, e)
    x_squares: float  # of |x|^2
    y_squares: float
    squares: float  # of |x|^2 |y|^2
    x_weighted: Floats  # of x |y|^2 (d,)
    y_weighted: Floats  # of y |x|^2 (e,)

    @classmethod
    def of(cls, x: Floats, y: Floats) -> "Sums":
        """Sums over the rows of x and y."""
        a, b = np.square(x).sum(axis=1), np.square(y).sum(axis=1)
        own = float(len(x)), x.sum(axis=0), y.sum(axis=0), x.T @ y
        return cls(*own, float(a.sum()), float(b.sum()), float(a @ b), x.T @ b, y.T @ a)

    def without(self, other: "Sums") -> "Sums":
        """Sums over the images that are not among those of ``other``."""
        return Sums(*(getattr(self, each.name) - getattr(other, each.name) for each in fields(self)))

    def linear(self) -> float:
        """|X'Y|^2 of features about their means: HSIC of linear kernels, n^2 times."""
        return float(np.square(self.products - np.outer(self.x, self.y) / self.n).sum())

    def unbiased(self) -> float:
        """HSIC_1 (Song et al. 2012) of linear kernels K = XX' and L = YY' without their diagonals, n (n - 3) times.

        tr KL + (1'K1)(1'L1) / ((n - 1)(n - 2)) - 2 (1'KL1) / (n - 2).
        """
        n = self.n
        trace = np.square(self.products).sum() - self.squares
        k, el = self.x @ self.x - self.x_squares, self.y @ self.y - self.y_squares
        both = self.x @ self.products @ self.y - self.x @ self.x_weighted - self.y @ self.y_weighted + self.squares
        return float(trace + k * el / ((n - 1) * (n - 2)) - 2.0 * both / (n - 2))


class Compared:
    """Two features x (n, d) and y (n, e) of the same n images."""

    def __init__(self, x: Floats, y: Floats) -> None:
        x, y = x - x.mean(axis=0), y - y.mean(axis=0)
        self.pairs = (x, y), (x, x), (y, y)
        self.whole = [Sums.of(*pair) for pair in self.pairs]

    def cka(self, estimator: str) -> float:
        """CKA (Kornblith et al. 2019) by one of :data:`ESTIMATORS`; not finite where a feature is the same for all."""
        return _ratio(self.whole, estimator)

    def intervals(self, groups: NDArray[np.int64], confidence: float) -> Mapping[str, tuple[float, float]]:
        """Interval of CKA by every estimator, from leaving out each of the ``groups`` (n,), numbered from 0."""
        left = []
        for group in range(groups.max() + 1):
            out = groups == group
            parts = [Sums.of(x[out], y[out]) for x, y in self.pairs]
            left.append([whole.without(part) for whole, part in zip(self.whole, parts, strict=True)])
        return {
            name: jackknife(self.cka(name), np.array([_ratio(sums, name) for sums in left]), confidence)
            for name in ESTIMATORS
        }


# linear: |X'Y|^2 / (|X'X| |Y'Y|), 1 of a feature with itself, turned or scaled; of features that have nothing to do
# with each other it grows with d / n. unbiased: zero on average of these; at least four images.
ESTIMATORS = {"linear": Sums.linear, "unbiased": Sums.unbiased}


def _ratio(sums: list[Sums], estimator: str) -> float:
    both, own, other = (ESTIMATORS[estimator](each) for each in sums)
    with np.errstate(invalid="ignore", divide="ignore"):
        return float(both / np.sqrt(np.float64(own) * other))
