"""Every table and figure, in a study that measured nothing of what it shows."""

import pytest
from matplotlib.figure import Figure

from helpers.studies import ROOT, study_of
from vit_registers.params import reading
from vit_registers.pipeline import experiment
from vit_registers.pipeline.paths import Paths
from vit_registers.views import engine, style
from vit_registers.views.arrays import Arrays


@pytest.fixture(scope="module")
def nothing():
    return study_of(reading.load([ROOT / "params.yaml"]))


@pytest.mark.parametrize("name", experiment.tables())
def test_a_table_of_what_was_not_measured_is_empty_or_says_why(name, nothing):
    found, view = experiment.tables()[name]
    assert engine.make(found, view, nothing).latex()


@pytest.mark.parametrize("name", experiment.figures())
def test_a_figure_of_what_was_not_measured_says_so(name, nothing, tmp_path):
    found, view = experiment.figures()[name]
    with style.styled():
        figure = engine.drawn(found, view)(nothing, Arrays(Paths("nowhere", tmp_path), view.arrays))
    assert isinstance(figure, Figure)
