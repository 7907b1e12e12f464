from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest

from vit_registers.core import table as metrics
from vit_registers.core.table import Metric
from vit_registers.views.study import Condition, Study, counted


@pytest.fixture
def study(embedded: Any) -> Study:
    return Study(embedded.view, embedded.rows)


def test_models_with_measured_test_time_registers_are_the_treated_ones(study: Study) -> None:
    planted = ("planted", "planted-cls", "planted-cls-raw")
    assert study.treated == [Condition("shapes", model) for model in planted]
    registers = ["vit-r0", "vit-r1", "vit-r2", "vit-r4", "vit-r8", "vit-r16"]
    others = ["vit-tiny", "vit-narrow", "tagged", "planted-48", "planted-48-plain"]
    assert [c.model for c in study.untreated] == registers + others


def test_a_resized_model_is_of_the_nature_of_its_base(study: Study) -> None:
    assert [study.nature(model) for model in ("planted-48", "planted", "vit-r0")] == ["planted", "planted", "trained"]


def test_artifacts_are_placed_in_the_models_that_have_some_and_in_those_at_another_size(study: Study) -> None:
    planted = ["planted", "planted-cls", "planted-cls-raw", "planted-48", "planted-48-plain"]
    assert [c.model for c in study.placed] == planted
    lost = (study.rows["model"] == "planted-48") & (study.rows["metric"] == "found")
    rows = study.rows.assign(value=study.rows["value"].mask(lost, 0.0))
    without = Study(study.cfg, rows)
    assert not without.found(Condition("shapes", "planted-48"))
    assert [c.model for c in without.placed] == planted  # to be set beside the one that kept them
    lost = (rows["model"] == "planted") & (rows["metric"] == "found")
    without = Study(study.cfg, rows.assign(value=rows["value"].mask(lost, 0.0)))
    assert [c.model for c in without.placed] == ["planted-cls", "planted-cls-raw", "planted-48-plain"]


def test_models_of_another_size_are_not_counted_by_registers(study: Study) -> None:
    assert [c.model for c in counted(study)] == ["vit-r0", "vit-r1", "vit-r2", "vit-r4", "vit-r8", "vit-r16"]


def test_planned_conditions_follow_params(study: Study, embedded: Any) -> None:
    plain = [
        (dataset, model, name)
        for dataset, model in embedded.params.pairs()
        for name in embedded.params.conditions(dataset, model)
    ]
    assert [(c.dataset, c.model, c.name) for c in study.planned] == plain


def test_after_is_the_condition_with_the_most_registers_of_the_neurons_found(study: Study) -> None:
    after = study.after(Condition("shapes", "planted"))
    assert after == Condition("shapes", "planted", "ttr-4")
    assert study.after(Condition("shapes", "vit-r0")) is None


def test_control_is_what_the_study_compares_with(study: Study) -> None:
    assert study.control(Condition("shapes", "planted", "ttr-4")) == Condition("shapes", "tagged", "append-4")
    assert study.control(Condition("shapes", "planted", "ttr-1")) == Condition("shapes", "tagged", "append-1")


def test_without_a_comparison_the_control_is_the_model_with_as_many_zero_tokens(
    make_study: Callable[..., Any],
) -> None:
    made = make_study({"study": {"detections": [], "comparisons": []}})
    study = Study(made.view, made.rows)
    assert study.control(Condition("shapes", "planted", "ttr-4")) == Condition("shapes", "planted", "append-4")
    assert study.control(Condition("shapes", "planted", "ttr-1")) is None
    assert study.control(Condition("shapes", "planted")) is None


def test_a_condition_that_does_not_apply_is_not_measured_and_says_why(study: Study) -> None:
    condition = Condition("shapes", "vit-r4", "ttr-4")
    assert not study.measured(condition)
    note = study.note(condition)
    assert note is not None
    assert note.startswith("no artifacts found")
    assert study.estimate(condition, "lost", "corloc").note == note
    assert study.note(Condition("shapes", "planted", "ttr-4")) is None


def test_estimate_is_the_row_over_all_seeds(study: Study, embedded: Any) -> None:
    for row in embedded.rows.itertuples():
        if row.readout == "probe[cls]" and pd.isna(row.seed) and pd.notna(row.value) and pd.isna(row.reference):
            cell = study.estimate(Condition(row.dataset, row.model, row.intervention), row.readout, row.metric)
            assert (cell.value, cell.low, cell.high, cell.n) == (row.value, row.low, row.high, row.n)


def test_estimate_by_layer_is_that_of_the_last(study: Study) -> None:
    condition = Condition("shapes", "planted")
    series = study.series(condition, "norms", "norm_median")
    assert list(series.index) == list(range(6))
    assert study.estimate(condition, "norms", "norm_median").value == series[5]


def test_several_seeds_without_a_row_over_all_are_refused(embedded: Any) -> None:
    key = {"model": "planted", "dataset": "shapes", "intervention": "baseline", "readout": "x", "metric": "y"}
    rows = metrics.frame([Metric(**key, value=1.0, unit="share", n=1, seed=s) for s in (0, 1)])
    with pytest.raises(ValueError, match="2 rows of x, y"):
        Study(embedded.view, rows).estimate(Condition("shapes", "planted"), "x", "y")


def test_differences_are_found_by_reference_and_never_taken_for_the_metric(study: Study) -> None:
    condition = Condition("shapes", "planted", "ttr-4")
    cell = study.estimate(condition, "lost", "corloc_difference", reference="tagged/append-4")
    assert cell.p is not None
    assert study.estimate(condition, "lost", "corloc_difference").value is None
    assert study.estimate(condition, "lost", "corloc").p is None


def test_the_published_codes_registers_are_not_taken_for_those_that_are_meant(study: Study) -> None:
    published = Condition("shapes", "planted", "published-4")
    assert study.conditions["published-4"] == "4 test-time registers, 1st image only"
    assert study.conditions["ttr-4"] == "4 test-time registers"
    assert not study.moves_what_was_found(published)
    assert study.moves_what_was_found(Condition("shapes", "planted", "ttr-4"))


def test_labels_say_what_was_done(study: Study) -> None:
    assert study.label(Condition("shapes", "planted-cls", "ttr-4")) == "Planted [CLS], 4 test-time registers"
    assert study.label(Condition("shapes", "vit-r0")) == "ViT without registers"
    assert study.label(Condition("shapes", "vit-tiny")) == "ViT 64 wide, 4 deep"
    assert study.label(Condition("shapes", "planted-48")) == "Planted at 48 px"
    assert study.label(Condition("shapes", "planted-48-plain")) == "Planted at 48 px, plain"
    assert study.label(Condition("shapes", "vit-r16", "append-4")) == "ViT with 16 registers, 4 zero tokens"
    assert len(set(study.models.values())) == len(study.models)
    assert len(set(study.conditions.values())) == len(study.conditions)


def test_two_conditions_with_one_meaning_are_told_apart_by_their_keys(make_study: Callable[..., Any]) -> None:
    change = {
        "interventions": {
            "same": {"kind": "test_time_registers", "tokens": 4, "neurons": "found", "max_over": "layer"}
        },
        "study": {"runs": [{"dataset": "shapes", "models": ["planted"], "interventions": ["ttr-4", "same"]}],
                  "detections": [], "comparisons": []},
    }  # fmt: skip
    made = make_study(change)
    labels = Study(made.view, made.rows).conditions
    assert labels["ttr-4"] == "4 test-time registers (ttr-4)"
    assert labels["same"] == "4 test-time registers (same)"
