"""Every table and figure of the finished study: what it shows is what it declares, and people can read it."""

import shutil
from pathlib import Path

import pytest
from matplotlib.text import Text

from vit_registers.core.errors import InputError
from vit_registers.params import reading
from vit_registers.pipeline import experiment, steps
from vit_registers.pipeline.paths import Paths
from vit_registers.views import engine, style
from vit_registers.views.arrays import Arrays
from vit_registers.views.plan import plan
from vit_registers.views.study import Study

pytestmark = pytest.mark.pipeline


@pytest.fixture(scope="module")
def whole(finished):
    """The finished study with all its rows."""
    params = reading.load([finished.path / "params.yaml"])
    return Study.read(plan(params), [finished.path / Paths("smoke").table])


@pytest.fixture
def smoke(finished, monkeypatch):
    """Params of the finished study, and where its files are."""
    monkeypatch.chdir(finished.path)
    return reading.load(["params.yaml"]), Paths("smoke")


def test_a_table_is_the_same_from_the_rows_that_it_declares_and_from_all(smoke, whole, tmp_path):
    _, at = smoke
    for name, (found, view) in experiment.tables().items():
        engine.make(found, view, whole).write(tmp_path, name)
        for kind in ("csv", "tex"):
            assert (tmp_path / f"{name}.{kind}").read_bytes() == (at.tables / f"{name}.{kind}").read_bytes(), name


def test_a_figure_is_the_same_from_all_rows_and_legible_at_the_width_of_the_page(smoke, whole, tmp_path):
    _, at = smoke
    for name, (found, view) in experiment.figures().items():
        with style.styled():
            figure = engine.drawn(found, view)(whole, Arrays(at, view.arrays))
            style.save(figure, tmp_path, name)
        assert (tmp_path / f"{name}.pdf").read_bytes() == (at.figures / f"{name}.pdf").read_bytes(), name
        width, height = figure.get_size_inches()
        assert width <= style.WIDTH + 1e-9, name
        assert height <= 8.0, name
        texts = [text for text in figure.findobj(Text) if text.get_text().strip() and text.get_visible()]
        assert texts, name
        assert min(text.get_fontsize() for text in texts) >= 7, name
        legends = [*figure.legends, *(axes.get_legend() for axes in figure.axes if axes.get_legend())]
        for legend in legends:
            for axes in figure.axes:
                assert not legend.get_window_extent().overlaps(axes.get_window_extent()), name


@pytest.mark.skipif(shutil.which("latexmk") is None, reason="needs TeX")
def test_tables_fit_the_page_in_type_that_can_be_read(finished):
    assert "table " not in (finished.path / "logs/smoke/report.log").read_text()


def test_a_missing_file_is_named(smoke, tmp_path):
    study, at = smoke
    found, view = experiment.figures()["lost_steps"]
    rows = [path.resolve() for path in steps.row_files(study, at, view)]
    with pytest.raises(InputError, match=r"arrays\.npz: no such file; run `vit-registers object-discovery` first"):
        engine.figure(found, view, study, rows, Paths("smoke", Path(tmp_path)))
