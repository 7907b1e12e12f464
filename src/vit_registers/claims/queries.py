"""Which number of the tidy table a claim is held against (queries.yaml).

A query stands under the experiment and the metric that the ledger names, so that one serves the same number of many
models and data sets; where a claim asks for something of its own, it stands under the claim's id.
"""

from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field

from vit_registers.claims.ledger import Claim
from vit_registers.params.base import Strict

QUERIES = Path(__file__).parent / "queries.yaml"
DELTA = "_delta"  # what the ledger appends to the name of a metric for its change


class Query(Strict):
    """Rows of the tidy table, and how far from a published number ours may be.

    ``metric`` at the values ``at`` of axes. ``conditions``: what a claim's condition means here, as further axes of
    the model as it is. ``layers``: first and last block, of which the largest or smallest value is taken
    (``take``) or that of the last block. ``tolerance``: in the unit of our metric; ``relative``: the
    same as a share of the published number; the larger counts, and never less than half of its last printed digit.
    """

    metric: str
    at: dict[str, Any] = Field(default={})
    conditions: dict[str, dict[str, Any]] = Field(default={})
    layers: tuple[int, int] | None = None
    take: Literal["max", "min", "last"] = "last"
    tolerance: Annotated[float, Field(ge=0.0)] = 0.0
    relative: Annotated[float, Field(ge=0.0)] = 0.0


class Queries(Strict):
    """All queries: ``experiments`` by the ledger's experiment and metric, ``ids`` by claim.

    ``out_of_reach``: metrics of the ledger that no number of ours can answer, with the reason, by experiment or as
    ``any``.
    """

    experiments: dict[str, dict[str, Query]]
    ids: dict[str, Query]
    out_of_reach: dict[str, str]


@cache
def load() -> Queries:
    """The queries of this package."""
    return Queries.model_validate(yaml.safe_load(QUERIES.read_text(encoding="utf-8")), strict=False)


def of(claim: Claim) -> Query | None:
    """The query of a claim; that of the metric itself where the claim is of its change."""
    found = load()
    if claim.id in found.ids:
        return found.ids[claim.id]
    return found.experiments.get(claim.experiment, {}).get(claim.metric.removesuffix(DELTA))


@cache
def metrics() -> tuple[str, ...]:
    """Metrics that queries ask for, each once."""
    found = load()
    asked = [query.metric for by_metric in found.experiments.values() for query in by_metric.values()]
    return tuple(dict.fromkeys([*asked, *(query.metric for query in found.ids.values())]))
