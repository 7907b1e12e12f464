import numpy as np
import pytest
import torch

from vit_registers.core.linalg import ridge


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
