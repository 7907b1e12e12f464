"""The figure of cosines of neighbouring patches shows what was kept."""

import numpy as np
import pytest

from helpers.measuring import study_of
from helpers.studies import Measured
from vit_registers.experiments.single_tokens import figures
from vit_registers.experiments.single_tokens.neighbours import EDGES
from vit_registers.pipeline.paths import Paths
from vit_registers.views import style
from vit_registers.views.arrays import Arrays
from vit_registers.views.study import Study

MODELS = ("planted", "vit-r0", "no-outliers")
MEANS = {"normal": 0.5, "outlier": 0.6}
COUNTS = {"normal": np.arange(40), "outlier": 40 - np.arange(40)}


@pytest.fixture
def made(tmp_path):
    """Three models with cosines, in one of which no patch is an outlier; ``bare`` has none kept."""
    at, measured = Paths("made", tmp_path), Measured()
    for model in (*MODELS, "bare"):
        where = {"dataset": "shapes", "model": model, "intervention": "baseline"}
        measured.add("outliers_are_artifacts", float(model == "planted"), **where)
        folder = at.measure("single_tokens", "shapes", model)
        folder.mkdir(parents=True)
        kept = {"baseline/edges_neighbour_cosine": EDGES}
        if model != "bare":
            for group, counts in COUNTS.items():
                there = (model, group) != ("no-outliers", "outlier")
                kept[f"baseline/histogram/neighbour_cosine/{group}"] = counts * there
                if there:
                    measured.add("neighbour_cosine", MEANS[group], group=group, **where)
                else:
                    measured.absent("neighbour_cosine", "no outlier patches", group=group, **where)
        np.savez(folder / "arrays.npz", **kept)
    return study_of([measured.frame()], [*MODELS, "bare"]), Arrays(at, ("single_tokens",))


def draw(study, arrays):
    with style.styled():
        return figures.neighbour_cosines(study, arrays)


def test_each_model_has_its_two_histograms_as_shares_on_one_scale(made, tmp_path):
    figure = draw(*made)
    assert [axes.get_title() for axes in figure.axes] == [
        "ViT planted\noutliers: artifacts",
        "ViT vit-r0\noutliers: top norms",
        "ViT no-outliers\noutliers: top norms",
    ]
    for axes in figure.axes:
        shares = [patch.get_data().values for patch in axes.patches]
        expected = COUNTS if "no-outliers" not in axes.get_title() else {"normal": COUNTS["normal"]}
        for found, counts in zip(shares, expected.values(), strict=True):
            np.testing.assert_allclose(found, counts[counts > 0] / counts.sum())  # no bin has none between others
        assert [line.get_xdata()[0] for line in axes.get_lines()] == [MEANS[group] for group in expected]
        assert axes.get_ylim() == figure.axes[0].get_ylim()
    assert figure.get_size_inches()[0] <= style.WIDTH + 1e-6
    with style.styled():
        style.save(figure, tmp_path, "neighbour_cosines")


def test_a_study_that_kept_none_says_so(made):
    study, arrays = made
    without = Study(study.plan, study.rows[study.rows["metric"] != "neighbour_cosine"])
    assert "no cosines" in draw(without, arrays).texts[0].get_text()
