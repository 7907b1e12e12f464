import itertools
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.stats import binomtest, bootstrap, norm, t

from vit_registers.core.stats import Bootstrap, _drawn, _on_lattice, jackknife, mcnemar_exact, sign_flip, wilson


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


def exact_by_hand(differences):
    every = [abs(np.dot(signs, differences)) for signs in itertools.product([-1, 1], repeat=len(differences))]
    return np.mean([total >= abs(sum(differences)) - 1e-9 for total in every])


def test_sign_flips_of_few_differences_are_the_share_of_all_assignments():
    differences = np.array([0.9, 0.4, 1.3, -0.2, 0.7, 1.1, -0.5, 0.3, 0.8])
    expected = exact_by_hand(differences)
    assert 0.005 < expected < 0.05
    assert sign_flip(differences, 10, np.random.default_rng(0)) == pytest.approx(expected)  # nothing is drawn
    assert _drawn(differences, 20_000, np.random.default_rng(0)) == pytest.approx(expected, rel=0.1)


@pytest.mark.slow
@pytest.mark.parametrize("sizes", [[1.0], [1 / 3, 2 / 3, 1.0], [2 / 3, 1.0], [0.5, 0.75]])
def test_sign_flips_of_few_sizes_are_exact_however_many_images_differ(sizes):
    rng = np.random.default_rng(1)
    few = rng.choice(sizes, 14) * rng.choice([-1, 1], 14, p=[0.25, 0.75])
    assert _on_lattice(few) == pytest.approx(exact_by_hand(few))
    many = rng.choice(sizes, 900) * rng.choice([-1, 1], 900, p=[0.46, 0.54])
    assert _on_lattice(many) == pytest.approx(_drawn(many, 10**6, np.random.default_rng(2)), rel=0.1)


def test_sign_flips_of_one_size_are_mcnemars_test():
    a, b = (np.random.default_rng(i).random(700) < share for i, share in ((0, 0.7), (1, 0.6)))
    p = sign_flip(a.astype(float) - b, 10, np.random.default_rng(0))
    assert p == pytest.approx(mcnemar_exact(a, b), rel=1e-9)
    far = np.array([1.0] * 300 + [-1.0] * 20)  # a tail that no number of draws reaches
    assert sign_flip(far, 10, np.random.default_rng(0)) == pytest.approx(binomtest(20, 320).pvalue, rel=1e-6)


def test_sizes_without_a_common_step_are_drawn():
    rng = np.random.default_rng(0)
    assert _on_lattice(rng.standard_normal(40)) is None
    assert _on_lattice(np.array([1.0, np.pi] * 20)) is None


def test_drawing_ends_once_p_is_known_and_goes_on_where_it_is_small():
    rng = SimpleNamespace(bytes=np.random.default_rng(0).bytes, drawn=0)

    def counted(count):
        rng.drawn += count
        return np.random.default_rng(rng.drawn).bytes(count)

    noise, effect = np.random.default_rng(1).standard_normal((2, 64))
    counting = SimpleNamespace(bytes=counted)
    sign_flip(noise - noise.mean(), 10**6, counting)
    assert rng.drawn <= 10_000 * 64 / 8
    rng.drawn = 0
    assert sign_flip(effect + 2.0, 50_000, counting) == pytest.approx(1 / 50_001)
    assert rng.drawn == 50_000 * 64 / 8


def test_sign_flips_err_as_often_as_they_say():
    rng = np.random.default_rng(3)
    ps = np.array([sign_flip(rng.standard_normal(60), 999, rng) for _ in range(1500)])
    for level in (0.05, 0.2):
        assert (ps <= level).mean() == pytest.approx(level, abs=3.2 * np.sqrt(level * (1 - level) / 1500))


def test_images_that_do_not_differ_do_not_matter_to_sign_flips():
    differences = np.random.default_rng(0).standard_normal(40) + 0.3
    padded = np.concatenate([differences, np.zeros(50)])
    one, other = (sign_flip(values, 500, np.random.default_rng(3)) for values in (differences, padded))
    assert one == other
    assert sign_flip(np.zeros(50), 500, np.random.default_rng(3)) == 1.0


