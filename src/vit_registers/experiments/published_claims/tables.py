"""Tables of claims: counts by paper, those that were held against a number, and all of them."""

from collections import Counter

from vit_registers.claims import ledger
from vit_registers.experiments.published_claims.verdicts import VERDICTS, Judged, judge
from vit_registers.views.study import Study
from vit_registers.views.table import Cell, Column, Table

CLAIMS = Column("claims", "Claims", alignment="r")
NOTHING = "no claim of this study's papers was held against a number"
ENTRY = (
    Column("id", "Claim"),
    Column("where", "Where"),
    Column("statement", "Statement"),
)
OURS = (
    Column("published", "Published"),
    Column("unit", "Unit"),
    Column("tolerance", "Tolerance"),
    Column("ours", "Ours"),
    Column("verdict", "Verdict"),
)


def _judged(study: Study) -> list[Judged]:
    """All claims, in the order of the ledger."""
    return [judge(claim, study) for claim in ledger.load()]


def by_paper(study: Study) -> Table:
    """A row for each paper and one for all: how many claims have each verdict."""
    counted = [*(Column(_key(each), each.capitalize(), alignment="r") for each in VERDICTS), CLAIMS]
    table = Table([Column("source", "Paper"), *counted])
    judged = _judged(study)
    for source in ledger.sources():
        table.add({"source": source, **_counts([each for each in judged if each.claim.source == source])})
    table.add({"source": "all", **_counts(judged)}, rule=True)
    return table


def _key(verdict: str) -> str:
    return verdict.replace(" ", "_")


def _counts(judged: list[Judged]) -> dict[str, Cell]:
    found = Counter(each.verdict for each in judged)
    return {**{_key(each): found[each] for each in VERDICTS}, "claims": len(judged)}


def judged(study: Study) -> Table:
    """Claims that a number of the study was held against."""
    table = Table([*ENTRY[:1], *ENTRY[2:], *OURS], ("source",), empty=NOTHING)
    for each in _judged(study):
        if each.ours is not None:
            table.add(_row(each))
    return table


def claims(study: Study) -> Table:
    """Every claim, its verdict and the reason."""
    kind = Column("kind", "Kind")
    reason, doubt = Column("reason", "Reason"), Column("suspect", "Doubt about the claim itself")
    table = Table([*ENTRY, kind, *OURS, reason, doubt], ("source", "model", "dataset", "condition", "metric"))
    for each in _judged(study):
        table.add(_row(each))
    return table


def _row(judged: Judged) -> dict[str, Cell]:
    claim = judged.claim
    entry: dict[str, Cell] = {name: getattr(claim, name) for name in type(claim).model_fields if name != "value"}
    entry |= {"published": claim.value, "ours": judged.ours, "verdict": judged.verdict, "reason": judged.reason}
    return entry | {"tolerance": judged.tolerance}
