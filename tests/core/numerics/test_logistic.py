"""The logistic probe where the answer is known."""

import numpy as np
import pytest

from vit_registers.core.numerics import logistic


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_classes_are_read_and_a_regression_that_does_not_converge_is_an_error(monkeypatch):
    rng = np.random.default_rng(0)
    labels = np.arange(200) % 4
    tokens = np.eye(4)[labels] + 0.4 * rng.standard_normal((200, 4))
    assert (logistic.classes(tokens[:100], labels[:100], tokens[100:]) == labels[100:]).mean() > 0.8
    monkeypatch.setattr(logistic, "ITERATIONS", 2)
    with pytest.raises(RuntimeError, match="did not converge in 2 iterations"):
        logistic.classes(tokens[:100], labels[:100], tokens[100:])
