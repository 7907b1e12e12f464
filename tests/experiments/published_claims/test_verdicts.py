"""Verdicts: each of them from made numbers, for each kind of claim."""

from typing import Any

import pytest

from helpers.studies import STUDIES, Measured, load, only, study_of
from vit_registers.claims import ledger
from vit_registers.claims.ledger import Claim
from vit_registers.experiments.published_claims import tables, verdicts
from vit_registers.experiments.published_claims.verdicts import Judged, judge
from vit_registers.params.study import Params
from vit_registers.views.study import Estimate

LOST = {"feature": "k", "head": "lost"}
STANDS = {
    "papers": ["bach2025", "kukade2025"],
    "models": {"deit3-small": "vit-r0", "deit3-small-reg4": "vit-r4", "dinov2-vitl14": "vit-r2"},
    "datasets": {"voc07": "shapes", "imagenet1k": "shapes"},
    "conditions": {"ttr": "append-1"},
    "protocol": {"bach2025-recipe-epochs": "recipes.small.epochs"},
}


@pytest.fixture(scope="module")
def params() -> Params:
    run = {"dataset": "shapes", "models": ["vit-r0", "vit-r2", "vit-r4"], "interventions": ["append-1"]}
    return load("embedded", only({"runs": [run], "stands_for": {**STANDS, "protocol": {}}}))


def of(params: Params, claim: Claim, measured: Measured) -> Judged:
    return judge(claim, study_of(params, measured))


def corloc(**by_model: float) -> Measured:
    """CorLoc of models as they are, each with an interval of a point on either side."""
    made = Measured()
    for model, value in by_model.items():
        name = model.replace("_", "-")
        made.add("corloc", value, dataset="shapes", model=name, intervention="baseline", **LOST)
    return made


def claim(name: str = "bach2025-lost-deit3-small-noreg", **changes: Any) -> Claim:
    """A claim of the ledger, changed: CorLoc of 33.8 of the model without registers unless it says otherwise."""
    given = {"model": "deit3-small", "dataset": "voc07", "condition": "baseline", "unit": "percent", "value": 33.8}
    return ledger.by_id()["bach2025-lost-dinov2-large-noreg"].model_copy(update={"id": name, **given, **changes})


@pytest.mark.parametrize(
    ("ours", "verdict"), [(0.338, "reproduced"), (0.345, "reproduced"), (0.36, "inconclusive"), (0.5, "contradicted")]
)
def test_a_number_is_held_against_ours_with_its_interval_and_the_tolerance(
    params: Params, ours: float, verdict: str
) -> None:
    judged = of(params, claim(), corloc(vit_r0=ours))
    assert judged.verdict == verdict
    assert judged.tolerance == pytest.approx(2.0)  # points, though ours is a share
    assert judged.ours is not None
    assert judged.ours.value == pytest.approx(100 * ours)


@pytest.mark.parametrize(("ours", "verdict"), [(0.5, "reproduced"), (0.34, "inconclusive"), (0.2, "contradicted")])
def test_a_bound_is_one_sided(params: Params, ours: float, verdict: str) -> None:
    assert of(params, claim(relation=">"), corloc(vit_r0=ours)).verdict == verdict
    opposite = {"reproduced": "contradicted", "contradicted": "reproduced"}
    assert of(params, claim(relation="<"), corloc(vit_r0=ours)).verdict == opposite.get(verdict, verdict)


@pytest.mark.parametrize(
    ("gain", "verdict"), [(0.015, "reproduced"), (0.03, "inconclusive"), (0.1, "contradicted"), (-0.1, "contradicted")]
)
def test_a_change_is_the_difference_from_the_claim_it_compares_with(params: Params, gain: float, verdict: str) -> None:
    delta = ledger.by_id()["bach2025-lost-dinov2-large-delta"]  # +1.47 points over dinov2-vitl14
    delta = delta.model_copy(update={"model": "deit3-small-reg4"})
    judged = of(params, delta, corloc(vit_r2=0.338, vit_r4=0.338 + gain))
    assert judged.verdict == verdict
    assert judged.ours is not None
    assert judged.ours.value == pytest.approx(100 * gain)


