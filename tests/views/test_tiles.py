"""Pictures and maps stand where their sections, rows and columns say, and fit the page."""

import matplotlib.text
import numpy as np
import pytest

from vit_registers.views import style
from vit_registers.views.panels import HEIGHT
from vit_registers.views.tiles import SMALLEST, Row, Section, Tile, chunks, drawn, spread


def a_map(seed):
    return np.random.default_rng(seed).random((3, 4))


def section(title, rows, columns=3, note=""):
    lines = [Row(f"row {r}", [Tile(a_map(10 * r + c), note=note) for c in range(columns)]) for r in range(rows)]
    return Section(title, [f"h{c}" for c in range(columns)], lines)


def draw(sections, **given):
    with style.styled():
        figure = drawn(sections, **given)
        figure.draw_without_rendering()
    return figure


def extents(figure):
    """Left, right, top and bottom of every tile, in inches from the upper left corner."""
    found = []
    for image in figure.axes[0].images:
        left, right, bottom, top = image.get_extent()
        found.append((left, right, top, bottom))
    return found


def texts(figure):
    return {text.get_text(): text for text in figure.axes[0].findobj(matplotlib.text.Text) if text.get_text()}


def test_tiles_of_a_row_stand_side_by_side_and_rows_below_one_another():
    figure = draw([section("one", 2)])
    tiles = np.array(extents(figure)).reshape(2, 3, 4)
    assert (np.diff(tiles[:, :, 0], axis=1) > 0).all()
    assert (tiles[0, :, 2] == tiles[0, 0, 2]).all()
    assert tiles[1, 0, 2] > tiles[0, 0, 3]  # the second row begins below the first
    sides = np.stack([tiles[..., 1] - tiles[..., 0], tiles[..., 3] - tiles[..., 2]])
    np.testing.assert_allclose(sides, sides[0, 0, 0])  # squares
    for image, (row, column) in zip(figure.axes[0].images, np.ndindex(2, 3), strict=True):
        np.testing.assert_array_equal(image.get_array(), a_map(10 * row + column))


def test_no_tile_lies_over_another_nor_beyond_the_figure():
    many = [section(f"title {i}", rows, note="0.5" if i % 2 else "") for i, rows in enumerate((1, 4, 2, 3, 1, 2))]
    figure = draw(many, label=0.6, most=0.5)
    width, height = figure.get_size_inches()
    assert width <= style.WIDTH + 1e-6
    assert height <= HEIGHT + 1e-6
    tiles = extents(figure)
    assert len(tiles) == 3 * 13
    for i, (left, right, top, bottom) in enumerate(tiles):
        assert 0.0 <= left < right <= width + 1e-6
        assert 0.0 <= top < bottom <= height + 1e-6
        for other in tiles[:i]:
            assert right <= other[0] or other[1] <= left or bottom <= other[2] or other[3] <= top


def test_a_section_goes_where_the_page_is_shortest():
    figure = draw([section("tall", 5, 9), section("short", 1, 9), section("next", 1, 9)])
    at = {name: text.get_position() for name, text in texts(figure).items()}
    assert at["tall"][1] == at["short"][1]  # side by side
    assert at["next"][0] == at["short"][0]  # below the short one
    assert at["next"][1] > at["short"][1]


def test_what_must_be_larger_does_not_stand_side_by_side():
    both = [section("one", 1, columns=9), section("two", 1, columns=9)]
    beside, below = draw(both), draw(both, least=0.5)
    assert len({extent[2] for extent in extents(beside)}) == 1
    assert len({extent[2] for extent in extents(below)}) == 2


def test_what_does_not_fit_a_page_is_counted():
    figure = draw([section(f"title {i}", 10, columns=20) for i in range(7)])
    left, right, *_ = extents(figure)[0]
    assert right - left >= 0.9 * SMALLEST
    shown = [name for name in texts(figure) if name.startswith("title")]
    assert 1 <= len(shown) < 7
    assert f"{7 - len(shown)} more do not fit the page" in texts(figure)
    assert len(extents(figure)) == 200 * len(shown)


def test_scales_begin_at_zero_and_end_where_they_say_and_empty_places_stay_empty():
    picture = np.zeros((2, 2, 3), np.uint8)
    row = Row("", [Tile(picture), None, Tile(a_map(1), 5.0, note="5"), Tile(a_map(2))])
    figure = draw([Section("", ["input", "", "a", "b"], [row])])
    shown = figure.axes[0].images
    assert len(shown) == 3
    assert shown[1].get_clim() == (0.0, 5.0)
    assert shown[2].get_clim() == (0.0, pytest.approx(a_map(2).max()))
    note = texts(figure)["5"]
    left, right, _, bottom = extents(figure)[1]
    assert left < note.get_position()[0] < right
    assert note.get_position()[1] >= bottom
    assert note.get_fontsize() >= 6


def test_what_is_drawn_over_a_tile_gets_its_place():
    seen = []
    tile = Tile(a_map(0), over=lambda axes, extent: seen.append((axes, extent)))
    figure = draw([Section("", ["a"], [Row("", [tile])])])
    assert seen == [(figure.axes[0], tuple(figure.axes[0].images[0].get_extent()))]


@pytest.mark.parametrize("count", [1, 2, 7, 8, 15, 800])
def test_of_many_things_seven_are_shown_the_first_and_the_last_among_them(count):
    shown = spread(count, 7)
    assert (shown[0], shown[-1], len(shown)) == (0, count - 1, min(count, 7))
    steps = np.diff(shown)
    assert len(steps) == 0 or (steps.min() >= 1 and steps.max() - steps.min() <= 1)


@pytest.mark.parametrize(("count", "most", "sizes"), [(0, 9, []), (9, 9, [9]), (10, 9, [5, 5]), (20, 9, [7, 6, 7])])
def test_parts_are_as_equal_as_possible(count, most, sizes):
    parts = chunks(count, most)
    assert [i for part in parts for i in range(count)[part]] == list(range(count))
    assert [len(range(count)[part]) for part in parts] == sizes
