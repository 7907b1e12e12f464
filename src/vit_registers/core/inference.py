"""What is concluded from estimates and their resamples: over families of tests, within margins, over trainings.

A number of a condition comes as its value over all images and as its values in the resamples of
:class:`core.stats.Bootstrap`. The resamples are those of the data set, the same for every condition, so that
differences of values and of resamples are paired.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.stats import norm, t
from statsmodels.stats.multitest import multipletests

from vit_registers.core.stats import Floats, percentiles


def holm(ps: Sequence[float]) -> list[float]:
    """p-values of one family, adjusted for their number (Holm 1979): below a level, the family errs no more often.

    It holds whatever the dependence between the tests is.
    """
    if not len(ps):
        return []
    return [float(p) for p in multipletests(ps, method="holm")[1]]


def error(resampled: Floats) -> float:
    """Standard error of a number by its values in resamples (resamples,)."""
    return float(np.std(resampled, ddof=1))


def wald(difference: float, error: float) -> float:
    """Two-sided p that a difference with a standard ``error`` is none.

    For scores of all images together (mIoU, RMSE), which are no means over images. Resamples that do not vary are no
    evidence: 1.
    """
    if error == 0.0:
        return 1.0
    return float(2.0 * norm.sf(abs(difference) / error))


def equivalence(difference: float, error: float, margin: float, n: int, freedom: float = np.inf) -> float:
    """p of two one-sided tests (TOST, Schuirmann 1987): small where the difference is within plus or minus ``margin``.

    ``error``: standard error of the difference over ``n`` images, with so many degrees of ``freedom``. Where no image
    differs it is 0 and would prove too much: of a difference of shares as large as the margin, at least that share of
    images differs, and p is the chance that none of ``n`` does.
    """
    if error == 0.0:
        return float((1.0 - min(margin, 1.0)) ** n) if abs(difference) < margin else 1.0
    return float(t.cdf((abs(difference) - margin) / error, freedom))


class Share(NamedTuple):
    """A share with its interval, or the ``reason`` why there is none."""

    value: float | None
    low: float | None = None
    high: float | None = None
    reason: str | None = None


class Sample(NamedTuple):
    """A number of one condition: over all images, and in each resample (resamples,)."""

    value: float
    resampled: Floats


def repaired(before: Sample, after: Sample, control: Sample, confidence: float) -> Share:
    """(after - before) / (control - before): 0 where nothing was repaired, 1 where the control is reached.

    With the percentile interval of paired resamples. Where the interval of the denominator holds zero there is no
    damage to repair: a share of it would be a ratio of noise, and there is none.
    """
    damage = control.resampled - before.resampled
    low, high = percentiles(damage, confidence)
    if low <= 0.0 <= high:
        return Share(None, reason=f"no share: the damage, {control.value - before.value:.3g} [{low:.3g}, {high:.3g}], "
                                  "may be none")  # fmt: skip
    # An interval that is free of zero leaves a few resamples beside it, which np.quantile orders all the same.
    shares = np.divide(after.resampled - before.resampled, damage, out=np.full_like(damage, np.nan), where=damage != 0)
    low, high = percentiles(shares[~np.isnan(shares)], confidence)
    return Share((after.value - before.value) / (control.value - before.value), low, high)


class OverTrainings(NamedTuple):
    """A number over several trainings, the p that it is zero, and its standard error with degrees of freedom."""

    value: float
    low: float
    high: float
    p: float
    error: float
    freedom: float


def over_trainings(values: Floats, resampled: Floats, confidence: float) -> OverTrainings:
    """Mean of ``values`` (k,) of k trainings on the same images, for further trainings and further images.

    ``resampled`` (k, resamples): each training's in the shared resamples of the images. Trainings and images are
    crossed: the variance is that between trainings, and that of the mean over trainings under resampled images (noise
    of single images that trainings do not share is in both, which errs on the wide side). Degrees of freedom are
    Satterthwaite's: near k - 1 where trainings decide, many where images do. The percentiles of a bootstrap that draws
    trainings, then images, are too narrow for a handful of trainings: it knows neither the k / (k - 1) of a variance
    of k nor t. ValueError for a single training.
    """
    values, resampled = np.asarray(values, dtype=float), np.asarray(resampled, dtype=float)
    k = len(values)
    if k < 2:
        raise ValueError("one training: there is nothing to tell the luck of a training by")
    between = float(np.var(values, ddof=1)) / k
    images = float(np.var(resampled.mean(axis=0), ddof=1))
    variance = between + images
    mean = float(values.mean())
    if variance == 0.0:
        return OverTrainings(mean, mean, mean, 1.0, 0.0, np.inf)
    # What a bootstrap estimates from many images has as good as no uncertainty beside a variance of k numbers.
    freedom = variance**2 / (between**2 / (k - 1)) if between else np.inf
    deviation = variance**0.5
    half = float(t.ppf((1.0 + confidence) / 2.0, freedom)) * deviation
    p = float(2.0 * t.sf(abs(mean) / deviation, freedom))
    return OverTrainings(mean, mean - half, mean + half, p, deviation, freedom)
