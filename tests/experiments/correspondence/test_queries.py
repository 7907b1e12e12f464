"""Where patches and keypoints are in another image, by hand and by loops."""

import numpy as np
import pytest

from vit_registers.data.transforms import Transform
from vit_registers.experiments.correspondence.queries import (
    Annotated,
    Grid,
    InSecondViews,
    OfKeypoints,
    common,
    counterparts,
)

GRID = Grid((2, 3), (8, 4))
UNIT = np.eye(3)[:2]


def straight(height=16, width=12):
    """A transform that leaves an image of this size as it is."""
    return Transform(height, width, (height, width), (height, width))


def test_patches_stand_row_by_row_and_hold_their_left_and_upper_edges():
    assert GRID.centres.tolist() == [[2, 4], [6, 4], [10, 4], [2, 12], [6, 12], [10, 12]]
    assert GRID.cells(GRID.centres).tolist() == list(range(6))
    points = [[0, 0], [4, 0], [3.99, 8], [11.99, 15.99], [12, 0], [0, 16], [-0.01, 3], [3, -0.01]]
    assert GRID.cells(np.array(points)).tolist() == [0, 1, 3, 5, -1, -1, -1, -1]


def test_an_image_that_is_its_own_view_has_every_patch_at_its_place():
    assert counterparts(UNIT, straight(), straight(), GRID).tolist() == list(range(6))


@pytest.mark.parametrize(
    ("x", "y", "expected"),
    [
        (4, 0, [1, 2, -1, 4, 5, -1]),
        (-4, 8, [-1, 3, 4, -1, -1, -1]),
        (1.9, 3.9, [0, 1, 2, 3, 4, 5]),  # less than half a patch
        (2, 4, [4, 5, -1, -1, -1, -1]),
    ],
)
def test_shifts_move_patches_and_what_leaves_the_view_has_no_counterpart(x, y, expected):
    matrix = np.array([[1.0, 0.0, x], [0.0, 1.0, y]])
    assert counterparts(matrix, straight(), straight(), GRID).tolist() == expected


def test_what_lies_in_the_view_but_not_in_the_models_crop_of_it_has_no_counterpart():
    """The view is wider than the model's input: its outer columns are cut off."""
    view = Transform(16, 20, (16, 12), (16, 12))  # resized to itself, the middle twelve columns are seen
    matrix = np.array([[1.0, 0.0, 8.0], [0.0, 1.0, 0.0]])
    # centres 2, 6, 10 are at 10, 14, 18 of the view, and at 6, 10, 14 of the input
    assert counterparts(matrix, straight(), view, GRID).tolist() == [1, 2, -1, 4, 5, -1]


def test_a_point_beyond_the_border_is_not_shown_whatever_the_view_was_filled_up_with():
    """The view is squashed: a point beyond its border is still inside of the input's rounding, but not of the view."""
    matrix = np.array([[1.0, 0.0, 2.5], [0.0, 1.0, 0.0]])
    assert counterparts(matrix, straight(), straight(), GRID).tolist() == [1, 2, -1, 4, 5, -1]


def test_common_keypoints_are_those_that_both_images_show_and_near_is_by_the_size_of_the_object():
    points = np.array([[1.0, 1.0], [5.0, 9.0], [11.0, 15.0], [30.0, 1.0]])
    source = Annotated(points, np.array([True, True, True, True]), 4.0, straight())  # the last one is beyond the input
    moved = np.array([[2.0, 4.0], [6.0, 12.0], [3.0, 1.0], [1.0, 1.0]])
    target = Annotated(moved, np.array([True, True, False, True]), 10.0, straight())
    cells, near = common(source, target, GRID, 0.1)  # within one pixel of the patch's centre
    assert cells.tolist() == [0, 4]
    assert near.tolist() == [[True, *[False] * 5], [*[False] * 4, True, False]]
    cells, near = common(source, target, GRID, 0.4)  # four pixels: the patches beside, which are four away
    assert near[0].tolist() == [True, True, False, False, False, False]
    assert near[1].tolist() == [False, False, False, True, True, True]
    wider = Annotated(moved, target.visible, 5.0, Transform(32, 24, (16, 12), (16, 12)))  # twice as large an image
    cells, near = common(source, wider, GRID, 1.0)
    away = [np.hypot(*(2 * centre - moved[0])) for centre in GRID.centres]
    assert near[0].tolist() == [distance <= 5.0 for distance in away]


def test_blocks_are_queries_of_one_image_in_one_gallery():
    images, galleries = np.array([3, 3, 3, 4, 4, 5]), np.array([1, 1, 2, 2, 2, 2])
    queries = OfKeypoints(images, images * 0, galleries, np.arange(9), np.zeros((6, 2), dtype=bool))
    assert [(block.start, block.stop) for block in queries.blocks()] == [(0, 2), (2, 3), (3, 5), (5, 6)]
    nothing = OfKeypoints(*[np.zeros(0, dtype=int)] * 4, np.zeros((0, 2), dtype=bool))
    assert nothing.blocks() == []


def test_right_and_chance_of_both_kinds():
    some = np.array([0, 0, 1])
    views = InSecondViews(some, np.array([1, 2, 0]), some, some, np.array([4, 5, 1]), 6, np.array([True, False, False]))
    assert views.right(np.array([4, 4, 1])).tolist() == [True, False, True]
    assert views.chances() == pytest.approx([1 / 6] * 3)
    assert {name: marks.tolist() for name, marks in views.groups.items()} == {
        None: [True] * 3,
        "object": [True, False, False],
        "background": [False, True, True],
    }
    near = np.array([[True, False, True, False], [False] * 4, [True] * 4])
    keypoints = OfKeypoints(some, some, some, some, near)
    assert keypoints.right(np.array([2, 0, 3])).tolist() == [True, False, True]
    assert keypoints.chances() == pytest.approx([0.5, 0.0, 1.0])
    assert list(keypoints.groups) == [None]
