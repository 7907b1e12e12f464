import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError
from scipy.stats import chi2_contingency

from vit_registers.data.manifest import Manifest
from vit_registers.data.sources import mosaic
from vit_registers.data.sources.mosaic import COLOURS, Mosaic

SIDE, SYMBOLS = 6, 4


@pytest.fixture(scope="module")
def drawn():
    return mosaic.draw(np.random.default_rng(0), 2000, SIDE, SYMBOLS, 0.4)


def test_the_class_is_the_colour_of_the_tile_with_the_symbol_that_the_white_tile_has(drawn):
    for colour, symbol, label in zip(drawn.colour, drawn.symbol, drawn.label, strict=True):
        (white,) = np.flatnonzero(colour == -2)
        (source,) = set(np.flatnonzero(symbol == symbol[white])) - {white}
        assert colour[source] == label
        assert sorted(symbol[symbol >= 0]) == sorted([*range(SYMBOLS), symbol[white]])


def test_nothing_else_tells_the_class():
    """Of every symbol, row and number of other red tiles the class is as often each of its colours."""
    drawn = mosaic.draw(np.random.default_rng(1), 20_000, SIDE, SYMBOLS, 0.4)
    asked = drawn.symbol[np.arange(20_000), (drawn.colour == -2).argmax(1)]
    place = (drawn.colour == -2).argmax(1)
    reds = (drawn.colour == COLOURS.index("red")).sum(1) - (drawn.label == COLOURS.index("red"))
    for told in (asked, place // SIDE, np.minimum(reds, 4)):
        counts = np.zeros((told.max() + 1, len(COLOURS)))
        np.add.at(counts, (told, drawn.label), 1)
        assert chi2_contingency(counts).pvalue > 0.001


def test_grey_tiles_are_as_many_as_asked_for(drawn):
    without_symbol = drawn.symbol < 0
    assert abs((drawn.colour[without_symbol] == -1).mean() - 0.4) < 0.01


def test_a_picture_shows_what_was_drawn(drawn):
    few = mosaic.Drawn(drawn.colour[:5], drawn.symbol[:5], drawn.label[:5])
    rgb = mosaic.picture(np.random.default_rng(1), few, 8).astype(float) / 255.0
    glyphs = mosaic.glyphs(8)
    assert rgb.shape == (5, 48, 48, 3)
    for image, colours, symbols in zip(rgb, few.colour, few.symbol, strict=True):
        for place, (colour, symbol) in enumerate(zip(colours, symbols, strict=True)):
            row, column = divmod(place, SIDE)
            tile = image[row * 8 : row * 8 + 8, column * 8 : column * 8 + 8]
            ink = glyphs[symbol] if symbol >= 0 else np.zeros((8, 8), dtype=bool)
            assert not ink.any() or tile[ink].mean() < 0.05
            mean = tile[~ink].mean(0)
            if colour < 0:
                assert np.abs(mean - {-1: 0.5, -2: 1.0}[colour]).max() < 0.03
            else:
                assert mean.max() == pytest.approx(0.9, abs=0.03)
                assert mean.min() == pytest.approx(0.09, abs=0.03)


def test_symbols_differ_in_many_pixels():
    glyphs = mosaic.glyphs(8).reshape(6, -1)
    apart = (glyphs[:, None] != glyphs[None]).sum(2)
    assert apart[~np.eye(6, dtype=bool)].min() >= 12
    assert glyphs.any(1).all()


def test_prepared_data_are_the_beginning_of_larger_ones(tmp_path):
    for name, train in (("few", 80), ("more", 90)):
        Mosaic(kind="mosaic", train=train, test=10).prepare(name, 3, tmp_path / name)
    few, more = Manifest.load(tmp_path / "few"), Manifest.load(tmp_path / "more")
    assert few.classes == list(COLOURS)
    for i, j in zip(few.rows("train"), more.rows("train"), strict=False):
        assert few.table["label"][i] == more.table["label"][j]
        assert np.array_equal(np.asarray(Image.open(few.file(i))), np.asarray(Image.open(more.file(j))))
    first = Image.open(few.file(few.rows("test")[0]))
    assert first.tobytes() != Image.open(few.file(few.rows("train")[0])).tobytes()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"size": 50}, "multiple of tile, which is 8, got 50"),
        ({"size": 16, "symbols": 4}, "4 symbols and a white tile need more"),
    ],
)
def test_tiles_that_do_not_fit_are_refused(change, said):
    with pytest.raises(ValidationError, match=said):
        Mosaic(kind="mosaic", train=1, test=1, **change)
