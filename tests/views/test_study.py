"""What views ask of a study: which rows there are, and what belongs together."""

import pytest

from helpers.studies import Measured, load, only, study_of
from vit_registers.params.study import Params
from vit_registers.views.plan import plan
from vit_registers.views.study import Condition, Study

REASON = "no artifacts found: 0.00% of the patches exceed 51.0, 0.10% are needed"
LOST = {"feature": "k", "head": "lost"}


def measured(params: Params) -> Measured:
    """The planted models have artifacts and every condition; of the others, moving neurons does not apply."""
    made = Measured()
    for dataset, model in params.pairs():
        found = model.startswith("planted")
        made.add("artifacts_found", float(found), dataset=dataset, model=model, intervention="baseline")
        for name in params.conditions(dataset, model):
            axes = {"dataset": dataset, "model": model, "intervention": name}
            applies = found or name == "baseline" or not params.interventions[name].moves_neurons
            if not applies:
                made.absent("corloc", REASON, **axes, **LOST)
                continue
            made.add("corloc", 0.4, **axes, **LOST)
            for layer in range(6):
                made.add("norm_median", 10.0 + layer, **axes, layer=layer)
            for seed in (None, 0, 1):
                made.add("top1", 0.9 if seed is None else 0.8 + seed / 10, **axes, seed=seed, **PROBE)
    return made


PLANTED = [
    *("planted", "planted-cls", "planted-cls-raw"),
    *("planted-late", "planted-late-few", "planted-late-half", "planted-late-quarter"),
]
PROBE = {"feature": "cls", "head": "refitted"}


@pytest.fixture(scope="module")
def extended() -> Params:
    return load("extended")


@pytest.fixture(scope="module")
def study(extended: Params) -> Study:
    return study_of(extended, measured(extended))


def at(model: str, name: str = "baseline") -> Condition:
    return Condition("shapes", model, name)


def of(study: Study, conditions: list[Condition]) -> list[str]:
    return [c.model for c in conditions]


def test_models_in_which_there_were_neurons_to_move_have_artifacts(study: Study) -> None:
    assert of(study, study.with_artifacts) == PLANTED
    rest = {*of(study, study.baselines)} - {*PLANTED}
    assert set(of(study, study.without_artifacts)) == rest


def test_a_resized_model_is_of_the_kind_of_its_base(study: Study) -> None:
    assert [study.plan.kinds[model] for model in ("planted-48", "planted", "vit-r0")] == [
        *("planted", "planted", "trained")
    ]
    assert [study.is_natural(model) for model in ("planted-48", "tagged", "vit-r0")] == [False, False, True]


@pytest.mark.slow
def test_artifacts_are_placed_in_the_models_that_have_some_and_in_those_at_another_size(study: Study) -> None:
    planted = [*PLANTED, "planted-48", "planted-48-plain"]
    assert of(study, study.placed) == planted

    def without(study: Study, model: str) -> Study:
        lost = (study.rows["model"] == model) & (study.rows["metric"] == "artifacts_found")
        return Study(study.plan, study.rows.assign(value=study.rows["value"].mask(lost, 0.0)))

    small = without(study, "planted-48")
    assert not small.found(at("planted-48"))
    assert of(small, small.placed) == planted  # to be set beside the one that kept them
    neither = without(small, "planted")
    assert of(neither, neither.placed) == [*PLANTED[1:], "planted-48-plain"]


def test_models_of_another_size_are_not_counted_by_registers(study: Study) -> None:
    on_shapes = [c for c in study.by_count if c.dataset == "shapes"]
    first = [model for model in of(study, on_shapes) if model.count("-") == 1]  # others repeat them
    assert first == ["vit-r0", "vit-r1", "vit-r2", "vit-r4", "vit-r8", "vit-r16"]
    assert [c.model for c in study.by_count if c.dataset == "digits"] == ["vit-digits", "vit-digits-r4"]


def test_baselines_in_which_nothing_was_learnt_are_no_natural_models(study: Study) -> None:
    assert study.plan.unlearned == ["untrained", "pixels", "colour", "pixels-32"]
    assert not any(study.is_natural(model) for model in study.plan.unlearned)


def test_planned_conditions_follow_params(study: Study, extended: Params) -> None:
    plain = [(d, model, name) for d, model in extended.pairs() for name in extended.conditions(d, model)]
    assert [(c.dataset, c.model, c.name) for c in study.planned] == plain


def test_after_is_the_condition_of_test_time_registers_that_the_study_compares_first(study: Study) -> None:
    assert study.after(at("planted")) == at("planted", "ttr-4")
    assert study.after(at("vit-r0")) is None


def test_control_is_what_the_study_compares_with(study: Study) -> None:
    assert study.control(at("planted", "ttr-4")) == at("tagged", "append-4")
    assert study.control(at("planted", "ttr-1")) == at("tagged", "append-1")


