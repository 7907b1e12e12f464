"""Tables and the figure of register counts, over rows of the metrics that they show."""

import numpy as np
import pandas as pd
import pytest

from helpers.measuring import rows_of, study_of
from vit_registers.experiments.register_count import figures, tables
from vit_registers.params.study import Comparison, Run
from vit_registers.pipeline import experiment
from vit_registers.pipeline.paths import Paths
from vit_registers.views import style
from vit_registers.views.arrays import Arrays
from vit_registers.views.study import Condition, Study

REGISTERS = {"r4": 4, "r0": 0, "r1": 1, "wide": 0}
MODELS = [*REGISTERS, "planted"]
COMPARED = [("r4/baseline", "r0/baseline"), ("planted/baseline", "r0/baseline"), ("r4/append-4", "r0/baseline")]


def measured():
    """Rows of every model as it is, each value its own; differences of all that is compared."""
    found = []
    for i, model in enumerate(MODELS):
        where = {"dataset": "shapes", "model": model}
        rows = {name: rows_of(name, **where) for name in ("classification", "object_discovery", "dense_prediction")}
        value = 0.5 + i / 100

        def add(measure, metric, value, rows=rows, **axes):
            rows[measure].add(metric, value, 40, low=value - 0.02, high=value + 0.03, intervention="baseline", **axes)

        add("classification", "top1", value, feature="cls", head="refitted")
        add("classification", "top1", value - 0.2, feature="cls", head="refitted", seed=0)
        add("classification", "top1", value + 0.1, feature="cls", head="knn")
        add("classification", "top1", value + 0.2, feature="patch_mean", head="refitted")
        add("object_discovery", "corloc", value - 0.1, head="lost")
        add("object_discovery", "corloc", value - 0.2, head="dino_seg")
        for head in ("refitted", "frozen"):
            add("dense_prediction", "miou", value, head=head)
            add("dense_prediction", "rmse", value / 10, head=head)
        if REGISTERS.get(model, 0) > 1:
            rows["token_statistics"] = rows_of("token_statistics", **where)
            for layer in (0, 1):
                add("token_statistics", "register_cosine", 0.6 + layer / 10, layer=layer)
                add("token_statistics", "cls_register_cosine", 0.3 + layer / 10, layer=layer)
        found += rows.values()
    return [*found, differences()]


def differences():
    rows = rows_of("comparisons", dataset="shapes")
    rows.metrics = {name: metric for name, (_, metric) in experiment.metrics().items()}
    cls, lost, refitted = {"feature": "cls", "head": "refitted"}, {"head": "lost"}, {"head": "refitted"}
    for i, (a, b) in enumerate(COMPARED):
        where = dict(zip(("model", "intervention"), a.split("/"), strict=True))
        where |= dict(zip(("reference_model", "reference_intervention"), b.split("/"), strict=True))
        for metric, way in (("top1", cls), ("corloc", lost), ("miou", refitted), ("rmse", refitted)):
            value = 0.01 * (i + 1)
            rows.add(metric, value, 40, low=value - 0.02, high=value + 0.02, p=None if i == 0 else 0.5, **where, **way)
    return rows


@pytest.fixture(scope="module")
def study():
    kinds = {**dict.fromkeys(REGISTERS, "trained"), "planted": "planted"}
    return study_of(measured(), MODELS, REGISTERS, ["append-4"], COMPARED, other_size=["wide"], kinds=kinds)


def test_register_counts_are_in_order_and_only_of_models_trained_alike(study):
    frame = tables.register_count(study).frame()
    assert frame["model"].tolist() == ["r0", "r1", "r4"]
    assert frame["registers"].tolist() == [0, 1, 4]
    assert frame["top1_cls"].tolist() == pytest.approx([0.51, 0.52, 0.5])  # over seeds
    assert frame["knn_cls"].tolist() == pytest.approx([0.61, 0.62, 0.6])
    assert frame["corloc"].tolist() == pytest.approx([0.41, 0.42, 0.4])
    assert frame["register_cosine"].isna().tolist() == [True, True, False]
    assert frame["register_cosine"].iloc[2] == 0.7  # at the last block


@pytest.mark.parametrize(("name", "measures"), [("lost_registers", 1), ("downstream_registers", 3)])
def test_models_with_registers_stand_beside_those_without_and_what_is_made_from_a_model_does_not(study, name, measures):
    table = getattr(tables, name)(study)
    frame = table.frame()
    assert frame["model"].tolist() == ["r4"] * measures
    assert frame["reference"].tolist() == ["r0"] * measures
    assert frame[["with", "without", "change"]].notna().all(axis=None)
    assert "change_p" not in frame  # one training each
    assert frame["trainings"].tolist() == [1] * measures
    assert frame["change"].tolist() == [0.01] * measures
    assert "with_n" not in frame
    assert frame["change_n"].tolist() == [40] * measures


