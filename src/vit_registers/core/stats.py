"""Intervals and paired tests over images."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.proportion import proportion_confint

from vit_registers.core.seeds import generator

Floats = NDArray[np.float64]
CHUNK = 200  # resamples at a time: memory stays at CHUNK x images


class Settings(Protocol):
    """Confidence of intervals, and how many resamples make one."""

    @property
    def confidence(self) -> float:
        """Of intervals."""

    @property
    def resamples(self) -> int:
        """Of the bootstrap and of permutation tests."""


def wilson(successes: int, n: int, confidence: float) -> tuple[float, float]:
    """Wilson interval of a share."""
    low, high = proportion_confint(successes, n, alpha=1.0 - confidence, method="wilson")
    return float(low), float(high)


class Bootstrap:
    """Resamples of ``n`` images, drawn once for every number over them: cheap, and differences stay paired."""

    def __init__(self, n: int, resamples: int, confidence: float, rng: np.random.Generator) -> None:
        """``rng`` should be named by the data set and ``n`` alone, so that all models see the same resamples."""
        self.counts = rng.multinomial(n, np.full(n, 1.0 / n), size=resamples).astype(float)  # (resamples, n)
        self.tails = ((1.0 - confidence) / 2.0, (1.0 + confidence) / 2.0)

    def means(self, values: Floats) -> Floats:
        """Means (resamples, ...) of ``values`` (n, ...) in each resample."""
        # Divided last: sums of 0 and 1 are exact, so a share never exceeds 1 by a rounding.
        return np.tensordot(self.counts, np.asarray(values, dtype=float), axes=1) / self.counts.shape[1]

    def interval(self, values: Floats) -> tuple[float, float]:
        """Percentile interval of the mean of ``values`` (n,) over images."""
        low, high = np.quantile(self.means(values), self.tails)
        return float(low), float(high)


def mcnemar_exact(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    """Two-sided exact McNemar p for two 0/1 outcomes on the same images; 1 where they never differ."""
    table = [[np.sum(a & b), np.sum(a & ~b)], [np.sum(~a & b), np.sum(~a & ~b)]]
    return float(mcnemar(table, exact=True).pvalue)


def sign_flip(differences: Floats, resamples: int, rng: np.random.Generator) -> float:
    """Two-sided p of a mean paired difference under random signs; the observed assignment counts as one draw."""
    differences = differences[differences != 0.0]
    if not len(differences):
        return 1.0
    observed = abs(differences.sum())
    slack = 1e-9 * np.abs(differences).sum()  # sums in another order differ in the last bits
    extreme, drawn = 1, 1
    for start in range(0, resamples, CHUNK):
        signs = rng.integers(2, size=(min(CHUNK, resamples - start), len(differences))) * 2 - 1
        extreme += int((np.abs(signs @ differences) >= observed - slack).sum())
        drawn += len(signs)
    return extreme / drawn


def bootstrap(seed: int, statistics: "Settings", dataset: str, n: int) -> Bootstrap:
    """The resamples of ``n`` images of a data set: the same for every model, condition and measure of a study."""
    return Bootstrap(n, statistics.resamples, statistics.confidence, generator(seed, "bootstrap", dataset, n))
