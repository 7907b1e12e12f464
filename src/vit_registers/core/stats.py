"""Intervals and paired tests over images; what is concluded from several of them is in :mod:`core.inference`."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom, t
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.proportion import proportion_confint

from vit_registers.core.seeds import generator

Floats = NDArray[np.float64]
SIGNS = 2**22  # random signs at a time: 32 MiB as numbers, however many images there are
ENUMERATED = 20  # differences of which all assignments of signs are tried: a million
DISTINCT = 12  # sizes of differences in an exact distribution of their sums; a mean over three seeds has three
LATTICE = 50_000  # steps that the sums in it may span
EXTREME = 1_000  # draws as extreme as what was observed, after which no more are needed: p is then known to 3 %


class Settings(Protocol):
    """Confidence of intervals, and how many resamples make one."""

    @property
    def confidence(self) -> float:
        """Of intervals."""

    @property
    def resamples(self) -> int:
        """Of the bootstrap."""


def wilson(successes: int, n: int, confidence: float) -> tuple[float, float]:
    """Wilson interval of a share."""
    low, high = proportion_confint(successes, n, alpha=1.0 - confidence, method="wilson")
    return float(low), float(high)


def percentiles(values: Floats, confidence: float) -> tuple[float, float]:
    """Percentile interval of a number by its ``values`` (k,): in resamples, or in draws of what it is of."""
    low, high = np.quantile(values, ((1.0 - confidence) / 2.0, (1.0 + confidence) / 2.0))
    return float(low), float(high)


class Bootstrap:
    """Resamples of ``n`` images, drawn once for every number over them: cheap, and differences stay paired."""

    def __init__(self, n: int, resamples: int, confidence: float, rng: np.random.Generator) -> None:
        """``rng`` should be named by the data set and ``n`` alone, so that all models see the same resamples."""
        self.counts = rng.multinomial(n, np.full(n, 1.0 / n), size=resamples).astype(float)  # (resamples, n)
        self.confidence, self.tails = confidence, ((1.0 - confidence) / 2.0, (1.0 + confidence) / 2.0)

    def means(self, values: Floats) -> Floats:
        """Means (resamples, ...) of ``values`` (n, ...) in each resample."""
        # Divided last: sums of 0 and 1 are exact, so a share never exceeds 1 by a rounding.
        return np.tensordot(self.counts, np.asarray(values, dtype=float), axes=1) / self.counts.shape[1]

    def percentiles(self, resampled: Floats) -> tuple[float, float]:
        """Percentile interval of a number that each resample gave, ``resampled`` (resamples,)."""
        return percentiles(resampled, self.confidence)

    def interval(self, values: Floats) -> tuple[float, float]:
        """Percentile interval of the mean of ``values`` (n,) over images."""
        return self.percentiles(self.means(values))

    def intervals(self, values: Floats) -> tuple[Floats, Floats]:
        """Percentile intervals of the means over images of ``values`` (n, ...): lower and upper ends (...)."""
        low, high = np.quantile(self.means(values), self.tails, axis=0)
        return low, high

    def quantile_interval(self, values: Floats, share: float) -> tuple[float, float]:
        """Interval of the quantile at ``share`` of all ``values`` (n, p), whose p of one image come together.

        Woodruff (1952): the share of values at or below the quantile is a mean over images and has an interval; where
        the values have these shares, reflected at ``share``, are the ends. Resamples of the quantile itself would sort
        n x p values each.
        """
        values = np.asarray(values, dtype=float)
        low, high = self.interval((values <= np.quantile(values, share)).mean(axis=1))
        ends = np.quantile(values, np.clip([2.0 * share - high, 2.0 * share - low], 0.0, 1.0))
        return float(ends[0]), float(ends[1])


def mcnemar_exact(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    """Two-sided exact McNemar p for two 0/1 outcomes on the same images; 1 where they never differ."""
    table = [[np.sum(a & b), np.sum(a & ~b)], [np.sum(~a & b), np.sum(~a & ~b)]]
    return float(mcnemar(table, exact=True).pvalue)


def sign_flip(differences: Floats, flips: int, rng: np.random.Generator) -> float:
    """Two-sided p of a mean paired difference (n,) under random signs.

    Exact where the sums of all assignments can be counted: of few differences, or of differences that have few sizes.
    Otherwise at most ``flips`` assignments are drawn from ``rng``, the observed one counting as one draw, and no more
    once :data:`EXTREME` of them are as extreme: p is then their share (Besag and Clifford 1991).
    """
    differences = np.asarray(differences, dtype=float)
    differences = differences[differences != 0.0]
    if not len(differences):
        return 1.0
    exact = _counted(differences) if len(differences) <= ENUMERATED else _on_lattice(differences)
    return _drawn(differences, flips, rng) if exact is None else exact


def _extreme(differences: Floats) -> float:
    """How far from zero a sum has to be; sums in another order differ in the last bits."""
    return float(abs(differences.sum()) - 1e-9 * np.abs(differences).sum())


def _counted(differences: Floats) -> float:
    """The share of all assignments whose sum is as extreme."""
    sums = np.zeros(1)
    for one in differences:
        sums = np.concatenate([sums + one, sums - one])
    return float((np.abs(sums) >= _extreme(differences)).mean())


def _on_lattice(differences: Floats) -> float | None:
    """The same where all differences are multiples of one step and have few sizes; None where they are not.

    Of each size the positive ones are binomial; the distribution of the sum is the convolution of these. All terms are
    positive, so its tails are as precise as its middle.
    """
    sizes = np.round(np.abs(differences), 12).astype(np.float64)
    found, times = np.unique(sizes, return_counts=True)
    steps = _multiples(found) if len(found) <= DISTINCT else None
    if steps is None or int(steps @ times) > LATTICE:
        return None
    chances = np.ones(1)  # of what the positive ones add up to, in steps
    for step, n in zip(steps, times, strict=True):
        of_size = np.zeros(int(step * n) + 1)
        of_size[::step] = binom.pmf(np.arange(n + 1), n, 0.5)
        chances = np.convolve(chances, of_size)
    total = int(steps @ times)
    observed = abs(round(differences.sum() / (found[0] / steps[0])))
    return min(float(chances[np.abs(2 * np.arange(total + 1) - total) >= observed].sum()), 1.0)


def _multiples(sizes: Floats) -> NDArray[np.int64] | None:
    """Whole numbers in the ratios of ``sizes``, the smallest of them first; None where no small ones are."""
    for smallest in range(1, DISTINCT + 1):
        steps = sizes / sizes[0] * smallest
        if np.allclose(steps, np.round(steps), rtol=0.0, atol=1e-6):
            return np.round(steps).astype(np.int64)
    return None


def _drawn(differences: Floats, flips: int, rng: np.random.Generator) -> float:
    n, total, limit = len(differences), differences.sum(), _extreme(differences)
    extreme, drawn = 0, 0
    while drawn < flips and extreme < EXTREME:
        count = min(max(1, SIGNS // n), flips - drawn, 10_000)
        bits = np.unpackbits(np.frombuffer(rng.bytes(-(-count * n // 8)), dtype=np.uint8))[: count * n]
        sums = 2.0 * (bits.reshape(count, n).astype(float) @ differences) - total
        extreme, drawn = extreme + int((np.abs(sums) >= limit).sum()), drawn + count
    return (extreme + 1) / (drawn + 1)


def jackknife(whole: float, without: Floats, confidence: float) -> tuple[float, float]:
    """Interval of a smooth statistic of images by the delete-a-group jackknife (Efron and Stein 1981).

    ``whole``: of all images; ``without`` (g,): of all but one of g groups of equal size each. For statistics that take
    two draws of one image for two that agree, so that resamples with replacement would mislead.
    """
    groups = len(without)
    error = np.sqrt((groups - 1) / groups * np.square(without - without.mean()).sum())
    reach = float(t.ppf(0.5 + confidence / 2.0, groups - 1) * error)
    return whole - reach, whole + reach


def bootstrap(seed: int, statistics: "Settings", dataset: str, n: int) -> Bootstrap:
    """The resamples of ``n`` images of a data set: the same for every model, condition and measure of a study."""
    return Bootstrap(n, statistics.resamples, statistics.confidence, generator(seed, "bootstrap", dataset, n))


class Resamples(dict[int, Bootstrap]):
    """The resamples of so many images of a data set, by their number: drawn when first asked for, and once."""

    def __init__(self, seed: int, statistics: "Settings", dataset: str) -> None:
        super().__init__()
        self.drawn_by = seed, statistics, dataset

    def __missing__(self, images: int) -> Bootstrap:
        """Draw them."""
        self[images] = bootstrap(*self.drawn_by, images)
        return self[images]
