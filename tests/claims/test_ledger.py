"""The ledger of claims and the queries on it."""

from collections import Counter

import pytest
from pydantic import ValidationError

from vit_registers.claims import ledger, papers, queries
from vit_registers.core.table import AXES
from vit_registers.pipeline import experiment


def test_every_claim_is_there_once() -> None:
    ids = Counter(claim.id for claim in ledger.load())
    assert max(ids.values()) == 1
    assert {claim.source for claim in ledger.load()} == {*ledger.sources()}
    assert all(claim.id.startswith(f"{claim.source}-") for claim in ledger.load())


def test_a_claim_has_a_number_a_setting_or_a_direction() -> None:
    for claim in ledger.load():
        if claim.kind == "numeric":
            assert claim.value is not None, claim.id
        if claim.kind == "directional":
            assert claim.relation != "=" or claim.value is not None, claim.id


def test_the_count_says_how_many_there_are() -> None:
    assert len(ledger.load()) == ledger.LEDGER.read_text(encoding="utf-8").count("  - id: ")


def test_queries_ask_for_metrics_and_axes_that_there_are() -> None:
    found = queries.load()
    asked = [query for by_metric in found.experiments.values() for query in by_metric.values()]
    for query in [*asked, *found.ids.values()]:
        measure, _ = experiment.metrics()[query.metric]
        axes = {*AXES, *experiment.measures()[measure][1].axes}
        for given in [query.at, *query.conditions.values()]:
            assert {*given} <= axes, query


def test_queries_stand_under_names_of_the_ledger() -> None:
    found = queries.load()
    named = {(claim.experiment, claim.metric.removesuffix(queries.DELTA)) for claim in ledger.load()}
    asked = {(name, metric) for name, by_metric in found.experiments.items() for metric in by_metric}
    assert asked - named == set()
    assert {*found.ids} <= {*ledger.by_id()}
    assert {*found.out_of_reach} <= {claim.metric.removesuffix(queries.DELTA) for claim in ledger.load()}


def test_a_query_by_id_wins_and_a_change_uses_the_query_of_its_metric() -> None:
    early = ledger.by_id()["kukade2025-dinov2-norm-early"]
    assert queries.of(early) == queries.load().ids[early.id]
    delta = ledger.by_id()["bach2025-lost-dinov2-large-delta"]
    assert queries.of(delta) == queries.load().experiments["lost-corloc"]["corloc"]


@pytest.mark.parametrize("wrong", [{"value": "81.05"}, {"relation": "about"}, {"kind": "hunch"}, {"extra": 1}])
def test_a_claim_of_another_form_is_refused(wrong: dict[str, object]) -> None:
    claim = ledger.by_id()["bach2025-top1-reg0"].model_dump()
    with pytest.raises(ValidationError):
        ledger.Claim.model_validate(claim | wrong)


def test_every_paper_of_the_ledger_has_its_scope_and_what_is_easy_and_difficult() -> None:
    assert {*papers.load()} == {*ledger.sources()}