def test_several_trainings_stand_as_their_mean_with_a_p_over_them(study):
    rows = rows_of("comparisons", dataset="shapes")
    rows.metrics = {name: metric for name, (_, metric) in experiment.metrics().items()}
    r4 = {"model": "r4", "intervention": "baseline", "head": "lost", "trainings": 5}
    r0 = {"model": "r0", "intervention": "baseline", "head": "lost", "trainings": 5}
    rows.add("corloc", 0.61, 40, low=0.6, high=0.62, **r4)
    rows.add("corloc", 0.58, 40, low=0.57, high=0.59, **r0)
    against = {"reference_model": "r0", "reference_intervention": "baseline"}
    rows.add("corloc", 0.03, 40, low=0.01, high=0.05, p=0.01, p_adjusted=0.04, **r4, **against)
    made = study_of([study.rows, rows], MODELS, REGISTERS, ["append-4"], COMPARED)
    asked = [Comparison(question="why", a="r4/baseline", b="r0/baseline", trainings=True)]
    made.plan = made.plan.model_copy(update={"comparisons": asked})
    frame = tables.lost_registers(made).frame()
    assert frame[["with", "without", "change", "change_p", "change_p_adjusted", "trainings"]].to_numpy().tolist() == [
        [0.61, 0.58, 0.03, 0.01, 0.04, 5]
    ]
    assert "0.040" in tables.lost_registers(made).latex()
    assert made.estimate(Condition("shapes", "r4"), "corloc", head="lost").value == pytest.approx(0.4)  # of one


def test_pairs_show_the_heads_that_were_refitted(study):
    frame = tables.downstream_registers(study).frame().set_index("measure")
    assert frame.loc["Depth, RMSE", ["with", "without"]].tolist() == pytest.approx([0.05, 0.051])
    assert frame.loc["Top-1 (%), [CLS]", ["with", "without"]].tolist() == pytest.approx([0.5, 0.51])


def test_zero_shot_is_compared_where_a_model_has_a_text_tower(study):
    rows = []
    for model in ("r0", "r4"):
        of_model = rows_of("zero_shot", dataset="shapes", model=model)
        of_model.add("zero_shot_top1", 0.3, 40, intervention="baseline")
        rows.append(of_model)
    made = study_of([*measured(), *rows], MODELS, REGISTERS, ["append-4"], COMPARED)
    assert "Zero-shot, top-1 (%)" in tables.downstream_registers(made).frame()["measure"].tolist()
    assert "Zero-shot, top-1 (%)" not in tables.downstream_registers(study).frame()["measure"].tolist()


def test_a_study_without_trained_models_says_so():
    made = study_of([], ["planted"])
    for name, expected in (
        ("register_count", "no model of this study was trained"),
        ("lost_registers", "compares no model with registers"),
        ("downstream_registers", "compares no model with registers"),
    ):
        assert expected in getattr(tables, name)(made).latex()


def draw(study):
    with style.styled():
        return figures.register_count(study, Arrays(Paths("none"), ()))


@pytest.mark.parametrize(
    ("panel", "values", "intervals"),
    [
        (2, [41.0, 42.0, 40.0], [[39.0, 44.0], [40.0, 45.0], [38.0, 43.0]]),  # CorLoc, in percent
        (3, [51.0, 52.0, 50.0], [[49.0, 54.0], [50.0, 55.0], [48.0, 53.0]]),  # mIoU, of the refitted head
        (4, [0.051, 0.052, 0.05], [[0.031, 0.081], [0.032, 0.082], [0.03, 0.08]]),  # RMSE is no share
    ],
)
def test_the_figure_shows_values_with_their_intervals(study, panel, values, intervals):
    axes = draw(study).axes[panel]
    points = axes.containers[0].lines[0].get_ydata()
    np.testing.assert_allclose(np.array(points, dtype=float), values)
    segments = axes.containers[0].lines[2][0].get_segments()
    np.testing.assert_allclose(np.array([segment[:, 1] for segment in segments], dtype=float), intervals)
    assert [label.get_text() for label in axes.get_xticklabels()] == ["0", "1", "4"]


def test_the_figure_fits_the_page_and_says_which_task_was_not_measured(study, tmp_path):
    rows = study.rows
    figure = draw(Study(study.plan, rows[rows["metric"] != "miou"]))
    assert figure.get_size_inches()[0] <= style.WIDTH + 1e-9
    assert [[text.get_text() for text in axes.texts] for axes in figure.axes] == [[], [], [], ["not measured"], []]
    assert not figure.legends  # one data set
    with style.styled():
        style.save(figure, tmp_path, "register_count")


def test_several_data_sets_are_told_apart_in_the_legend(study):
    where = study.rows["model"].isin(["r0", "r4"]) & study.rows["reference_model"].isna()
    other = study.rows[where].assign(dataset="cells")
    runs = [*study.plan.runs, Run(dataset="cells", models=["r0", "r4"], interventions=[])]
    made = Study(study.plan.model_copy(update={"runs": runs}), pd.concat([study.rows, other], ignore_index=True))
    figure = draw(made)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["shapes", "cells"]
    assert [len(container.lines[0].get_ydata()) for container in figure.axes[0].containers] == [3, 2]


def test_the_figure_of_a_study_without_trained_models_says_so():
    assert "no model of this study" in draw(study_of([], ["planted"])).texts[0].get_text()