def test_sign_flips_are_never_p_zero():
    far = 1.0 + np.random.default_rng(0).random(200)
    assert sign_flip(far, 999, np.random.default_rng(0)) == pytest.approx(1 / 1000)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e6])
def test_rounding_does_not_decide_between_sums_that_are_equal(scale):
    whole = np.random.default_rng(5).integers(-3, 4, size=400).astype(float)  # sums of these are exact
    whole = whole[whole != 0]
    expected = _drawn(whole, 3000, np.random.default_rng(0))
    assert _drawn(scale * whole / 3.0, 3000, np.random.default_rng(0)) == expected


def test_several_intervals_at_once_are_those_one_by_one():
    values = np.random.default_rng(0).standard_normal((30, 2, 3))
    bootstrap = Bootstrap(30, 200, 0.9, np.random.default_rng(1))
    low, high = bootstrap.intervals(values)
    assert low.shape == (2, 3)
    assert (low[1, 2], high[1, 2]) == pytest.approx(bootstrap.interval(values[:, 1, 2]))


def covered(draw, interval, truth, times=1200):
    """Share of ``times`` draws whose interval holds the truth."""
    rng = np.random.default_rng(7)
    bounds = [interval(draw(rng)) for _ in range(times)]
    return np.mean([low <= truth <= high for low, high in bounds])


BETWEEN = (0.93, 0.97)


@pytest.mark.parametrize("share", [0.05, 0.5])
def test_95_percent_of_the_intervals_of_a_mean_hold_it(share):
    bootstrap = Bootstrap(400, 500, 0.95, np.random.default_rng(0))
    found = covered(lambda rng: (rng.random(400) < share).astype(float), bootstrap.interval, share)
    assert BETWEEN[0] <= found <= BETWEEN[1]


@pytest.mark.parametrize(("share", "truth"), [(0.5, 0.0), (0.9, norm.ppf(0.9) * 2**0.5)])
def test_95_percent_of_the_intervals_of_a_quantile_hold_it(share, truth):
    """Values of one image have half of their variance in common, as norms of patches of one picture might."""
    bootstrap = Bootstrap(300, 500, 0.95, np.random.default_rng(0))

    def draw(rng):
        return rng.standard_normal((300, 1)) + rng.standard_normal((300, 20))

    assert BETWEEN[0] <= covered(draw, lambda v: bootstrap.quantile_interval(v, share), truth, 800) <= BETWEEN[1]


def test_the_interval_of_a_quantile_is_about_that_of_quantiles_of_resamples():
    rng = np.random.default_rng(0)
    values = rng.gamma(3.0, size=(200, 1)) + rng.gamma(1.0, size=(200, 30))
    ours = Bootstrap(200, 1000, 0.95, np.random.default_rng(1)).quantile_interval(values, 0.5)
    slow = [np.median(values[rng.integers(200, size=200)]) for _ in range(1000)]
    assert ours == pytest.approx(tuple(np.quantile(slow, [0.025, 0.975])), abs=0.06)
    assert ours[1] - ours[0] > 0.3


def test_the_jackknife_of_a_mean_is_the_interval_of_student():
    values = np.random.default_rng(0).normal(size=25)
    without = np.array([np.delete(values, i).mean() for i in range(25)])
    expected = t.interval(0.9, 24, loc=values.mean(), scale=values.std(ddof=1) / 5.0)
    assert jackknife(values.mean(), without, 0.9) == pytest.approx(expected)


def test_the_jackknife_of_a_ratio_of_moments_covers_it():
    rng, hits, groups = np.random.default_rng(0), 0, np.arange(200) % 20
    for _ in range(800):
        values = rng.gamma(4.0, size=200)  # of mean 4 and variance 4
        without = np.array([values[groups != g].mean() / values[groups != g].std() for g in range(20)])
        low, high = jackknife(values.mean() / values.std(), without, 0.95)
        hits += low < 2.0 < high
    assert 0.93 <= hits / 800 <= 0.97
