"""Conclusions against statsmodels, closed forms and simulation."""

import numpy as np
import pytest
from scipy.stats import norm, ttest_1samp, ttest_rel
from statsmodels.stats.weightstats import ttost_paired

from vit_registers.core.inference import Sample, equivalence, error, holm, over_trainings, repaired, wald
from vit_registers.core.stats import Bootstrap

BETWEEN = (0.93, 0.97)


# Families.


@pytest.mark.parametrize("ps", [[0.01, 0.04, 0.03, 0.005, 0.9], [0.2, 0.011, 0.012, 1.0], [1e-9, 0.6]])
def test_holm_is_the_step_down_procedure(ps):
    slow, largest = {}, 0.0
    for place, p in enumerate(sorted(ps)):
        largest = max(largest, min(1.0, (len(ps) - place) * p))
        slow[p] = largest
    assert holm(ps) == pytest.approx([slow[p] for p in ps])
    assert holm([]) == []
    assert holm([0.03]) == [0.03]


# Differences of scores over all images.


def test_wald_is_the_paired_t_test_of_many_images():
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, 1500)) * 0.5 + np.array([[0.03], [0.0]])
    bootstrap = Bootstrap(1500, 4000, 0.95, rng)
    p = wald(float((a - b).mean()), error(bootstrap.means(a - b)))
    assert 0.001 < p < 0.2
    assert p == pytest.approx(ttest_rel(a, b).pvalue, rel=0.15)
    assert wald(0.0, 0.0) == wald(0.1, 0.0) == 1.0


def test_95_percent_of_the_intervals_of_a_difference_of_rmse_hold_it():
    """As dense prediction scores depth: a root over all pixels, of two conditions on the same images."""
    bootstrap, rng, held = Bootstrap(250, 500, 0.95, np.random.default_rng(0)), np.random.default_rng(1), 0
    for _ in range(1000):
        common = rng.gamma(4.0, size=250)  # hard and easy images: squared errors of mean 4 s
        a, b = 1.2 * common * rng.gamma(5.0, 0.2, size=250), common * rng.gamma(5.0, 0.2, size=250)
        low, high = bootstrap.percentiles(np.sqrt(bootstrap.means(a)) - np.sqrt(bootstrap.means(b)))
        held += low <= 4.8**0.5 - 4.0**0.5 <= high
    assert BETWEEN[0] <= held / 1000 <= BETWEEN[1]


# Equivalence.


@pytest.mark.parametrize("margin", [0.03, 0.06])
def test_equivalence_is_the_two_one_sided_t_tests_of_statsmodels(margin):
    rng = np.random.default_rng(2)
    a, b = rng.standard_normal((2, 1500)) * 0.5 + np.array([[0.02], [0.0]])
    p = equivalence(float((a - b).mean()), error(Bootstrap(1500, 4000, 0.95, rng).means(a - b)), margin, 1500)
    assert p == pytest.approx(ttost_paired(a, b, -margin, margin)[0], rel=0.15)


def test_what_is_as_large_as_the_margin_is_called_the_same_in_one_of_twenty():
    bootstrap, rng = Bootstrap(300, 400, 0.95, np.random.default_rng(0)), np.random.default_rng(3)
    found = []
    for _ in range(1500):
        differences = rng.choice([1.0, 0.0, -1.0], size=300, p=[0.10, 0.85, 0.05])  # mean .05
        found.append(equivalence(float(differences.mean()), error(bootstrap.means(differences)), 0.05, 300))
    assert (np.array(found) < 0.05).mean() == pytest.approx(0.05, abs=0.02)


def test_many_images_without_any_difference_prove_little_of_a_small_margin():
    assert equivalence(0.0, 0.0, 0.01, 100) == pytest.approx(0.99**100)
    assert equivalence(0.0, 0.0, 0.01, 2000) < 1e-8
    assert equivalence(0.02, 0.0, 0.01, 2000) == 1.0


# Repaired shares.


def sample(values, bootstrap):
    return Sample(float(values.mean()), bootstrap.means(values))


def test_the_repaired_share_is_the_ratio_with_the_interval_of_its_resamples():
    rng = np.random.default_rng(0)
    before, after, control = ((rng.random(800) < share).astype(float) for share in (0.2, 0.35, 0.4))
    bootstrap = Bootstrap(800, 300, 0.9, np.random.default_rng(1))
    found = repaired(*(sample(each, bootstrap) for each in (before, after, control)), 0.9)
    assert found.value == pytest.approx((after.mean() - before.mean()) / (control.mean() - before.mean()))
    slow = []
    for counts in np.random.default_rng(1).multinomial(800, np.full(800, 1 / 800), size=300):
        p, t, c = (np.average(each, weights=counts) for each in (before, after, control))
        slow.append((t - p) / (c - p))
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(slow, [0.05, 0.95])))


