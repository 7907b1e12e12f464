"""The table, the figure and the prose of correspondence, over rows as the measure writes them."""

import numpy as np
import pytest

from helpers.measuring import study_of
from helpers.studies import Measured, load
from vit_registers.experiments.correspondence import figures, tables
from vit_registers.pipeline import experiment
from vit_registers.report import text
from vit_registers.report.templates import latex
from vit_registers.views import style

REASON = "no artifacts found"
GROUPS = {None: 0.3, "object": 0.4, "background": 0.2}


def add(measured, metric, value, **axes):
    for group, more in GROUPS.items():
        given = {} if group is None else {"group": group}
        measured.add(metric, value + more, **given, **axes)


def rows(pck=False, changes=(("zero", -0.2),)):
    """Two models that see images alike, and a third of another grid; conditions of the first."""
    measured = Measured()
    for model, value in (("a", 0.1), ("b", 0.2), ("c", 0.05)):
        at = {"dataset": "shapes", "model": model, "intervention": "baseline"}
        add(measured, "correspondence", value, **at)
        for layer in range(3):
            add(measured, "block_correspondence", value + layer / 100, layer=layer, **at)
        for name, found in (("pixels", 0.35), ("same place", 0.12), ("chance", 1 / 64)):
            add(measured, "correspondence_baseline", found + (0.1 if model == "c" else 0.0), baseline=name, **at)
        if pck:
            measured.add("pck", 0.5, **at)
    at = {"dataset": "shapes", "model": "a"}
    for condition, change in changes:
        add(measured, "correspondence", 0.1 + change, intervention=condition, **at)
        reference = {"reference_model": "a", "reference_intervention": "baseline"}
        measured.add("correspondence", change, intervention=condition, **reference, **at)
    measured.absent("correspondence", REASON, intervention="ttr-4", **at)
    return measured.frame()


def study(**given):
    frame = rows(**given)
    return study_of([frame], ["a", "b", "c"], interventions=["zero", "ttr-4"])


def test_the_table_has_what_is_found_without_a_model_once_for_models_that_see_the_same(tmp_path):
    table = tables.correspondence(study())
    frame = table.frame()
    baselines = ["pixels", "same place", "chance"]
    assert frame["condition"].tolist() == [*baselines, *baselines, "baseline", "zero", "ttr-4", "baseline", "baseline"]
    assert frame["model"].tolist() == [""] * 6 + ["a", "a", "a", "b", "c"]
    assert frame["correspondence"].iloc[:3].tolist() == pytest.approx([0.65, 0.42, 0.3 + 1 / 64])
    assert frame["correspondence"].iloc[6:8].tolist() == pytest.approx([0.4, 0.2])
    assert frame["object"].iloc[6] == pytest.approx(0.5)
    assert frame["background"].iloc[6] == pytest.approx(0.3)
    assert frame["note"].iloc[8] == REASON
    assert "pck" not in frame
    printed = table.latex()
    assert "Without a model, as ViT a sees shapes" in printed
    assert "Without a model, as ViT c sees shapes" in printed
    assert "ViT b sees" not in printed


def test_keypoints_have_a_column_where_a_data_set_has_some():
    frame = tables.correspondence(study(pck=True)).frame()
    assert frame.loc[frame["condition"] == "baseline", "pck"].tolist() == [0.5] * 3


def test_the_table_says_where_nothing_was_measured():
    nothing = study_of([Measured().frame()], ["a"])
    assert "correspondence was not measured" in tables.correspondence(nothing).latex()
    with style.styled():
        assert "not kept" in figures.correspondence_by_layer(nothing, None).texts[0].get_text()


def test_the_figure_has_a_line_by_block_for_each_model_and_pixels_once_for_each_way_of_seeing():
    with style.styled():
        figure = figures.correspondence_by_layer(study(), None)
    (panel,) = figure.axes
    lines = {line.get_label(): line.get_ydata() for line in panel.lines if not line.get_label().startswith("_")}
    np.testing.assert_allclose(lines["ViT a"], [40, 41, 42])
    assert {"ViT a", "ViT b", "ViT c", "raw pixels"} == set(lines)
    dotted = sorted(line.get_ydata()[0] for line in panel.lines if line.get_linestyle() == ":")
    assert dotted == pytest.approx([65, 75])
    assert len(figure.legends[0].texts) == 4
    assert figure.get_size_inches()[0] <= style.WIDTH + 1e-9


def written(made, params):
    """Methods and results of the experiment."""
    folder = experiment.found()["correspondence"].folder
    known = text.context(params, made, params.settings("correspondence"))
    return [" ".join(latex(folder / f"{name}.tex.j2", **known).split()) for name in ("methods", "results")]


def test_the_prose_says_what_was_found_first():
    params = load("embedded")
    _, results = written(study(), params)
    assert results.startswith("No model finds the place that a patch shows in a second view as well as raw pixels do: ")
    assert "ViT b, the best of the models as they are, matches" in results
    assert "pixels $65.0$" in results
    assert "ref{tab:correspondence}" in results
    assert "correspondence_by_layer" not in results
    _, results = written(study_of([Measured().frame()], ["a"]), params)
    assert results.startswith("No second view has passed.")


def test_the_methods_say_how_many_views_pass_and_how_keypoints_are_found():
    methods, _ = written(study(), load("embedded", {"extraction": {"pairs": 77}}))
    assert "first 77 dense images" in methods
    assert r"0.1 times the larger side of the object's box (PCK, as in \citet{min2019})" in methods
    none, _ = written(study(), load("embedded", {"extraction": {"pairs": 0}}))
    assert "second view" not in none


def test_blocks_are_shown_where_their_patches_are_kept():
    found = experiment.found()["correspondence"]
    for layers, wanted in (([], False), ([0, 1], True)):
        params = load("embedded", {"extraction": {"patch_layers": layers}})
        assert ("correspondence_by_layer" in [view.name for view in text.views(params, found)]) == wanted


@pytest.mark.parametrize("name", ["embedded", "smoke", "extended"])
def test_studies_that_measure_it_have_second_views_enough(name):
    params = load(name)
    datasets = {dataset for dataset, _ in params.pairs("correspondence")}
    generated = [params.datasets[each] for each in datasets if "pairs" in type(params.datasets[each]).model_fields]
    assert generated
    assert all(each.pairs >= params.extraction.pairs > 0 for each in generated)
