"""Tables of claims: counts by paper, those that were held against a number, and all of them."""

from collections import Counter

from vit_registers.claims import errata, ledger
from vit_registers.experiments.published_claims.verdicts import VERDICTS, Judged, judge_all
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


def by_paper(study: Study) -> Table:
    """A row for each paper and one for all: how many claims have each verdict."""
    counted = [*(Column(_key(each), each.capitalize(), alignment="r") for each in VERDICTS), CLAIMS]
    table = Table([Column("source", "Paper"), *counted])
    judged = judge_all(study)
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
    for each in judge_all(study):
        if each.ours is not None:
            table.add(_row(each))
    return table


def claims(study: Study) -> Table:
    """Every claim, its verdict and the reason."""
    kind = Column("kind", "Kind")
    by, reason, doubt = (
        Column("by", "By"),
        Column("reason", "Reason"),
        Column("suspect", "Doubt about the claim itself"),
    )
    table = Table([*ENTRY, kind, *OURS, by, reason, doubt], ("source", "model", "dataset", "condition", "metric"))
    for each in judge_all(study):
        table.add(_row(each))
    return table


def claims_errata(study: Study) -> Table:
    """What published numbers and passages say against each other, claim by claim; no model is run for it."""
    shown = [
        Column("id", "Claim", printed=False),
        Column("statement", "Statement", alignment="p{52mm}"),
        Column("verdict", "Verdict"),
        Column("computation", "Computed", alignment="p{72mm}"),
        Column("reason", "Reason", printed=False),
    ]
    table = Table(shown, ("source",), heading="paper", spaced=True)
    table.columns = [Column("paper", "Paper"), *shown]
    known, last = ledger.by_id(), ""
    for finding in errata.findings():
        claim = known[finding.claim]
        row: dict[str, Cell] = {"source": claim.source, "id": claim.id, "statement": claim.statement}
        row |= {
            "verdict": finding.verdict,
            "computation": finding.computation.replace(". || ", "; against ").replace(" || ", "; against "),
            "reason": finding.reason,
        }
        if finding.verdict != "reproduced":
            table.add(row | {"paper": claim.source if claim.source != last else ""}, rule=claim.source != last)
            last = claim.source
    return table


def _row(judged: Judged) -> dict[str, Cell]:
    claim = judged.claim
    entry: dict[str, Cell] = {name: getattr(claim, name) for name in type(claim).model_fields if name != "value"}
    entry |= {"published": claim.value, "ours": judged.ours, "verdict": judged.verdict, "reason": judged.reason}
    return entry | {"tolerance": judged.tolerance, "by": judged.by}
