"""Outlier patches: patch tokens whose norm exceeds a threshold (darcet2024), and how many images have one."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.mixture import GaussianMixture

Floats = NDArray[np.float32]
LIKE_THE_MOST = 0.5  # of the largest share of outliers: a block with as many still shows the same artifacts


def threshold(norms: Floats, rule: str, value: float) -> float:
    """The norm above which a patch is an outlier, from pooled patch norms of the outlier layer (n, p).

    ``ratio``: ``value`` times the median; ``absolute``: ``value`` itself (150 for DINOv2-g); ``percentile``: the
    ``value``-th percentile of all patches of all images together (98 in bach2025), above which there are always some;
    ``bimodal``: the valley between two modes of the log norms, if they are ``value`` apart (see :func:`valley`).
    """
    if rule == "bimodal":
        return valley(norms, value)
    if rule == "ratio":
        return float(value * np.median(norms))
    if rule == "percentile":
        return float(np.percentile(norms, value))
    return value


def valley(norms: Floats, separation: float) -> float:
    """The norm between normal and outlier patches where their log norms form two modes; else the largest norm.

    Two Gaussians are fitted to the log norms, beginning at their median and their last per mille. They are two modes
    if Ashman's D, the distance of their means over the root mean square of their deviations, is ``separation`` or
    more (2 by Ashman et al. 1994), and if their mixture has a valley: between the means it falls below half of what it
    is at the upper one, which the tail of a single mode never does. The threshold is where it is thinnest.
    """
    logs = np.log(np.maximum(norms.astype(np.float64).reshape(-1, 1), 1e-12))
    start = np.quantile(logs, [0.5, 0.999])[:, None]
    spread = max(float(logs.std()), 1e-6)
    mixture = GaussianMixture(
        2, weights_init=[0.9, 0.1], means_init=start, precisions_init=np.full((2, 1, 1), spread**-2), random_state=0
    ).fit(logs)
    low, high = mixture.means_.ravel()
    deviation = np.sqrt(mixture.covariances_.ravel().mean())
    between = np.linspace(low, high, 1001)[:, None]
    density = np.exp(mixture.score_samples(between))
    if high - low < separation * deviation or density.min() > 0.5 * density[-1]:
        return float(norms.max())
    return float(np.exp(between[density.argmin(), 0]))


@dataclass(frozen=True)
class OutlierLayer:
    """The block whose output norms decide, and what every block's own threshold finds there.

    ``layer`` counts from 0; ``thresholds`` and ``shares`` (layers,) are those of all blocks; ``first``: the first block
    whose output has enough outliers, None where none has.
    """

    layer: int
    thresholds: list[float]
    shares: list[float]
    first: int | None

    @property
    def threshold(self) -> float:
        """That of the block which decides."""
        return self.thresholds[self.layer]


def outlier_layer(norms: Floats, rule: str, value: float, layer: int | str, least: float) -> OutlierLayer:
    """Thresholds by block of patch norms (n, layers, p), and the block that decides: ``layer``, or ``any``.

    ``any`` is the last of the blocks with at least :data:`LIKE_THE_MOST` times the largest share, and with ``least``;
    the last block of all where none has so many. Artifacts that are gone at the output are found inside; where they
    stay, it is at the output, which other experiments read.
    """
    depth = norms.shape[1]
    thresholds = [threshold(norms[:, i], rule, value) for i in range(depth)]
    shares = [find(norms[:, i], limit).share for i, limit in enumerate(thresholds)]
    first = next((i for i, share in enumerate(shares) if share >= least and share > 0.0), None)  # least may be zero
    if layer != "any":
        return OutlierLayer(int(layer) % depth, thresholds, shares, first)
    enough = max(least, LIKE_THE_MOST * max(shares))
    return OutlierLayer(
        next((i for i in reversed(range(depth)) if shares[i] >= enough), depth - 1), thresholds, shares, first
    )


@dataclass(frozen=True)
class OutlierTokens:
    """What a threshold finds among patch norms."""

    positions: NDArray[np.bool_]  # (n, p)

    @property
    def share(self) -> float:
        """Share of patches that are outliers."""
        return float(self.positions.mean())

    @property
    def per_image(self) -> NDArray[np.float64]:
        """Share of each image's patches (n,): images, not patches, are independent draws."""
        return np.asarray(self.positions.mean(axis=1), dtype=float)

    @property
    def affected(self) -> NDArray[np.float64]:
        """Whether each image has an outlier patch (n,)."""
        return np.asarray(self.positions.any(axis=1), dtype=float)

    @property
    def images_affected(self) -> int:
        """Images with at least one outlier patch."""
        return int(self.affected.sum())


def find(norms: Floats, limit: float) -> OutlierTokens:
    """Outliers among patch norms (n, p)."""
    return OutlierTokens(norms > limit)