@pytest.mark.parametrize(("gain", "verdict"), [(0.1, "reproduced"), (0.01, "inconclusive"), (-0.1, "contradicted")])
def test_a_direction_without_a_number_is_a_sign(params: Params, gain: float, verdict: str) -> None:
    up = claim(model="deit3-small-reg4", value=None, relation="increases", versus="bach2025-lost-dinov2-large-noreg")
    assert of(params, up, corloc(vit_r2=0.3, vit_r4=0.3 + gain)).verdict == verdict


@pytest.mark.parametrize(("gain", "verdict"), [(0.0, "reproduced"), (0.02, "inconclusive"), (0.1, "contradicted")])
def test_no_change_is_equivalence(params: Params, gain: float, verdict: str) -> None:
    same = claim(model="deit3-small-reg4", value=None, relation="no-change", versus="bach2025-lost-dinov2-large-noreg")
    assert of(params, same, corloc(vit_r2=0.3, vit_r4=0.3 + gain)).verdict == verdict


def test_of_one_model_the_paired_difference_is_taken(params: Params) -> None:
    made = corloc(vit_r0=0.3)
    at = {"dataset": "shapes", "model": "vit-r0", "intervention": "append-1", **LOST}
    made.add("corloc", 0.9, **at)
    made.add("corloc", 0.02, **at, reference_model="vit-r0", reference_intervention="baseline")
    delta = claim(condition="ttr", metric="corloc_delta", unit="pp", value=2.0, relation="increases", versus="baseline")
    delta = delta.model_copy(update={"versus": "bach2025-lost-dinov2-large-noreg", "model": "dinov2-vitl14"})
    judged = of(params, delta.model_copy(update={"model": "deit3-small", "versus": "baseline"}), made)
    assert judged.ours is not None
    assert judged.ours.value == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"model": "dino"}, "no model of this study stands for dino"),
        ({"dataset": "coco20k"}, "no data set of this study stands for coco20k"),
        ({"condition": "zero-cls"}, "does not run under what stands for the condition 'zero-cls'"),
        ({}, "no row of corloc on shapes, vit-r0, baseline"),
    ],
)
def test_what_is_missing_is_named(params: Params, changes: dict[str, Any], says: str) -> None:
    judged = of(params, claim(**changes), Measured())
    assert judged.verdict == "not run"
    assert says in judged.reason


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"kind": "protocol"}, "a statement of procedure"),
        ({"model": None}, "names no model"),
        ({"metric": "root_cause", "experiment": "token-norms"}, "said to be open"),
        ({"metric": "nothing_of_ours"}, "no query"),
        ({"relation": "increases", "value": None, "versus": "register count"}, "compares with 'register count'"),
    ],
)
def test_what_no_number_can_answer_says_why(params: Params, changes: dict[str, Any], says: str) -> None:
    judged = of(params, claim(**changes), corloc(vit_r0=0.3))
    assert judged.verdict == "not testable"
    assert says in judged.reason


RANDOM = {"kind": "timm", "name": "vit_tiny_patch16_224", "weights": "random"}


@pytest.mark.parametrize(
    ("source", "change", "verdict", "says"),
    [
        ({**RANDOM, "weights": "pretrained"}, {}, "reproduced", "33.8"),
        (RANDOM, {}, "not run", "fetched has random weights here, which stand for no model of a paper"),
        (
            {"kind": "openclip", "name": "ViT-B-16", "pretrained": None},
            {},
            "not run",
            "fetched has random weights here",
        ),
        ({**RANDOM, "weights": "pretrained"}, {"limit": 8}, "not run", "a first look at 8 images of each split"),
        (RANDOM, {"limit": 8}, "not run", "fetched has random weights here"),
    ],
)
def test_neither_random_weights_nor_a_first_look_stand_for_a_paper(
    source: dict[str, Any], change: dict[str, Any], verdict: str, says: str
) -> None:
    run = {"dataset": "shapes", "models": ["fetched"], "interventions": []}
    stands = {**STANDS, "models": {"deit3-small": "fetched"}, "conditions": {}, "protocol": {}}
    study = only({"runs": [run], "stands_for": stands})
    judged = of(load("embedded", {**study, "models": {"fetched": source}, **change}), claim(), corloc(fetched=0.338))
    assert judged.verdict == verdict
    assert says in judged.reason


