"""Scores against scikit-learn, loops over images and all pairs of images; resamples against their own images."""

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score, precision_score, recall_score, roc_auc_score

from vit_registers.core.numerics import class_scores as scores
from vit_registers.core.stats import Bootstrap


@pytest.fixture
def scored():
    draw = torch.Generator().manual_seed(0)
    truth = torch.randint(5, (40,), generator=draw)
    given = torch.randn(40, 6, generator=draw)
    given[torch.arange(40), truth] += 1.0
    given[:, 5] = -9.0  # a class that is nobody's, never predicted
    return given, truth, Bootstrap(40, 25, 0.9, np.random.default_rng(0))


def test_hits_are_those_of_a_loop_over_images(scored):
    given, truth, bootstrap = scored
    ranked = [sorted(range(6), key=lambda c, row=row: -row[c]) for row in given.tolist()]
    one = scores.score(given, truth, bootstrap)
    assert one.right.tolist() == [float(r[0] == t) for r, t in zip(ranked, truth.tolist(), strict=True)]
    assert one.means["top1"] == pytest.approx(one.right.mean())
    assert one.means["top3"] == pytest.approx(
        np.mean([t in r[:3] for r, t in zip(ranked, truth.tolist(), strict=True)])
    )
    predicted = [r[0] for r in ranked]
    assert one.means["macro_f1"] == pytest.approx(f1_score(truth, predicted, average="macro"))
    assert one.means["macro_precision"] == pytest.approx(precision_score(truth, predicted, average="macro"))
    assert one.means["macro_recall"] == pytest.approx(recall_score(truth, predicted, average="macro"))
    areas = [roc_auc_score(truth == label, given[:, label]) for label in range(5)]  # nobody is of class 5
    assert one.means["auc"] == pytest.approx(np.mean(areas))
    np.testing.assert_allclose(one.resampled["top1"], bootstrap.means(one.right))


@pytest.mark.parametrize("metric", [f1_score, precision_score, recall_score])
def test_a_macro_mean_in_a_resample_is_that_of_its_images(scored, metric):
    given, truth, bootstrap = scored
    predicted = given.argmax(dim=1).numpy()
    found = scores.resampled_macro(truth.numpy(), predicted, 6, bootstrap)
    slow = []
    for counts in bootstrap.counts.astype(int):
        drawn = np.repeat(np.arange(40), counts)
        slow.append(metric(truth.numpy()[drawn], predicted[drawn], average="macro", zero_division=0.0))
    np.testing.assert_allclose(found[f"macro_{metric.__name__.removesuffix('_score')}"], slow)


def slow_area(truth, score):
    """Share of pairs of an image of the class and another in which the first given higher; ties count half."""
    wins = [(a > b) + 0.5 * (a == b) for a, t in zip(score, truth, strict=True) if t for b, u in
            zip(score, truth, strict=True) if not u]  # fmt: skip
    return sum(wins) / len(wins)


def test_the_area_under_the_curve_is_that_of_all_pairs_ties_included():
    draw = np.random.default_rng(0)
    truth, given = draw.integers(0, 3, 60), draw.integers(0, 5, (60, 3)).astype(float)
    area, influence = scores.macro_auc(truth, given)
    assert area == pytest.approx(np.mean([slow_area(truth == c, given[:, c]) for c in range(3)]))
    assert area == pytest.approx(np.mean([roc_auc_score(truth == c, given[:, c]) for c in range(3)]))
    assert influence.mean() == pytest.approx(0.0, abs=1e-12)
    assert scores.macro_auc(np.zeros(4, dtype=int), np.ones((4, 2)))[0] is None


def test_the_area_in_a_resample_is_to_first_order_that_of_its_images():
    draw = np.random.default_rng(1)
    truth = draw.integers(0, 4, 800)
    given = draw.standard_normal((800, 4)) + 1.2 * np.eye(4)[truth]
    bootstrap = Bootstrap(800, 400, 0.9, draw)
    area, influence = scores.macro_auc(truth, given)
    linear, exact = area + bootstrap.means(influence), []
    for counts in bootstrap.counts.astype(int):
        drawn = np.repeat(np.arange(800), counts)
        exact.append(scores.macro_auc(truth[drawn], given[drawn])[0])
    assert np.corrcoef(linear, exact)[0, 1] > 0.99
    np.testing.assert_allclose(np.quantile(linear, [0.05, 0.95]), np.quantile(exact, [0.05, 0.95]), atol=1e-3)


def test_equal_scores_go_to_the_lower_class(scored):
    bootstrap = scored[2]
    one = scores.score(torch.zeros(40, 6), torch.arange(40) % 6, bootstrap)
    assert one.right.tolist() == [float(i % 6 == 0) for i in range(40)]
    assert one.means["top3"] == pytest.approx(np.mean(np.arange(40) % 6 < 3))
