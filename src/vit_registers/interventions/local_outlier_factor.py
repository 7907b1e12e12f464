"""Local outlier factor (Breunig et al. 2000), as scikit-learn defines it, of many small sets of points at once."""

import torch
from torch import Tensor


def local_outlier_factor(points: Tensor, neighbours: int) -> Tensor:
    """How much less dense each of n ``points`` (b, n, d) lies than its ``neighbours`` nearest others do: (b, n).

    Density is the inverse of the mean reachability distance to these; 1 is as dense, more is an outlier. Of n points
    none has more than n - 1 neighbours.
    """
    k = min(neighbours, points.shape[1] - 1)
    distances = torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist")
    distances.diagonal(dim1=1, dim2=2).fill_(torch.inf)
    nearest, which = distances.topk(k, dim=2, largest=False)  # (b, n, k)
    flat = which.flatten(1)
    reach = torch.maximum(nearest, nearest[..., -1].gather(1, flat).view_as(nearest))
    density = 1.0 / (reach.mean(2) + 1e-10)
    return density.gather(1, flat).view_as(nearest).mean(2) / density


def outliers(points: Tensor, neighbours: int, contamination: float) -> Tensor:
    """Which of the ``points`` (b, n, d) have the largest factors, the share ``contamination`` of each set: (b, n)."""
    factors = local_outlier_factor(points, neighbours)
    return factors > factors.quantile(1.0 - contamination, dim=1, keepdim=True)
