"""CKA against products of images, where its value is known, and its intervals against leaving images out."""

import numpy as np
import pytest

from vit_registers.core.numerics.similarity import ESTIMATORS, Compared
from vit_registers.core.stats import jackknife


def slow_hsic(k, el):
    """HSIC_1, with the diagonals set to zero, n (n - 3) times."""
    k, el, n, ones = k.copy(), el.copy(), len(k), np.ones(len(k))
    np.fill_diagonal(k, 0.0)
    np.fill_diagonal(el, 0.0)
    whole = (ones @ k @ ones) * (ones @ el @ ones) / ((n - 1) * (n - 2))
    return np.trace(k @ el) + whole - 2.0 * (ones @ k @ el @ ones) / (n - 2)


def slow(x, y, estimator):
    """CKA from the products of all pairs of images."""
    if estimator == "unbiased":
        k, el = x @ x.T, y @ y.T
        return slow_hsic(k, el) / np.sqrt(slow_hsic(k, k) * slow_hsic(el, el))
    centre = np.eye(len(x)) - 1.0 / len(x)
    k, el = centre @ x @ x.T @ centre, centre @ y @ y.T @ centre
    return np.sum(k * el) / np.sqrt(np.sum(k * k) * np.sum(el * el))


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_cka_from_products_of_features_is_that_from_products_of_images(estimator):
    x, y = np.random.default_rng(0).normal(size=(2, 30, 6)) + 3.0
    y = y[:, :4] + x[:, :4]
    assert Compared(x, y).cka(estimator) == pytest.approx(slow(x, y, estimator))


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_its_interval_is_that_of_leaving_out_groups_of_images(estimator):
    x, y = np.random.default_rng(0).normal(size=(2, 30, 6)) + 3.0
    y = y[:, :4] + x[:, :4]
    groups = np.arange(30) % 7
    without = np.array([slow(x[groups != g], y[groups != g], estimator) for g in range(7)])
    expected = jackknife(slow(x, y, estimator), without, 0.9)
    assert Compared(x, y).intervals(groups, 0.9)[estimator] == pytest.approx(expected)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_cka_is_one_of_a_feature_with_itself_turned_moved_and_scaled(estimator):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 5)) * [3.0, 2.0, 1.0, 1.0, 0.5]
    turned = np.linalg.qr(rng.normal(size=(5, 5)))[0]
    assert Compared(x, -7.0 * x @ turned + 2.0).cka(estimator) == pytest.approx(1.0)


def test_of_independent_features_cka_grows_with_channels_and_its_unbiased_form_is_zero_on_average():
    draws = np.random.default_rng(0).normal(size=(300, 2, 40, 30))
    biased, unbiased = ([Compared(x, y).cka(name) for x, y in draws] for name in ("linear", "unbiased"))
    assert np.mean(biased) > 0.35
    assert abs(np.mean(unbiased)) < 4 * np.std(unbiased) / np.sqrt(300)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_a_feature_that_is_the_same_for_all_images_has_none(estimator):
    x = np.random.default_rng(0).normal(size=(20, 3))
    assert not np.isfinite(Compared(x, np.ones((20, 2))).cka(estimator))
