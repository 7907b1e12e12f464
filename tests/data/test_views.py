"""Second views of generated images: where every point is, and that no pixel is made up."""

import json

import numpy as np
import pytest
from PIL import Image

from vit_registers.data import prepare
from vit_registers.data.manifest import Manifest
from vit_registers.data.shapes import views
from vit_registers.pipeline.configs import PrepareConfig

SIZE = 64
MATRICES = views.similarities(np.random.default_rng(0), 500, SIZE)


def slow(image, matrix):
    """A pixel at a time: where its centre comes from, and the mean of the four pixels around, by their distance."""
    out = np.zeros(image.shape)
    back = np.linalg.inv(np.vstack([matrix, [0, 0, 1]]))
    for row in range(len(image)):
        for column in range(len(image)):
            x, y, _ = back @ [column + 0.5, row + 0.5, 1]
            x, y = (min(max(place - 0.5, 0), len(image) - 1) for place in (x, y))
            for r in (int(y), int(y) + 1):
                for c in (int(x), int(x) + 1):
                    weight = max(0, 1 - abs(y - r)) * max(0, 1 - abs(x - c))
                    if weight:
                        out[row, column] += weight * image[r, c]
    return (out + 0.5).astype(np.uint8)


def test_a_view_is_that_of_a_loop_over_pixels():
    draw = np.random.default_rng(1)
    for matrix in views.similarities(draw, 3, 16):
        image = draw.integers(0, 256, (16, 16, 3), dtype=np.uint8)
        assert np.abs(views.view(image, matrix).astype(int) - slow(image, matrix)).max() <= 1


def test_the_view_by_the_unit_matrix_is_the_image_and_a_shift_is_a_shift():
    image = np.random.default_rng(2).integers(0, 256, (12, 12, 3), dtype=np.uint8)
    assert np.array_equal(views.view(image, np.eye(3)[:2]), image)
    shifted = views.view(image, np.array([[1.0, 0.0, -3.0], [0.0, 1.0, 2.0]]))
    assert np.array_equal(shifted[2:, :9], image[:10, 3:])


def test_a_view_holds_nothing_but_its_image_and_is_moved():
    corners = np.array([[0, 0, SIZE, SIZE], [0, SIZE, 0, SIZE]], dtype=float)
    for matrix in MATRICES:
        linear = matrix[:, :2]
        sources = np.linalg.solve(linear, corners - matrix[:, 2:])
        assert sources.min() > -1e-9
        assert sources.max() < SIZE + 1e-9
        scale = np.sqrt(np.linalg.det(linear))
        np.testing.assert_allclose(linear @ linear.T, scale**2 * np.eye(2), atol=1e-9)  # turned and enlarged, no more
        assert views.ZOOM[0] <= scale <= views.ZOOM[1] * (np.cos(views.TURN) + np.sin(views.TURN))
        assert abs(np.arctan2(linear[1, 0], linear[0, 0])) <= views.TURN
    middles = MATRICES[:, :, :2] @ np.full(2, SIZE / 2) + MATRICES[:, :, 2]
    assert np.abs(middles - SIZE / 2).max(1).mean() > 4  # pixels


def made(out, **changes):
    given = {"kind": "generated", "train": 60, "test": 12, "pairs": 8, "size": SIZE, **changes}
    prepare.run(PrepareConfig.model_validate_json(json.dumps({"seed": 0, "name": "mine", "source": given})), out)
    return Manifest.load(out)


@pytest.mark.slow
def test_the_first_test_images_have_a_view_and_nothing_else_is_written_otherwise(tmp_path):
    without, few, more = (made(tmp_path / str(pairs), pairs=pairs) for pairs in (0, 3, 8))
    assert without.table["correspondence"].isna().all()
    assert "correspondence" not in json.dumps(list(map(str, (tmp_path / "0").rglob("*"))))
    rows = more.rows("test")
    assert more.table["correspondence"].notna().to_numpy().nonzero()[0].tolist() == rows[:8].tolist()
    assert few.table["correspondence"].notna().sum() == 3
    for row in range(len(more.table)):
        assert more.file(row).read_bytes() == without.file(row).read_bytes()
    for row in rows[:3]:
        few_view, view = few.second_view(row), more.second_view(row)
        assert few_view == view
        assert (few.root / view.pair).read_bytes() == (more.root / view.pair).read_bytes()
        with Image.open(more.file(row)) as image, Image.open(more.root / view.pair) as other:
            expected = views.view(np.asarray(image), np.array(view.matrix))
            assert np.array_equal(np.asarray(other), expected)
    assert len(list((tmp_path / "8" / "pairs").iterdir())) == 8


@pytest.mark.slow
def test_more_views_than_images_are_all_of_them_and_the_text_says_how_many(tmp_path):
    given = made(tmp_path / "all", pairs=100)
    assert given.table["correspondence"].notna().sum() == 12
    source = PrepareConfig.model_validate_json(
        json.dumps({"seed": 0, "name": "m", "source": {"kind": "generated", "train": 60, "test": 12, "pairs": 100}})
    ).source
    assert " Of 12 test images there is a second view, turned by up to 20 degrees" in source.sentence("m")
