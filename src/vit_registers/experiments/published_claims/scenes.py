"""The scene of the explorer of published claims: filtered by paper and verdict, opened to what a verdict rests on."""

from vit_registers.experiments.published_claims.verdicts import Judged, judge_all
from vit_registers.views.scenes.widgets import Listing
from vit_registers.views.study import Study

COLUMNS = (
    ("source", "Paper"), ("where", "Where"), ("statement", "Statement"), ("published", "Published"), ("ours", "Ours"),
    ("verdict", "Verdict"),
)  # fmt: skip
DETAILS = (
    ("id", "Claim"), ("reason", "Reason"), ("by", "Rests on"), ("tolerance", "Tolerance"), ("metric", "Metric"),
    ("model", "Model"), ("dataset", "Data set"), ("condition", "Condition"), ("kind", "Kind"),
    ("suspect", "Doubt about the claim itself"),
)  # fmt: skip


def claims_and_verdicts(study: Study, arrays: object) -> Listing:
    """Every claim of the ledger."""
    rows = [_row(each) for each in judge_all(study)]
    return Listing(COLUMNS, rows, ("source", "verdict", "by", "kind"), DETAILS)


def _row(judged: Judged) -> dict[str, str]:
    """A claim and its verdict as text; what is not there is empty."""
    claim, ours = judged.claim, judged.ours
    row = {name: _text(getattr(claim, name)) for name in type(claim).model_fields}
    unit = f" {claim.unit}" if claim.unit else ""
    row |= {"published": "" if claim.value is None else f"{claim.value:g}{unit}", "verdict": judged.verdict}
    row |= {"reason": judged.reason, "by": judged.by, "tolerance": _text(judged.tolerance)}
    if ours is None or ours.value is None:
        return row | {"ours": ""}
    interval = "" if ours.low is None or ours.high is None else f" [{ours.low:.4g}, {ours.high:.4g}]"
    return row | {"ours": f"{ours.value:.4g}{interval}" + (f", n {ours.n}" if ours.n else "")}


def _text(value: object) -> str:
    return "" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
