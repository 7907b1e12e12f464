"""Which images figures show."""

import numpy as np
import pytest

from vit_registers.views.gallery import shown


def test_of_a_class_the_candidate_with_most_outliers_is_shown_classes_with_most_first():
    groups = np.array([7, 7, 7, 2, 2, 2, 5])
    models = [
        {"groups": groups, "outliers": np.array(counts)} for counts in ([0, 2, 0, 1, 0, 3, 0], [0, 0, 2, 0, 0, 0, 0])
    ]
    assert shown(models, 9) == [5, 1, 6]  # of equal ones the first
    assert shown(models, 2) == [5, 1]
    assert shown(models[1:], 1) == [2]
    assert shown([], 3) == []


@pytest.mark.parametrize("seed", range(20))
def test_the_same_as_by_hand(seed):
    rng = np.random.default_rng(seed)
    candidates, most = rng.integers(0, (4, 5), size=(rng.integers(1, 13), 2)).tolist(), int(rng.integers(1, 6))
    maps = {"groups": np.array([g for g, _ in candidates]), "outliers": np.array([n for _, n in candidates])}
    best = {}
    for place, (group, count) in enumerate(candidates):
        if group not in best or count > candidates[best[group]][1]:
            best[group] = place
    by_hand = sorted(best.values(), key=lambda place: (-candidates[place][1], list(best.values()).index(place)))
    assert shown([maps], most) == by_hand[:most]
