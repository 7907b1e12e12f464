import numpy as np
import pytest
import torch

from vit_registers.core.numerics.linalg import (
    effective_rank,
    jensen_shannon,
    principal_axes,
    ridge,
    row_cosines,
    spectrum,
)


@pytest.mark.parametrize("outputs", [(), (3,)], ids=["one target", "several"])
@pytest.mark.parametrize("constant", [False, True])
def test_ridge_is_least_squares_with_the_penalty_as_extra_rows(constant, outputs):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(60, 5)) @ rng.normal(size=(5, 5)) + 1.0, rng.normal(size=(60, *outputs))
    if constant:
        x[:, -1] = 1.0
    products, targets = torch.from_numpy(x.T @ x), torch.from_numpy(x.T @ y)
    before = products.clone()
    found = ridge(products, targets, 0.1, constant)
    penalised = 4 if constant else 5
    mean = sum(float(x[:, i] @ x[:, i]) for i in range(penalised)) / penalised
    extra = (0.1 * mean) ** 0.5 * np.eye(5)[:penalised]
    rows, sought = np.vstack([x, extra]), np.concatenate([y, np.zeros((penalised, *outputs))])
    np.testing.assert_allclose(found, np.linalg.lstsq(rows, sought, rcond=None)[0], rtol=1e-8)
    assert torch.equal(products, before)


@pytest.mark.parametrize("shape", [(40, 6), (6, 40)], ids=["many tokens", "many channels"])
def test_the_spectrum_is_that_of_singular_values(shape):
    tokens = np.random.default_rng(0).normal(size=(3, *shape)) + 2.0
    for found, each in zip(spectrum(tokens), tokens, strict=True):
        singular = np.linalg.svd(each - each.mean(0), compute_uv=False)
        np.testing.assert_allclose(found[::-1], singular**2 / shape[0], atol=1e-10)


@pytest.mark.parametrize("rank", [1, 3, 7])
def test_the_effective_rank_of_an_isotropic_set_is_its_rank(rank):
    rng = np.random.default_rng(rank)
    basis = np.linalg.qr(rng.normal(size=(10, 10)))[0][:, :rank]
    tokens = np.concatenate([basis.T, -basis.T])  # of zero mean, and as long along each axis
    values = spectrum(tokens)
    assert effective_rank(values) == pytest.approx(rank)
    assert effective_rank(np.sqrt(np.maximum(values, 0.0))) == pytest.approx(rank, rel=1e-4)


def test_the_effective_rank_is_one_of_one_direction_and_none_of_nothing():
    assert effective_rank(np.array([[0.0, 0.0, 5.0], [0.0, 0.0, 0.0], [2.0, 2.0, 2.0]])) == pytest.approx([1, 0, 3])
    assert effective_rank(np.array([3.0, 1.0])) == pytest.approx(np.exp(-0.75 * np.log(0.75) - 0.25 * np.log(0.25)))


def test_principal_axes_are_those_of_most_variance_with_a_sign_of_their_own():
    tokens = np.random.default_rng(0).normal(size=(500, 4)) * [1.0, 5.0, 0.1, 3.0]
    products = np.cov(tokens.T, bias=True)
    axes = principal_axes(products, 3)
    right = np.linalg.svd(tokens - tokens.mean(0))[2][:3].T
    np.testing.assert_allclose(np.abs(np.einsum("dk,dk->k", axes, right)), 1.0, atol=1e-9)
    assert np.abs(axes).argmax(0).tolist() == [1, 3, 0]
    assert (axes.max(0) >= -axes.min(0)).all()


def test_row_cosines_are_those_of_each_pair():
    a, b = np.random.default_rng(0).normal(size=(2, 3, 4, 5))
    slow = [
        [x @ y / np.linalg.norm(x) / np.linalg.norm(y) for x, y in zip(*rows, strict=True)]
        for rows in zip(a, b, strict=True)
    ]
    np.testing.assert_allclose(row_cosines(a, b), slow, rtol=1e-5)


def test_the_divergence_of_attention_is_that_of_jensen_and_shannon():
    p, q = np.random.default_rng(0).dirichlet(np.ones(5), size=(2, 3))
    for one, other, found in zip(p, q, jensen_shannon(p, 2.0 * q), strict=True):
        middle = [(a + b) / 2 for a, b in zip(one, other, strict=True)]
        halves = [sum(a * np.log2(a / m) for a, m in zip(x, middle, strict=True)) for x in (one, other)]
        assert found == pytest.approx(sum(halves) / 2)
    assert jensen_shannon(p, p) == pytest.approx(np.zeros(3))
    assert jensen_shannon(np.array([1.0, 0.0]), np.array([0.0, 1.0])) == pytest.approx(1.0)
