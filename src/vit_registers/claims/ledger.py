"""The ledger: every number, hyperparameter and directional finding of the papers, one entry each (ledger.yaml)."""

from functools import cache
from pathlib import Path
from typing import Literal

import yaml

from vit_registers.params.base import Strict

LEDGER = Path(__file__).parent / "ledger.yaml"
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten thousand lines take libyaml a tenth of the time
Relation = Literal["=", ">", "<", "increases", "decreases", "no-change"]


class Claim(Strict):
    """One claim as its source states it; the head of ledger.yaml says what each key means.

    ``value`` is in ``unit``, as printed. ``suspect``: a contradiction or doubt, opening with its type.
    """

    id: str
    source: str
    where: str
    experiment: str
    statement: str
    model: str | None
    dataset: str | None
    condition: str | None
    metric: str
    value: float | int | None
    unit: str | None
    relation: Relation
    kind: Literal["numeric", "directional", "protocol"]
    std: float | None = None
    approx: bool = False
    derived: bool = False
    setting: str | None = None
    versus: str | None = None
    note: str | None = None
    suspect: str | None = None


class Source(Strict):
    """Where claims come from."""

    title: str
    authors: str
    year: int
    kind: str


def read(path: Path) -> tuple[dict[str, Source], list[Claim]]:
    """Sources by key and claims of a ledger, in its order."""
    content = yaml.load(path.read_text(encoding="utf-8"), Loader=LOADER)
    sources = {key: Source.model_validate(given) for key, given in content["sources"].items()}
    return sources, [Claim.model_validate(given) for given in content["claims"]]


@cache
def _ledger() -> tuple[dict[str, Source], list[Claim]]:
    return read(LEDGER)


def load() -> list[Claim]:
    """All claims, in the order of the ledger."""
    return _ledger()[1]


def sources() -> dict[str, Source]:
    """The papers by key."""
    return _ledger()[0]


@cache
def by_id() -> dict[str, Claim]:
    """All claims by their id."""
    return {claim.id: claim for claim in load()}
