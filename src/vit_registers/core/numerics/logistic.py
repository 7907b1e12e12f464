"""The linear probe in closed terms: logistic regression to convergence, without settings."""

from typing import Any

from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

ITERATIONS = 2000  # it needs some tens


def classes(train: NDArray[Any], labels: NDArray[Any], test: NDArray[Any]) -> NDArray[Any]:
    """Classes (m,) by logistic regression on standardised tokens: train (n, d), labels (n,), test (m, d).

    Not having converged is an error, no matter of a warning.
    """
    regression = LogisticRegression(max_iter=ITERATIONS)
    classifier = make_pipeline(StandardScaler(), regression).fit(train, labels)
    if regression.n_iter_.max() >= ITERATIONS:
        raise RuntimeError(f"logistic regression on {len(train)} tokens did not converge in {ITERATIONS} iterations")
    predicted: NDArray[Any] = classifier.predict(test)
    return predicted
