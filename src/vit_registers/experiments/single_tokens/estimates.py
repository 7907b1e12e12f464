"""Rows of what probes found: means over groups of patches, explained variance, and paired differences.

Intervals are over images: a resample draws images with all their patches.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vit_registers.core.seeds import generator
from vit_registers.core.stats import Bootstrap, Floats, Resamples, sign_flip
from vit_registers.core.table import Rows
from vit_registers.experiments.single_tokens.params import Config
from vit_registers.params.condition import BASELINE

Groups = dict[str, NDArray[Any]]  # by group of patches
CONTRASTS = (("outlier", "normal"), ("outlier", "matched"))


@dataclass(frozen=True)
class Estimates:
    """Where rows go, and resamples of images of the data set; ``images`` (m) are tested."""

    cfg: Config
    rows: Rows
    resamples: Resamples
    images: int

    @property
    def resampled(self) -> Bootstrap:
        """Resamples of all images that are tested."""
        return self.resamples[self.images]

    def by_group(self, metric: str, values: Groups, where: Groups, **axes: Any) -> None:
        """Mean over the patches of each group, and differences within images that have both.

        ``values`` (m, p) of patches and ``where`` (m, p) they count, by group.
        """
        sums: dict[str, tuple[Floats, Floats]] = {}
        for group, of_group in values.items():
            count = where[group].sum(axis=1).astype(float)
            total = (of_group.astype(float) * where[group]).sum(axis=1)
            if not count.any():
                self.rows.absent([metric], f"no {group} patches", intervention=BASELINE, group=group, **axes)
                continue
            means = self._ratio(total, count)
            low, high = (float(edge) for edge in np.nanquantile(means, self.resampled.tails))
            value, n = float(total.sum() / count.sum()), int((count > 0).sum())
            self.rows.add(metric, value, n, low=low, high=high, intervention=BASELINE, group=group, **axes)
            sums[group] = total, count
        for group, against in CONTRASTS:
            if group not in sums or against not in sums:
                continue
            both = (sums[group][1] > 0) & (sums[against][1] > 0)
            if both.any():
                mine, other = (sums[name][0][both] / sums[name][1][both] for name in (group, against))
                self.difference(metric, mine - other, group, against, **axes)

    def explained(self, metric: str, errors: Groups, pixels: NDArray[Any], where: Groups, **axes: Any) -> None:
        """Share of the variance of each group's pixels that was reconstructed (R^2), and its differences.

        ``errors`` (m, p) mean squared over the pixels (m, p, k) of a patch. The variance is that about the group's own
        mean, so that groups compare whose pixels differ in how much they vary.
        """
        found: dict[str, tuple[float, Floats]] = {}
        for group, of_group in errors.items():
            mask = where[group]
            count = int(mask.any(axis=1).sum())
            mean = pixels[mask].mean(axis=0) if count else 0.0
            varies = (np.square(pixels - mean).mean(axis=-1) * mask).sum(axis=1).astype(float)
            if not varies.any():
                reason = f"pixels of the {group} patches do not vary" if count else f"no {group} patches"
                self.rows.absent([metric], reason, intervention=BASELINE, group=group, **axes)
                continue
            missed = (of_group.astype(float) * mask).sum(axis=1)
            value, drawn = 1.0 - float(missed.sum() / varies.sum()), 1.0 - self._ratio(missed, varies)
            low, high = (float(edge) for edge in np.nanquantile(drawn, self.resampled.tails))
            self.rows.add(metric, value, count, low=low, high=high, intervention=BASELINE, group=group, **axes)
            found[group] = value, drawn
        for group, against in CONTRASTS:
            if group in found and against in found:
                low, high = np.nanquantile(found[group][1] - found[against][1], self.resampled.tails)
                both = int((where[group].any(axis=1) & where[against].any(axis=1)).sum())
                given = {"intervention": BASELINE, "group": group, "reference_group": against, **axes}
                value = found[group][0] - found[against][0]
                self.rows.add(metric, value, both, low=float(low), high=float(high), **given)

    def difference(self, metric: str, differences: Floats, group: str, against: str, **axes: Any) -> None:
        """Mean of paired differences, one per image, with interval and sign-flip p."""
        cfg, n = self.cfg, len(differences)
        low, high = self.resamples[n].interval(differences)
        named = [str(value) for value in axes.values()]
        signs = generator(cfg.seed, "sign flips", cfg.dataset, cfg.model, metric, group, against, *named)
        p = sign_flip(differences, cfg.statistics.sign_flips, signs)
        given = {"intervention": BASELINE, "group": group, "reference_group": against, **axes}
        self.rows.add(metric, float(differences.mean()), n, low=low, high=high, p=p, **given)

    def _ratio(self, total: Floats, count: Floats) -> Floats:
        """Ratios (resamples,) of two sums over images; not a number where a resample has nothing to count."""
        drawn = self.resampled.means(count)
        return np.divide(self.resampled.means(total), drawn, out=np.full_like(drawn, np.nan), where=drawn > 0)