def test_without_a_comparison_the_control_is_the_model_with_as_many_zero_tokens() -> None:
    params = load("embedded", {"study": {"comparisons": []}})
    study = study_of(params, measured(params))
    assert study.control(at("planted", "ttr-4")) == at("planted", "append-4")
    assert study.control(at("planted", "ttr-1")) is None
    assert study.control(at("planted")) is None


def test_a_condition_that_does_not_apply_is_not_measured_and_says_why(study: Study) -> None:
    assert not study.measured(at("vit-r4", "ttr-4"))
    assert study.note(at("vit-r4", "ttr-4")) == REASON
    assert study.estimate(at("vit-r4", "ttr-4"), "corloc", **LOST).note == REASON
    assert study.note(at("planted", "ttr-4")) is None


def test_estimate_is_the_row_over_all_seeds(study: Study) -> None:
    cell = study.estimate(at("planted"), "top1", **PROBE)
    assert (cell.value, cell.low, cell.high, cell.n) == (0.9, pytest.approx(0.89), pytest.approx(0.91), 100)
    one = study.estimate(at("planted"), "top1", seed=1, **PROBE)
    assert one.value == pytest.approx(0.9)
    assert study.estimate(at("planted"), "top1", seed=0, **PROBE).value == pytest.approx(0.8)


def test_estimate_by_layer_is_that_of_the_last_unless_one_is_named(study: Study) -> None:
    series = study.series(at("planted"), "norm_median")
    assert list(series.index) == list(range(6))
    assert study.estimate(at("planted"), "norm_median").value == series[5] == 15.0
    assert study.estimate(at("planted"), "norm_median", layer=2).value == series[2]


def test_several_seeds_without_a_row_over_all_are_refused(extended: Params) -> None:
    made = Measured()
    for seed in (0, 1):
        made.add("top1", 1.0, dataset="shapes", model="planted", intervention="baseline", seed=seed, **PROBE)
    with pytest.raises(ValueError, match=r"2 rows of top1 at .*; name the axis that tells them apart"):
        study_of(extended, made).estimate(at("planted"), "top1")


def test_differences_are_found_by_reference_and_never_taken_for_the_metric(extended: Params) -> None:
    made = Measured()
    axes = {"dataset": "shapes", "model": "planted", "intervention": "ttr-4", **LOST}
    made.add("corloc", 0.4, **axes)
    made.add("corloc", 0.1, **axes, reference_model="tagged", reference_intervention="append-4")
    study = study_of(extended, made)
    assert study.estimate(at("planted", "ttr-4"), "corloc", **LOST).value == 0.4
    assert study.estimate(at("planted", "ttr-4"), "corloc", against=at("tagged", "append-4"), **LOST).value == 0.1
    assert study.estimate(at("planted", "ttr-4"), "corloc", against=at("planted", "append-4"), **LOST).value is None


def test_the_published_codes_registers_are_not_taken_for_those_that_are_meant(study: Study) -> None:
    assert study.conditions["published-4"] == "4 test-time registers, over all tokens, one value per layer"
    assert study.conditions["ttr-4"] == "4 test-time registers"
    assert not study.is_test_time_registers(at("planted", "published-4"))
    assert study.is_test_time_registers(at("planted", "ttr-4"))


def test_clearing_without_a_register_is_told_from_every_other_condition(study: Study) -> None:
    assert study.is_cleared(at("planted", "cleared"))
    others = [c for c in study.of("shapes", "planted") if c.name != "cleared"]
    assert not any(study.is_cleared(c) for c in others)
    assert study.cleared(at("planted")) == at("planted", "cleared")
    assert study.cleared(at("vit-r4")) is None


def test_labels_say_what_was_done(study: Study) -> None:
    assert study.label(at("planted-cls", "ttr-4")) == "Planted [CLS], 4 test-time registers"
    assert study.label(at("vit-tiny")) == "ViT 64 wide, 4 deep"
    assert study.label(at("planted-48")) == "Planted at 48 px"
    assert study.label(at("planted-48-plain")) == "Planted at 48 px, plain"
    assert study.label(at("vit-r16", "append-4")) == "ViT with 16 registers, 4 zero tokens"
    assert study.label(at("untrained")) == "Untrained ViT on shapes"  # it is measured on others too
    assert study.models["vit-r0"] == "ViT without registers (vit-r0)"  # as others on other data sets are called
    assert (study.models["untrained"], study.models["pixels"]) == ("Untrained ViT", "Raw pixels (pixels)")
    assert len(set(study.models.values())) == len(study.models)
    assert len(set(study.conditions.values())) == len(study.conditions)


def test_two_conditions_with_one_meaning_are_told_apart_by_their_keys() -> None:
    same = {"kind": "test_time_registers", "tokens": 4, "neurons": "found", "scale": 1.0}
    runs = [{"dataset": "shapes", "models": ["planted"], "interventions": ["ttr-4", "same"]}]
    labels = plan(load("embedded", {"interventions": {"same": same}, **only({"runs": runs})})).conditions
    assert labels["ttr-4"] == "4 test-time registers (ttr-4)"
    assert labels["same"] == "4 test-time registers (same)"
