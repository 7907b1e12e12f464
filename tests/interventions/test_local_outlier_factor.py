"""The local outlier factor against scikit-learn's, and against its definition number by number."""

import numpy as np
import pytest
import torch
from sklearn.neighbors import LocalOutlierFactor

from vit_registers.interventions.local_outlier_factor import local_outlier_factor, outliers


def some_points(sets=3, n=24, d=5):
    points = torch.randn(sets, n, d, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    points[:, :2] *= 6.0
    return points


def slow_factor(points, k):
    """Breunig et al. 2000, a point at a time."""
    n = len(points)
    distance = [[float((a - b).norm()) for b in points] for a in points]
    near = [sorted((j for j in range(n) if j != i), key=lambda j, i=i: distance[i][j])[:k] for i in range(n)]
    reach = [[max(distance[i][j], distance[j][near[j][-1]]) for j in near[i]] for i in range(n)]
    density = [k / sum(each) for each in reach]
    return [sum(density[j] for j in near[i]) / k / density[i] for i in range(n)]


@pytest.mark.parametrize("k", [1, 5, 23, 30])
def test_factors_are_those_of_the_definition_and_of_scikit_learn(k):
    points = some_points()
    found = local_outlier_factor(points, k)
    for one, factors in zip(points, found, strict=True):
        np.testing.assert_allclose(factors, slow_factor(one, min(k, 23)), rtol=1e-8)
        other = LocalOutlierFactor(n_neighbors=min(k, 23)).fit(one.numpy())
        np.testing.assert_allclose(factors, -other.negative_outlier_factor_, rtol=1e-8)


@pytest.mark.parametrize("share", [0.05, 0.1, 0.5])
def test_outliers_are_those_that_scikit_learn_labels(share):
    points = some_points()
    found = outliers(points, 5, share)
    for one, above in zip(points, found, strict=True):
        labels = LocalOutlierFactor(n_neighbors=5, contamination=share).fit_predict(one.numpy())
        np.testing.assert_array_equal(above, labels == -1)
    assert found[:, :2].any(dim=1).all()  # those far away
