"""One-shot classification of parts by the whole, over many draws (lappe2025)."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from vit_registers.core.stats import Settings, percentiles

MANY_CLASSES = 50  # fewer make a class among five no question: of ten classes half are
NO_CLASSES = "images of the data set have no classes"
FEW = "a class has one test image; one-shot classification takes two"
Floats = NDArray[np.float64]
Places = NDArray[np.int64]


@dataclass(frozen=True)
class OneShot:
    """Places (episodes, classes) of one image of each class to fit and of another to test.

    ``resamples`` (resamples, episodes) are the episodes of every resample, drawn with replacement.
    """

    fit: Places
    test: Places
    resamples: Places
    confidence: float

    @classmethod
    def draw(
        cls,
        labels: NDArray[np.int64] | None,
        count: int,
        statistics: Settings,
        rng: np.random.Generator,
        again: np.random.Generator,
    ) -> "OneShot | str":
        """``count`` episodes over images of these ``labels``, or why there can be none."""
        if labels is None:
            return NO_CLASSES
        drawn = episodes(labels, count, rng)
        if drawn is None:
            return FEW
        return cls(*drawn, again.integers(count, size=(statistics.resamples, count)), statistics.confidence)

    @property
    def count(self) -> int:
        """Episodes."""
        return len(self.fit)

    def scores(self, whole: Floats, part: Floats) -> dict[str, tuple[float, float, float]]:
        """Shares of right answers with their intervals, by metric; among five only where there are many classes."""
        ranks = ranks_of_truth(whole, part, self.fit, self.test)
        found = {}
        for metric, first in (("one_shot_top1", 1), ("one_shot_top5", 5)):
            if first == 1 or self.fit.shape[1] >= MANY_CLASSES:
                right = (ranks < first).mean(axis=1)
                interval = percentiles(right[self.resamples].mean(axis=1), self.confidence)
                found[metric] = float(right.mean()), *interval
        return found


def episodes(labels: NDArray[np.int64], count: int, rng: np.random.Generator) -> tuple[Places, Places] | None:
    """Places of one image of each class to fit, and of another to test, (count, classes) each.

    None where a class has one image alone.
    """
    members = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    if min(len(each) for each in members) < 2:
        return None
    drawn = np.stack([[rng.choice(each, 2, replace=False) for each in members] for _ in range(count)])
    return drawn[:, :, 0], drawn[:, :, 1]


def ranks_of_truth(full: Floats, part: Floats, fit: Places, test: Places) -> Places:
    """How many classes are nearer than the true one, (episodes, classes): cosine of tested parts to fitted wholes."""
    fitted, tested = (torch.nn.functional.normalize(torch.from_numpy(x), dim=1) for x in (full, part))
    cosines = tested[torch.from_numpy(test)] @ fitted[torch.from_numpy(fit)].transpose(1, 2)  # (e, tested, fitted)
    truth = cosines.diagonal(dim1=1, dim2=2).unsqueeze(2)
    return np.asarray((cosines > truth).sum(dim=2).numpy())
