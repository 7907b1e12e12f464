"""What sentences are about."""

import pytest

from helpers.studies import Measured, load, only, study_of
from vit_registers.views import chosen
from vit_registers.views.study import Condition, Estimate

RUN = {"dataset": "shapes", "models": ["vit-r0", "tagged", "planted"], "interventions": ["append-4"]}
LOST = {"head": "lost"}
AT = {model: Condition("shapes", model) for model in RUN["models"]}


@pytest.fixture
def study():
    made = Measured()
    for model, corloc in (("vit-r0", 0.5), ("tagged", 0.505), ("planted", 0.2)):
        where = {"dataset": "shapes", "model": model, **LOST}
        made.add("corloc", corloc, intervention="baseline", **where)
        own = {"reference_model": model, "reference_intervention": "baseline"}
        made.add("corloc", corloc - 0.6, intervention="append-4", **where, **own)
    against = {"reference_model": "tagged", "reference_intervention": "baseline"}
    made.add("corloc", -0.02, dataset="shapes", model="vit-r0", intervention="baseline", **LOST, **against)
    return study_of(load("embedded", only({"runs": [RUN]})), made)


def test_the_condition_with_most_and_with_least(study):
    assert chosen.most(study, study.baselines, "corloc", **LOST).condition == AT["tagged"]
    assert chosen.least(study, study.baselines, "corloc", **LOST).condition == AT["planted"]
    assert chosen.most(study, study.baselines, "miou") is None


def test_a_paired_difference_tells_what_intervals_do_not(study):
    assert chosen.lower(study, AT["vit-r0"], AT["tagged"], "corloc", **LOST)  # by the difference
    assert not chosen.higher(study, AT["tagged"], AT["vit-r0"], "corloc", **LOST)  # no difference, intervals overlap
    assert chosen.higher(study, AT["tagged"], AT["planted"], "corloc", **LOST)
    assert not chosen.lower(study, AT["tagged"], AT["planted"], "corloc", **LOST)


def test_what_costs_most_against_the_model_as_it_is(study):
    found = chosen.costliest(study, "corloc", **LOST)
    assert found.condition == Condition("shapes", "planted", "append-4")
    assert found.estimate.value == pytest.approx(-0.4)
    assert chosen.costliest(study, "miou") is None


def test_signs_need_an_interval():
    assert chosen.negative(Estimate(-1.0, -2.0, -0.1))
    assert not chosen.negative(Estimate(-1.0))
    assert not chosen.negative(Estimate(-1.0, -2.0, 0.0))
    assert chosen.positive(Estimate(1.0, 0.1, 2.0))
    assert not chosen.positive(Estimate(1.0, -0.1, 2.0))
    assert not chosen.above(Estimate(1.0, 0.5, 1.5), Estimate(0.4, 0.3, 0.5))


def test_of_many_names_the_first_are_said(study):
    assert chosen.some(["a", "b", "c"]) == "a, b and c"
    assert chosen.some(["a", "b", "c", "d", "e"]) == "a, b, c and 2 more"
    assert chosen.names(study, [AT["planted"]]) == "Planted"


def test_learned_and_unlearned_models_are_all_models(study):
    assert chosen.unlearned(study) == []
    assert chosen.learned(study) == study.baselines