@pytest.mark.parametrize(("after", "expected"), [("before", 0.0), ("control", 1.0)])
def test_nothing_repaired_is_0_and_the_control_reached_is_1(after, expected):
    rng = np.random.default_rng(0)
    bootstrap = Bootstrap(500, 200, 0.95, rng)
    of = {"before": sample(rng.random(500), bootstrap), "control": sample(rng.random(500) + 1.0, bootstrap)}
    assert repaired(of["before"], of[after], of["control"], 0.95)[:3] == pytest.approx((expected,) * 3)


def test_where_damage_may_be_none_there_is_no_share():
    rng = np.random.default_rng(0)
    bootstrap = Bootstrap(100, 200, 0.95, rng)
    before, after, control = (sample(rng.random(100), bootstrap) for _ in range(3))
    found = repaired(before, after, control, 0.95)
    assert found.value is None
    assert found.reason.startswith("no share: the damage, ")


def test_95_percent_of_the_intervals_of_a_repaired_share_hold_it():
    bootstrap, rng, held = Bootstrap(500, 500, 0.95, np.random.default_rng(0)), np.random.default_rng(4), 0
    for _ in range(1000):
        ease = rng.random(500)  # of an image, the same under every condition: outcomes are paired
        before, after, control = (sample((ease < share).astype(float), bootstrap) for share in (0.2, 0.32, 0.4))
        found = repaired(before, after, control, 0.95)
        held += found.low <= 0.6 <= found.high
    assert BETWEEN[0] <= held / 1000 <= BETWEEN[1]


# Over trainings.


def test_trainings_that_decide_alone_are_the_one_sample_t_test():
    values = np.array([0.03, 0.01, 0.045, 0.02, 0.0])
    found = over_trainings(values, np.repeat(values[:, None], 50, axis=1), 0.95)
    expected = ttest_1samp(values, 0.0)
    assert found.value == pytest.approx(values.mean())
    assert found.p == pytest.approx(expected.pvalue)
    assert (found.low, found.high) == pytest.approx(tuple(expected.confidence_interval(0.95)))


def test_images_that_decide_alone_are_their_normal_interval():
    rng = np.random.default_rng(0)
    shared = rng.standard_normal(4000) * 0.01 + 0.02
    found = over_trainings(np.full(3, 0.02), np.tile(shared, (3, 1)), 0.95)
    deviation = shared.std(ddof=1)
    assert (found.low, found.high) == pytest.approx((0.02 - 1.96 * deviation, 0.02 + 1.96 * deviation), rel=1e-3)
    assert found.p == pytest.approx(2 * norm.sf(0.02 / deviation), rel=1e-6)


def test_equivalence_over_trainings_has_their_degrees_of_freedom():
    values = np.array([0.003, 0.001, 0.0045, 0.002, 0.0])
    found = over_trainings(values, np.repeat(values[:, None], 50, axis=1), 0.95)
    p = equivalence(found.value, found.error, 0.01, 2000, found.freedom)
    assert p == pytest.approx(ttost_paired(values, np.zeros(5), -0.01, 0.01)[0])


def test_one_training_has_no_inference_over_trainings():
    with pytest.raises(ValueError, match="one training"):
        over_trainings(np.array([0.1]), np.zeros((1, 10)), 0.95)


def crossed(rng, k, n, trainings, images, rest):
    """Differences (k, n) around .5 of trainings and images that each have an effect of their own."""
    own = rng.standard_normal((k, 1)) * trainings + rng.standard_normal((1, n)) * images
    return 0.5 + own + rng.standard_normal((k, n)) * rest


@pytest.mark.parametrize(
    "spread", [(0.05, 0.2, 0.3), (0.02, 0.8, 0.3), (0.05, 0.0, 0.0)], ids=["both", "images", "trainings"]
)
@pytest.mark.parametrize("k", [4, 8])
def test_95_percent_of_the_intervals_over_trainings_hold_the_mean(k, spread):
    n, rng, held = 200, np.random.default_rng(5), 0
    bootstrap = Bootstrap(n, 300, 0.95, np.random.default_rng(0))
    for _ in range(1000):
        values = crossed(rng, k, n, *spread)
        found = over_trainings(values.mean(axis=1), bootstrap.means(values.T).T, 0.95)
        held += found.low <= 0.5 <= found.high
    assert BETWEEN[0] <= held / 1000 <= BETWEEN[1]


def test_a_bootstrap_of_trainings_then_images_is_too_narrow_for_five_trainings():
    """Why its percentiles are not what is reported."""
    k, n, rng, held = 5, 100, np.random.default_rng(6), 0
    bootstrap = Bootstrap(n, 300, 0.95, np.random.default_rng(0))
    for _ in range(1000):
        values = crossed(rng, k, n, 0.1, 0.2, 0.3)
        drawn = rng.integers(k, size=(300, k))
        of_resamples = bootstrap.means(values.T)  # (resamples, k)
        low, high = bootstrap.percentiles(np.take_along_axis(of_resamples, drawn, axis=1).mean(axis=1))
        held += low <= 0.5 <= high
    assert held / 1000 < 0.91
