"""What class probabilities are worth: accuracies, macro means and areas, in all images and in every resample."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import precision_recall_fscore_support

from vit_registers.core.stats import Bootstrap, Floats
from vit_registers.core.table import Rows

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Scored:
    """Means over images and over each bootstrap resample (resamples,) by metric; ``right`` (m,): 1 for the images that
    are classified right.
    """

    means: dict[str, float]
    resampled: dict[str, Floats]
    right: Floats


def score(scores: Tensor, targets: Tensor, bootstrap: Bootstrap) -> Scored:
    """Top-1, top-3, macro F1, precision, recall and one-vs-rest AUC of class probabilities (m, classes).

    ``targets`` (m,). Equal scores go to the lower class. Macro: the mean over classes that occur as target or
    prediction; the AUC over classes of which there are images and others.
    """
    labels = targets.numpy()
    order = scores.argsort(dim=1, descending=True, stable=True).numpy()
    hits = {"top1": order[:, 0] == labels, "top3": (order[:, :3] == labels[:, None]).any(axis=1)}
    values = {metric: float(hit.mean()) for metric, hit in hits.items()}
    resampled = {metric: bootstrap.means(hit) for metric, hit in hits.items()}
    macro = precision_recall_fscore_support(labels, order[:, 0], average="macro", zero_division=0.0)
    again = resampled_macro(labels, order[:, 0], scores.shape[1], bootstrap)
    for metric, value in zip(("macro_precision", "macro_recall", "macro_f1"), macro, strict=False):
        values[metric], resampled[metric] = float(value), again[metric]
    area, influence = macro_auc(labels, scores.numpy())
    if area is not None:
        values["auc"], resampled["auc"] = area, area + bootstrap.means(influence)
    return Scored(values, resampled, hits["top1"].astype(float))


def add_rows(rows: Rows, scored: Scored, bootstrap: Bootstrap, prefix: str = "", **axes: Any) -> None:
    """A row for each metric, its name behind ``prefix``, with its percentile interval."""
    for metric, value in scored.means.items():
        low, high = (float(edge) for edge in np.quantile(scored.resampled[metric], bootstrap.tails))
        rows.add(f"{prefix}{metric}", value, len(scored.right), low=low, high=high, **axes)


def resampled_macro(
    targets: NDArray[np.int64], predicted: NDArray[np.int64], classes: int, bootstrap: Bootstrap
) -> dict[str, Floats]:
    """Macro precision, recall and F1 in each resample (resamples,); a share of nothing is 0, as scikit-learn has it."""
    one_hot = np.eye(classes)
    both = bootstrap.means(one_hot[targets] * one_hot[predicted])
    target, prediction = bootstrap.means(one_hot[targets]), bootstrap.means(one_hot[predicted])
    number = ((target + prediction) > 0).sum(axis=1)

    def mean(numerator: Floats, denominator: Floats) -> Floats:
        shares = np.divide(numerator, denominator, out=np.zeros_like(numerator), where=denominator > 0)
        total: Floats = shares.sum(axis=1) / number
        return total

    return {
        "macro_precision": mean(both, prediction),
        "macro_recall": mean(both, target),
        "macro_f1": mean(2.0 * both, target + prediction),
    }


def macro_auc(targets: NDArray[np.int64], scores: Floats) -> tuple[float | None, Floats]:
    """One-vs-rest area under the ROC curve, mean over classes, and what each image adds to it (m,), of mean 0.

    An image's part comes from its placement values, the shares of the other side that it beats (DeLong et al. 1988):
    the area in a resample is the area plus the mean of its images' parts, to first order. None where no
    class has images and others.
    """
    areas, influence, n = [], np.zeros(len(targets)), len(targets)
    for label in range(scores.shape[1]):
        mine, score = targets == label, scores[:, label].astype(float)
        if not mine.any() or mine.all():
            continue
        placed = np.empty(n)
        placed[mine] = _beaten(score[mine], score[~mine])
        placed[~mine] = 1.0 - _beaten(score[~mine], score[mine])
        area = placed[mine].mean()
        areas.append(area)
        influence += (placed - area) * np.where(mine, n / mine.sum(), n / (~mine).sum())
    return (float(np.mean(areas)), influence / len(areas)) if areas else (None, influence)


def _beaten(ours: Floats, theirs: Floats) -> Floats:
    """Share of ``theirs`` that each of ``ours`` exceeds; equal ones count half."""
    theirs = np.sort(theirs)
    below, through = (np.searchsorted(theirs, ours, side) for side in ("left", "right"))
    share: Floats = (below + through) / (2.0 * len(theirs))
    return share


def over_seeds(scored: list[Scored]) -> Scored:
    """Means over seeds, in all and in each resample: the interval is over images, not over seeds."""
    names = list(scored[0].means)
    return Scored(
        {metric: float(np.mean([one.means[metric] for one in scored])) for metric in names},
        {metric: np.mean([one.resampled[metric] for one in scored], axis=0) for metric in names},
        np.mean([one.right for one in scored], axis=0),
    )
