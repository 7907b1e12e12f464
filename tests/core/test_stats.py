import itertools

import numpy as np
import pytest
from scipy.stats import binomtest, bootstrap, norm

from vit_registers.core.stats import Bootstrap, mcnemar_exact, sign_flip, wilson


@pytest.mark.parametrize(("hits", "n"), [(0, 20), (7, 20), (20, 20), (390, 1000)])
@pytest.mark.parametrize("confidence", [0.9, 0.95])
def test_wilson_is_the_formula(hits, n, confidence):
    z, share = norm.ppf((1 + confidence) / 2), hits / n
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    assert wilson(hits, n, confidence) == pytest.approx((max(0.0, centre - half), min(1.0, centre + half)), abs=1e-9)


def test_a_resample_is_a_draw_of_images_with_replacement():
    rng = np.random.default_rng(0)
    values = rng.standard_normal((9, 2))
    bootstrap = Bootstrap(9, 50, 0.9, np.random.default_rng(1))
    slow = []
    for counts in np.random.default_rng(1).multinomial(9, np.full(9, 1 / 9), size=50):
        drawn = [values[i] for i, times in enumerate(counts) for _ in range(times)]
        assert len(drawn) == 9
        slow.append(np.mean(drawn, axis=0))
    np.testing.assert_allclose(bootstrap.means(values), slow, rtol=1e-12)
    ordered = sorted(mean[0] for mean in slow)
    low, high = bootstrap.interval(values[:, 0])
    assert ordered[2] == pytest.approx(low, abs=ordered[3] - ordered[2])  # 5 % and 95 % of 50
    assert ordered[47] == pytest.approx(high, abs=ordered[47] - ordered[46])


def test_the_interval_of_a_mean_is_about_two_standard_errors_wide():
    values = np.random.default_rng(0).standard_normal(2000) + 5.0
    low, high = Bootstrap(2000, 2000, 0.95, np.random.default_rng(1)).interval(values)
    error = values.std() / np.sqrt(2000)
    assert (low, high) == pytest.approx((values.mean() - 1.96 * error, values.mean() + 1.96 * error), abs=0.15 * error)
    narrow = Bootstrap(2000, 2000, 0.8, np.random.default_rng(1)).interval(values)
    assert low < narrow[0] < narrow[1] < high


def test_the_interval_of_a_share_is_that_of_scipys_percentile_bootstrap():
    hits = (np.random.default_rng(0).random(366) < 0.7).astype(float)  # as many images as kukade2025's largest test
    ours = Bootstrap(366, 4000, 0.95, np.random.default_rng(1)).interval(hits)
    theirs = bootstrap((hits,), np.mean, n_resamples=4000, method="percentile", rng=np.random.default_rng(2))
    assert ours == pytest.approx(theirs.confidence_interval, abs=2.1 / 366)  # means are multiples of one image


def test_differences_stay_paired():
    rng = np.random.default_rng(0)
    a = rng.standard_normal(400)
    b = a + 0.01 * rng.standard_normal(400) - 0.1
    bootstrap = Bootstrap(400, 500, 0.95, rng)
    np.testing.assert_allclose(bootstrap.means(a) - bootstrap.means(b), bootstrap.means(a - b), atol=1e-12)
    low, high = bootstrap.interval(a - b)
    assert high - low < 0.003  # unpaired it would be about 0.28


def test_outcomes_that_never_vary_have_an_interval_of_no_width():
    assert Bootstrap(30, 100, 0.95, np.random.default_rng(0)).interval(np.ones(30, dtype=bool)) == (1.0, 1.0)


@pytest.mark.parametrize(("only_a", "only_b"), [(0, 0), (1, 0), (12, 3), (7, 7), (0, 9)])
def test_mcnemar_is_a_fair_coin_over_the_images_that_differ(only_a, only_b):
    a = np.array([True] * (5 + only_a) + [False] * (only_b + 4))
    b = np.array([True] * 5 + [False] * only_a + [True] * only_b + [False] * 4)
    differ = only_a + only_b
    expected = binomtest(only_a, differ, 0.5).pvalue if differ else 1.0
    assert mcnemar_exact(a, b) == pytest.approx(expected)
    assert mcnemar_exact(b, a) == pytest.approx(expected)


def test_sign_flips_approach_the_share_of_all_assignments():
    differences = np.array([0.9, 0.4, 1.3, -0.2, 0.7, 1.1, -0.5, 0.3, 0.8])
    observed = abs(differences.sum())
    every = [abs(np.dot(signs, differences)) for signs in itertools.product([-1, 1], repeat=9)]
    exact = np.mean([total >= observed - 1e-9 for total in every])
    assert 0.005 < exact < 0.05
    assert sign_flip(differences, 20000, np.random.default_rng(0)) == pytest.approx(exact, abs=0.004)


def test_images_that_do_not_differ_do_not_matter_to_sign_flips():
    differences = np.array([0.5, -0.1, 0.4, 0.3])
    padded = np.concatenate([differences, np.zeros(50)])
    one, other = (sign_flip(values, 500, np.random.default_rng(3)) for values in (differences, padded))
    assert one == other
    assert sign_flip(np.zeros(50), 500, np.random.default_rng(3)) == 1.0


def test_sign_flips_are_never_p_zero():
    assert sign_flip(np.ones(200), 999, np.random.default_rng(0)) == pytest.approx(1 / 1000)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e6])
def test_rounding_does_not_decide_between_sums_that_are_equal(scale):
    whole = np.random.default_rng(5).integers(-3, 4, size=400).astype(float)  # sums of these are exact
    expected = sign_flip(whole, 3000, np.random.default_rng(0))
    assert sign_flip(scale * whole / 3.0, 3000, np.random.default_rng(0)) == expected
