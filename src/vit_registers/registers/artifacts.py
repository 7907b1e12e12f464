"""Artifact tokens: patch tokens whose norm exceeds a threshold (darcet2024), and how many images have one."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


def threshold(norms: Floats, rule: str, value: float) -> float:
    """The norm above which a patch is an artifact, from pooled patch norms of the outlier layer (n, p).

    ``ratio``: ``value`` times the median; ``absolute``: ``value`` itself (150 for DINOv2-g); ``percentile``: the
    ``value``-th percentile of all patches of all images together (98 in bach2025).
    """
    if rule == "ratio":
        return float(value * np.median(norms))
    if rule == "percentile":
        return float(np.percentile(norms, value))
    return value


@dataclass(frozen=True)
class Artifacts:
    """What a threshold finds among patch norms."""

    positions: NDArray[np.bool_]  # (n, p)

    @property
    def share(self) -> float:
        """Share of patches that are artifacts."""
        return float(self.positions.mean())

    @property
    def per_image(self) -> NDArray[np.float64]:
        """Share of each image's patches (n,): images, not patches, are independent draws."""
        return np.asarray(self.positions.mean(axis=1), dtype=float)

    @property
    def images_affected(self) -> int:
        """Images with at least one artifact."""
        return int(self.positions.any(axis=1).sum())


def find(norms: Floats, limit: float) -> Artifacts:
    """Artifacts among patch norms (n, p)."""
    return Artifacts(norms > limit)
