"""What test-time registers change, in numbers over the same images: as the model is, with zero tokens, with registers.

Appended zero tokens alone change a model. What registers do is the difference from those, not from the model as it is.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vit_registers.core.numerics.linalg import effective_rank, row_cosines
from vit_registers.core.stats import Bootstrap, bootstrap
from vit_registers.doctor.examine import BEFORE, MOVED, ZERO, Examination, Pass, Repair
from vit_registers.doctor.pictures import NAME

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A number over images with its 95 % interval; none of a single image, which has no others to differ from."""

    value: float
    interval: tuple[float, float] | None


@dataclass(frozen=True)
class Effect:
    """A quantity under every condition, and ``change``: test-time registers less zero tokens, paired over images.

    ``unit``: ``share``, ``norm``, ``patches`` or ``cosine``. ``change`` is None of quantiles, that are of no image.
    """

    name: str
    unit: str
    conditions: dict[str, Estimate]
    change: Estimate | None


class Means:
    """Means and quantiles over images, with intervals from one set of resamples."""

    def __init__(self, seed: int, statistics: object, images: int) -> None:
        self.resamples: Bootstrap | None = None
        if images > 1:
            self.resamples = bootstrap(seed, statistics, NAME, images)  # type: ignore[arg-type]

    def mean(self, values: Values) -> Estimate:
        """Mean over images of ``values`` (m,)."""
        interval = None if self.resamples is None else self.resamples.interval(values)
        return Estimate(float(values.mean()), interval)

    def quantile(self, values: Values, share: float) -> Estimate:
        """Quantile of all values (m, p)."""
        interval = None if self.resamples is None else self.resamples.quantile_interval(values, share)
        return Estimate(float(np.quantile(values, share)), interval)


def effects(found: Examination, repair: Repair) -> list[Effect]:
    """All quantities of a repair."""
    layers = found.judged.layers
    outliers = found.judged.tokens.positions[repair.rows]
    means = Means(found.settings.seed, found.config.statistics, len(repair.rows))
    norms = {name: one.norms[:, layers.layer].astype(float) for name, one in repair.passes.items()}
    quantiles = [
        Effect(name, "norm", {condition: means.quantile(of, share) for condition, of in norms.items()}, None)
        for name, share in (("Median patch norm", 0.5), ("99th percentile of patch norms", 0.99))
    ]
    by_image = dict(_by_image(repair.passes, norms, outliers, layers.threshold))
    return [*quantiles, *(_effect(means, name, *unit_and_values) for name, unit_and_values in by_image.items())]


def _effect(means: Means, name: str, unit: str, values: Mapping[str, Values]) -> Effect:
    estimates = {condition: means.mean(of) for condition, of in values.items()}
    return Effect(name, unit, estimates, means.mean(values[MOVED] - values[ZERO]))


def _by_image(
    passes: Mapping[str, Pass], norms: Mapping[str, Values], outliers: NDArray[np.bool_], limit: float
) -> Iterator[tuple[str, tuple[str, dict[str, Values]]]]:
    """Name, unit and values by condition and image of what has a value for every image.

    ``outliers`` (m, p) are those of the model as it is, whatever the condition: where registers leave none, its own
    would get nothing by definition.
    """
    before = passes[BEFORE]
    yield "Largest patch norm", ("norm", {name: of.max(axis=1) for name, of in norms.items()})
    yield "Outlier patches", ("share", {name: (of > limit).mean(axis=1) for name, of in norms.items()})
    if before.attention is not None:
        last = {name: np.asarray(one.attention, dtype=float)[:, -1] for name, one in passes.items()}
        on_them = {name: (of * outliers).sum(axis=1) for name, of in last.items()}
        yield "Attention of [CLS] on the outliers, last block", ("share", on_them)
        many = {name: effective_rank(of) for name, of in last.items()}  # exp of the entropy
        yield "Patches that [CLS] attends to, last block", ("patches", many)
    smooth = {name: np.nanmean(one.arrays["neighbours"], axis=(1, 2)).astype(float) for name, one in passes.items()}
    yield "Cosine of neighbouring patches", ("cosine", smooth)
    what = "[CLS]" if before.layout.cls else "Mean patch"
    same = {name: row_cosines(before.summary, one.summary) for name, one in passes.items()}
    yield f"{what} against the model as it is", ("cosine", same)
