"""Pages by size: one for all, an index with a page for each model beyond that, and a limit."""

import numpy as np
import pytest

from helpers.explorer import HOSTILE, shown
from vit_registers.core.errors import InputError
from vit_registers.params.statistics import Explorer
from vit_registers.report.explorer.build import MB, Frame, file_name, pages_of
from vit_registers.views.scenes import encode
from vit_registers.views.scenes.widgets import Quantity


@pytest.fixture(scope="module")
def frame() -> Frame:
    return Frame("A study", "made")


@pytest.mark.parametrize(("bits", "gamma"), [(8, 1.0), (8, 2.0), (16, 1.0)])
def test_a_page_reads_what_was_measured_but_for_rounding(bits: int, gamma: float) -> None:
    values = np.random.default_rng(0).lognormal(0, 2, (3, 4, 50))
    values[0, 0] = 0.0
    found = encode.restored(encode.maps(values, bits, gamma))
    top = values.max(axis=-1, keepdims=True)
    step = 0.5 * gamma / (2**bits - 1)  # half a level at the top, where it is coarsest
    assert np.all(np.abs(found - values) <= top * step * 1.01)
    assert np.all(found[0, 0] == 0.0)


@pytest.mark.parametrize("wrong", [np.nan, -1.0, np.inf])
def test_what_is_no_map_is_refused(wrong: float) -> None:
    with pytest.raises(ValueError, match="finite numbers that are not negative"):
        encode.maps(np.array([[0.0, wrong]]), 8, 1.0)


def test_axes_and_values_have_to_agree() -> None:
    with pytest.raises(ValueError, match="places"):
        Quantity("norms", np.ones((2, 3, 4)), {"block": ["0", "1"]}).to_json()


def test_up_to_a_size_all_is_on_one_page(frame: Frame) -> None:
    assert list(pages_of(frame, shown(), Explorer(one_page_mb=15, limit_mb=15))) == [""]


def test_beyond_it_maps_have_a_page_for_each_model_and_the_index_leads_there(frame: Frame) -> None:
    pages = pages_of(frame, shown(), Explorer(one_page_mb=0.1, limit_mb=15))
    assert list(pages) == ["", "Plain", HOSTILE]
    for model in ("Plain", HOSTILE):
        assert f'href="explorer/{file_name(model)}.html"' in pages[""]
        assert 'href="../explorer.html"' in pages[model]
        assert 'id="scene-maps"' in pages[model]
    assert 'id="scene-maps"' not in pages[""]
    assert 'id="scene-listing"' in pages[""]


def test_a_page_above_the_limit_is_refused_and_says_what_to_lower(frame: Frame) -> None:
    with pytest.raises(InputError, match=r"explorer\.limit_mb: the page takes .* MB, the limit is 0\.2"):
        pages_of(frame, shown(), Explorer(one_page_mb=0.1, limit_mb=0.2))


def test_a_page_is_the_same_twice(frame: Frame) -> None:
    assert frame.page(shown()) == Frame("A study", "made").page(shown())


def test_the_frame_is_far_below_the_limit_of_the_embedded_study(frame: Frame) -> None:
    assert len(frame.page([])) < 3 * MB
