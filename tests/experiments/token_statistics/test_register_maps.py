"""What registers look at, against loops over images, tokens, patches and pixels."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from helpers.jobs import rows
from vit_registers.core.stats import Bootstrap
from vit_registers.data import targets as truth
from vit_registers.data.transforms import Transform
from vit_registers.experiments.token_statistics import register_maps
from vit_registers.experiments.token_statistics.tokens import Tokens
from vit_registers.models.layout import TokenLayout

M, GRID = 5, (3, 4)


def made(cls, registers):
    rng = np.random.default_rng(registers)
    maps = rng.dirichlet(np.ones(20), size=(M, cls + registers))[..., :12].astype(np.float32)  # the rest goes elsewhere
    inside = np.where(rng.random((M, 12)) < 0.4, rng.random((M, 12)), 0.0)
    return maps, inside, TokenLayout(cls, registers, GRID)


def measured(maps, inside, layout):
    """Rows by metric, group and item, from maps (m, cls + r, p) of one block."""
    attention = np.zeros((len(maps), 1, layout.prefix, layout.length), np.float32)
    attention[:, 0, :, layout.patch_slice] = maps
    cached = SimpleNamespace(layout=layout, array={"attention": attention, "norms": attention[:, :, 0]}.__getitem__)
    bootstrap = Bootstrap(len(maps), 100, 0.95, np.random.default_rng(0))
    tokens = Tokens("baseline", cached, 1.0, bootstrap, rows("token_statistics", dataset="tiny", model="m"))
    register_maps.measure(tokens, inside)
    frame = tokens.rows.frame()
    assert set(frame.loc[frame["value"].notna(), "n"]) == {len(maps)}
    return {
        " ".join(map(str, row[["metric", "group", "item", "reference_group"]].dropna())): row["value"]
        for _, row in frame.iterrows()
    }


def share(image, inside):
    return sum(a * b for a, b in zip(image, inside, strict=True)) / sum(image)


@pytest.mark.parametrize(("cls", "registers"), [(1, 1), (1, 4), (0, 3)])
def test_every_number_is_that_of_a_loop(cls, registers):
    maps, inside, layout = made(cls, registers)
    tokens = range(cls + registers)
    names = ["cls"] * cls + [f"registers {i}" for i in range(1, 99)]
    expected = {f"object_attention {names[t]}": [share(maps[i, t], inside[i]) for i in range(M)] for t in tokens}
    expected["object_area"] = [sum(inside[i]) / 12 for i in range(M)]
    for metric, shift in (("object_spread", 0), ("object_spread_next_image", 1)):
        shares = [[share(maps[(i + shift) % M, t], inside[i]) for t in tokens if t >= cls] for i in range(M)]
        expected[metric] = [max(of_image) - min(of_image) for of_image in shares]
    spreads = zip(expected["object_spread"], expected["object_spread_next_image"], strict=True)
    expected["object_spread next image"] = [own - other for own, other in spreads]
    expected["winning_registers"] = [
        len({max(range(registers), key=lambda k, i=i, p=p: maps[i, cls + k, p]) for p in range(12)}) for i in range(M)
    ]
    found = measured(maps, inside, layout)
    assert found == {metric: pytest.approx(np.mean(values), rel=1e-5, abs=1e-9) for metric, values in expected.items()}


def test_without_boxes_only_the_winners_are_counted():
    maps, _, layout = made(1, 4)
    found = measured(maps, None, layout)
    assert [metric for metric, value in found.items() if pd.notna(value)] == ["winning_registers"]


def test_registers_that_share_the_image_among_them_all_win_and_one_map_for_all_has_one_winner():
    layout = TokenLayout(1, 3, (1, 3))
    inside = np.array([[1.0, 0.0, 0.0]])
    apart = np.concatenate([np.full((1, 3), 0.3), np.eye(3)])[None].astype(np.float32)
    found = measured(apart, inside, layout)
    assert (found["winning_registers"], found["object_spread"]) == (3, 1.0)
    assert register_maps.winners(apart[:, 1:]).tolist() == [[0, 1, 2]]
    found = measured(np.full((1, 4, 3), 0.2, np.float32), inside, layout)
    assert (found["winning_registers"], found["object_spread"]) == (1, 0.0)


@pytest.mark.parametrize("boxes", [[[4, 2, 20, 17]], [[4, 2, 20, 17], [12, 10, 33, 24]], [[0, 0, 1, 24]]])
def test_patches_are_covered_as_their_pixels_are(boxes):
    """Image of 40 x 24, shorter side to 20, centre crop of 16: 33 pixels wide before the crop."""
    way = Transform(24, 40, (20, 20), (16, 16))
    assert way.resized == (20, 33)
    left, top = way.offset
    slow = np.zeros((4, 4))
    for y in range(16):
        for x in range(16):
            at_x, at_y = (x + 0.5 + left) * 40 / 33, (y + 0.5 + top) * 24 / 20
            slow[y // 4, x // 4] += any(a <= at_x < c and b <= at_y < d for a, b, c, d in boxes) / 16
    found = truth.covered(np.array(boxes, float), way, (4, 4))
    np.testing.assert_allclose(found, slow)
    assert (found.max() == 0) == (boxes[0][2] == 1)  # what the crop took away counts nowhere
