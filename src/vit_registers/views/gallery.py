"""Which of the candidates for pictures a figure shows: by a rule, so that what it is about can be seen in them."""

from collections.abc import Iterable

import numpy as np

from vit_registers.views.arrays import ByName


def shown(models: Iterable[ByName], most: int) -> list[int]:
    """Positions among the candidates of at most ``most`` images that figures show, the same for all ``models``.

    Each model's arrays hold the ``groups`` and the ``outliers`` of the candidates (data/gallery.py). Of candidates with
    as many outliers the first is taken.
    """
    found = [(maps["groups"], maps["outliers"]) for maps in models]
    if not found:
        return []
    groups, counts = found[0][0], np.max([outliers for _, outliers in found], axis=0)
    best = [max(np.flatnonzero(groups == group), key=lambda place: counts[place]) for group in dict.fromkeys(groups)]
    return [int(place) for place in sorted(best, key=lambda place: -counts[place])[:most]]
