"""DINO-seg against a slow version that adds attention patch by patch and floods components."""

import numpy as np
import pytest

from vit_registers.experiments.object_discovery import dino_seg


def components(mask):
    """4-connected components of a mask (h, w) as sets of (row, column), in reading order of their first patch."""
    found, seen = [], set()
    for start in zip(*np.nonzero(mask), strict=True):
        if start in seen:
            continue
        part, waiting = set(), [start]
        while waiting:
            y, x = waiting.pop()
            if (y, x) in part or not (0 <= y < mask.shape[0] and 0 <= x < mask.shape[1]) or not mask[y, x]:
                continue
            part.add((y, x))
            waiting += [(y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)]
        found.append(part)
        seen |= part
    return found


def slow(attention, grid, mass, skip_last):
    total, kept = sum(attention), []
    for patch in sorted(range(len(attention)), key=lambda p: (-attention[p], p)):
        if sum(attention[p] for p in kept) >= mass * total or attention[patch] == 0:
            break
        kept.append(patch)
    mask = np.zeros(grid, bool)
    mask.flat[kept] = True
    parts = components(mask)
    counted = parts[:-1] if skip_last else parts
    if counted:
        chosen = max(counted, key=len)  # the first of the largest
    elif parts:
        chosen = set(zip(*np.nonzero(~mask), strict=True))
    else:
        chosen = set()
    if not chosen:
        return [np.nan] * 4
    ys, xs = zip(*chosen, strict=True)
    return [min(xs), min(ys), max(xs) + 1, max(ys) + 1]


@pytest.mark.parametrize("skip_last", [False, True])
@pytest.mark.parametrize("mass", [0.1, 0.6, 0.9])
def test_boxes_are_those_of_the_slow_version(mass, skip_last):
    rng = np.random.default_rng(0)
    attention = rng.integers(0, 5, size=(200, 30)).astype(np.float32) ** 2  # whole numbers: sums are exact, and tie
    attention[0] = 0.0
    attention[1] = [0.0] * 29 + [1.0]
    found = dino_seg.discover(attention, (5, 6), mass, skip_last)
    expected = [slow(image.tolist(), (5, 6), mass, skip_last) for image in attention]
    np.testing.assert_array_equal(found, expected)
    assert np.isnan(found[0]).all()


def test_an_object_that_holds_the_attention_is_the_box_and_the_published_code_returns_the_background():
    attention = np.full((1, 6, 8), 0.001, dtype=np.float32)
    attention[0, 2:4, 3:6] = 0.5
    boxes = [dino_seg.discover(attention.reshape(1, 48), (6, 8), 0.6, skip)[0].tolist() for skip in (False, True)]
    assert boxes[0] == [3, 2, 6, 4]
    assert boxes[1] == [0, 0, 8, 6]