def test_rows_of_models_that_stand_for_nothing_never_count() -> None:
    embedded = load("embedded")
    made = Measured()
    for dataset, model in embedded.pairs():
        made.add("corloc", 0.338, dataset=dataset, model=model, intervention="baseline", **LOST)
    study = study_of(embedded, made)
    assert {judge(each, study).verdict for each in ledger.load()} == {"not run", "not testable"}
    judged = verdicts.judge_all(study)
    assert {each.by for each in judged} == {"", "published numbers"}
    assert all((each.verdict in ("not run", "not testable")) == (each.by == "") for each in judged)


def test_a_number_of_this_study_goes_before_what_is_printed(params: Params) -> None:
    finding = verdicts.errata.findings()[0]
    judged = of(params, claim(), corloc(vit_r0=0.338))
    assert judged.by == "this study"
    assert verdicts.by_printed(judged, finding).by == "published numbers"


def test_a_setting_is_followed_or_departed_from_as_params_say(params: Params) -> None:
    epochs = next(each for each in ledger.load() if each.kind == "protocol" and each.value is not None)
    stands = _stands({**STANDS, "protocol": {epochs.id: "recipes.small.epochs"}})
    changed = params.model_copy(update={"study": params.study.model_copy(update={"stands_for": stands})})
    departs = judge(epochs, study_of(changed))
    assert departs.verdict == "not testable"
    said = f"from which this study departs: recipes.small.epochs is 7, the paper says {epochs.value:g}"
    assert departs.reason == f"a statement of procedure, {said}"
    follows = judge(epochs.model_copy(update={"value": 7}), study_of(changed))
    assert follows.reason == "a statement of procedure, which this study follows: recipes.small.epochs is 7"
    assert judge(epochs, study_of(params)).reason == "a statement of procedure"


@pytest.mark.parametrize("name", [name for name in STUDIES if load(name).study.stands_for.protocol])
def test_settings_of_the_papers_are_followed_but_where_an_overlay_says_why_not(name: str) -> None:
    study = study_of(load(name))
    known, stated = ledger.by_id(), study.plan.stated
    assert all(
        known[claim].kind == "protocol" and known[claim].source in study.plan.stands_for.papers for claim in stated
    )
    departed = [claim for claim in stated if "departs" in judge(known[claim], study).reason]
    assert departed == (["bach2025-carbon-intensity-implied"] if name == "bach2025" else [])  # assumed: params.yaml


def _stands(given: dict[str, Any]) -> Any:
    from vit_registers.params.study import StandsFor

    return StandsFor.model_validate(given)


def test_half_of_the_last_printed_digit_is_the_least_tolerance_and_about_is_twice() -> None:
    exact = claim(value=33.77)
    query = verdicts.queries.Query(metric="corloc")
    assert verdicts.tolerance_of(exact, query) == pytest.approx(0.005)
    assert verdicts.tolerance_of(claim(value=600), query) == pytest.approx(0.5)
    assert verdicts.tolerance_of(claim(value=33.77, approx=True), query) == pytest.approx(0.01)
    assert verdicts.tolerance_of(claim(value=33.77, std=0.7), query) == pytest.approx(0.7)
    wide = verdicts.queries.Query(metric="corloc", relative=0.1)
    assert verdicts.tolerance_of(claim(value=50.0), wide) == pytest.approx(5.0)


def test_the_difference_of_independent_estimates_has_the_root_of_summed_squares() -> None:
    ours = verdicts.difference(Estimate(5.0, 2.0, 9.0, n=10), Estimate(1.0, -2.0, 5.0, n=8))
    assert (ours.value, ours.low, ours.high) == (4.0, pytest.approx(-1.0), pytest.approx(9.0))
    assert ours.n == 8


def test_the_tables_have_every_claim_once(params: Params) -> None:
    study = study_of(params, corloc(vit_r0=0.3, vit_r2=0.338, vit_r4=0.3))
    every = tables.claims(study).frame()
    assert list(every["id"]) == [each.id for each in ledger.load()]
    assert every["reason"].notna().all()
    counts = tables.by_paper(study).frame().set_index("source")
    verdict_columns = [name for name in counts if name != "claims"]
    assert (counts[verdict_columns].sum(axis=1) == counts["claims"]).all()
    assert counts.loc["all", "claims"] == len(every)
    held = tables.judged(study).frame()
    assert set(held["id"]) == set(every[every["ours"].notna()]["id"])
    assert {*held["verdict"]} <= {"reproduced", "contradicted", "inconclusive"}
