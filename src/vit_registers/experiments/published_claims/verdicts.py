"""A verdict for a claim: what the paper printed against what this study measured."""

from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal

from vit_registers.claims import errata, ledger, queries
from vit_registers.claims.finding import Finding
from vit_registers.claims.ledger import Claim
from vit_registers.claims.queries import DELTA, Query
from vit_registers.params.condition import BASELINE
from vit_registers.pipeline import experiment
from vit_registers.views.study import Condition, Estimate, Study

Verdict = Literal["reproduced", "contradicted", "inconclusive", "not run", "not testable"]
VERDICTS: tuple[Verdict, ...] = ("reproduced", "contradicted", "inconclusive", "not run", "not testable")
UNTOUCHED = ("baseline", "registers", "model")  # the model as it is: trained registers are part of it
SHARES = ("percent", "pp")
CHANGES = {"increases": 1.0, "decreases": -1.0, ">": 1.0, "<": -1.0}


@dataclass(frozen=True)
class Judged:
    """A claim with its verdict.

    ``ours``: the number it was held against, in the claim's unit; a difference where the claim is of one. ``by``: what
    the verdict rests on, the numbers of this study or the published ones alone (claims/errata.py).
    """

    claim: Claim
    verdict: Verdict
    reason: str
    ours: Estimate | None = None
    tolerance: float | None = None
    by: Literal["this study", "published numbers", ""] = ""


class _NotRun(Exception):
    """This study lacks what the claim is about; the message names it."""


class _NotTestable(Exception):
    """No number can answer the claim; the message says why."""


def judge_all(study: Study) -> list[Judged]:
    """All claims in the order of the ledger: by this study, and where it says nothing by the published numbers."""
    found = {finding.claim: finding for finding in errata.findings()}
    judged = [judge(claim, study) for claim in ledger.load()]
    return [
        by_printed(each, found[each.claim.id]) if each.ours is None and each.claim.id in found else each
        for each in judged
    ]


def by_printed(judged: Judged, finding: Finding) -> Judged:
    """The verdict that published numbers alone give; what this study lacks stays in the reason."""
    reason = f"{finding.computation}: {finding.reason} (this study: {judged.reason})"
    return Judged(judged.claim, finding.verdict, reason, by="published numbers")


def judge(claim: Claim, study: Study) -> Judged:
    """The verdict on a claim by the rows of this study, or why there is none."""
    try:
        if claim.kind == "protocol":
            raise _NotTestable(_protocol(claim, study))
        query = queries.of(claim)
        if query is None:
            reason = queries.load().out_of_reach.get(claim.metric.removesuffix(DELTA))
            raise _NotTestable(reason or "no query: no metric of this project is what the claim is about")
        return _held_against(claim, query, study)
    except _NotRun as missing:
        return Judged(claim, "not run", str(missing))
    except _NotTestable as why:
        return Judged(claim, "not testable", str(why))


def _protocol(claim: Claim, study: Study) -> str:
    """Whether this study follows a procedure that params state; whether the paper did, no run shows."""
    stated = study.plan.stated.get(claim.id)
    if stated is None:
        return "a statement of procedure"
    key, published = study.plan.stands_for.protocol[claim.id], claim.setting if claim.value is None else claim.value
    if stated == published:
        return f"a statement of procedure, which this study follows: {key} is {_shown(stated)}"
    return (
        f"a statement of procedure, from which this study departs: {key} is {_shown(stated)}, the paper says "
        f"{_shown(published)}"
    )


def _shown(value: object) -> str:
    return f"{value:g}" if isinstance(value, int | float) else str(value)


# What of the study a claim is about.


def _standing(claim: Claim, study: Study) -> str:
    """The model of this study whose numbers count for the claim's model.

    Random weights count for none, and no number of a first look does.
    """
    standing, plan = study.plan.stands_for.models, study.plan
    if claim.model is None:
        raise _NotTestable("a summary that names no model; the claims that it sums up have verdicts of their own")
    if claim.model not in standing:
        raise _NotRun(f"no model of this study stands for {claim.model}")
    if standing[claim.model] in plan.unlearned:
        raise _NotRun(f"{standing[claim.model]} has random weights here, which stand for no model of a paper")
    if plan.limit is not None:
        raise _NotRun(f"a first look at {plan.limit} images of each split, of which no number counts")
    return standing[claim.model]


def _condition(claim: Claim, query: Query, study: Study) -> tuple[Condition, dict[str, Any]]:
    """The condition of this study that stands for the claim's, and what the claim's condition says of axes."""
    given = study.plan.stands_for
    model = _standing(claim, study)
    name, axes = claim.condition or BASELINE, query.at
    if name in query.conditions:
        name, axes = BASELINE, axes | query.conditions[name]
    elif name in UNTOUCHED:
        name = BASELINE
    else:
        name = given.conditions.get(name, name)
    wanted = [c for c in study.planned if c.model == model and c.dataset in _datasets(claim, study)]
    if not wanted:
        raise _NotRun(f"{model} does not run on what stands for {claim.dataset or claim.experiment}")
    found = [c for c in wanted if c.name == name]
    if not found:
        raise _NotRun(f"{model} does not run under what stands for the condition '{claim.condition}'")
    measured = [c for c in found if study.has(c, query.metric)]
    if len(measured) > 1:
        raise _NotTestable("names no data set, and the metric was measured on several: name one in study.stands_for")
    if not measured:
        raise _NotRun(f"no row of {query.metric} on {found[0].dataset}, {model}, {name}")
    return measured[0], axes


def _datasets(claim: Claim, study: Study) -> list[str]:
    """The data sets of this study that stand for the claim's; all where it names none and params do not either."""
    given = study.plan.stands_for.datasets
    if claim.dataset is not None:
        if claim.dataset not in given:
            raise _NotRun(f"no data set of this study stands for {claim.dataset}")
        return [given[claim.dataset]]
    return [given[claim.experiment]] if claim.experiment in given else study.datasets


def _estimate(claim: Claim, query: Query, study: Study) -> Estimate:
    """The number of this study, in the claim's unit."""
    condition, axes = _condition(claim, query, study)
    if query.layers is None:
        found = study.estimate(condition, query.metric, **axes)
    else:
        first, last = query.layers
        layers = [study.estimate(condition, query.metric, layer=each, **axes) for each in range(first, last + 1)]
        known = [each for each in layers if each.value is not None]
        if not known:
            raise _NotRun(f"no row of {query.metric} at blocks {first} to {last}")
        ordered = sorted(known, key=lambda each: each.value or 0.0)
        found = {"min": ordered[0], "max": ordered[-1], "last": known[-1]}[query.take]
    if found.value is None:
        raise _NotRun(found.note or f"no row of {query.metric}")
    return scaled(found, scale(claim, query))


def scale(claim: Claim, query: Query) -> float:
    """What one of our unit is in the claim's."""
    ours = experiment.metrics()[query.metric][1].unit
    return 100.0 if ours == "share" and claim.unit in SHARES else 1.0


def scaled(of: Estimate, factor: float) -> Estimate:
    """An estimate in another unit."""
    value, low, high = (None if x is None else x * factor for x in (of.value, of.low, of.high))
    return Estimate(value, low, high, n=of.n, p=of.p, p_adjusted=of.p_adjusted)


# Held against each other.


def _held_against(claim: Claim, query: Query, study: Study) -> Judged:
    """Of a published number, ours; of a change, the difference from what the claim compares with."""
    if claim.metric.endswith(DELTA) or claim.relation in ("increases", "decreases", "no-change"):
        return _change(claim, query, study)
    if claim.value is None:
        return _change(claim, query, study)
    ours = _estimate(claim, query, study)
    tolerance = tolerance_of(claim, query)
    if claim.relation == "=":
        verdict = equivalence(ours, claim.value, tolerance)
        words = f"{claim.value:g} within {tolerance:g}"
    else:
        verdict = beyond(ours, claim.value, CHANGES[claim.relation])
        words = f"{claim.relation} {claim.value:g}"
    return _by_study(claim, verdict, ours, tolerance, words)


def _by_study(claim: Claim, verdict: Verdict, ours: Estimate, tolerance: float, words: str) -> Judged:
    return Judged(claim, verdict, f"{said(ours)} against {words}", ours, tolerance, by="this study")


def _change(claim: Claim, query: Query, study: Study) -> Judged:
    """A difference from another condition or model: its size where one is printed, else its sign."""
    if claim.metric.endswith(("_reduction", "_increase")) and claim.value is not None:
        # Printed as the unsigned size of the change, which is what our metric is
        ours, tolerance = _estimate(claim, query, study), tolerance_of(claim, query)
        verdict = equivalence(ours, claim.value, tolerance)
        return _by_study(claim, verdict, ours, tolerance, f"{claim.value:g} within {tolerance:g}")
    compared = _compared(claim)
    paired = _paired(claim, compared, query, study)
    ours = paired or difference(_estimate(claim, query, study), _estimate(compared, query, study))
    tolerance = tolerance_of(claim, query)
    if claim.value is not None:
        verdict = equivalence(ours, claim.value, tolerance)
        return _by_study(claim, verdict, ours, tolerance, f"{claim.value:+g} within {tolerance:g}")
    if claim.relation == "no-change":
        verdict = equivalence(ours, 0.0, tolerance)
        return _by_study(claim, verdict, ours, tolerance, f"no change within {tolerance:g}")
    verdict = beyond(ours, 0.0, CHANGES[claim.relation])
    return _by_study(claim, verdict, ours, tolerance, f"a change that {claim.relation}")


def _paired(claim: Claim, compared: Claim, query: Query, study: Study) -> Estimate | None:
    """The paired difference over the same images, where this study has it."""
    (condition, axes), (against, same) = _condition(claim, query, study), _condition(compared, query, study)
    if axes != same or condition.dataset != against.dataset or condition == against or query.layers is not None:
        return None
    found = study.estimate(condition, query.metric, against=against, **axes)
    return None if found.value is None else scaled(found, scale(claim, query))


def _compared(claim: Claim) -> Claim:
    """What a claim compares with, as the ledger's ``versus`` says: another claim, or the same model as it is."""
    if claim.versus == BASELINE:
        return claim.model_copy(update={"condition": BASELINE})
    other = ledger.by_id().get(claim.versus or "")
    if other is None or other.metric.removesuffix(DELTA) != claim.metric.removesuffix(DELTA):
        raise _NotTestable(f"compares with '{claim.versus}', which is no single number")
    if other.metric.endswith(DELTA) or other.id == claim.id:
        raise _NotTestable("compares two changes with each other")
    return other.model_copy(update={"unit": claim.unit, "dataset": other.dataset or claim.dataset})


def difference(a: Estimate, b: Estimate) -> Estimate:
    """``a`` less ``b``, with the interval of independent estimates: for paired ones it is too wide, never too narrow
    where both vary alike."""
    assert a.value is not None
    assert b.value is not None
    value = a.value - b.value
    if a.low is None or a.high is None or b.low is None or b.high is None:
        return Estimate(value)
    below = ((a.value - a.low) ** 2 + (b.high - b.value) ** 2) ** 0.5
    above = ((a.high - a.value) ** 2 + (b.value - b.low) ** 2) ** 0.5
    n = min((each.n for each in (a, b) if each.n is not None), default=None)
    return Estimate(value, value - below, value + above, n=n)


def tolerance_of(claim: Claim, query: Query) -> float:
    """How far from the published number ours may be, in the claim's unit; twice that of a number given as about."""
    printed = 0.0
    if claim.value is not None:
        printed = 0.5 * 10.0 ** int(Decimal(str(claim.value)).as_tuple().exponent)
    stated = query.tolerance * scale(claim, query)
    wide = max(printed, stated, query.relative * abs(claim.value or 0.0), claim.std or 0.0)
    return 2.0 * wide if claim.approx else wide


def equivalence(ours: Estimate, value: float, tolerance: float) -> Verdict:
    """Reproduced where the whole interval lies within the tolerance, contradicted where it lies wholly outside."""
    assert ours.value is not None
    low, high = _interval(ours)
    if value - tolerance <= low and high <= value + tolerance:
        return "reproduced"
    if high < value - tolerance or low > value + tolerance:
        return "contradicted"
    return "inconclusive"


def beyond(ours: Estimate, value: float, sign: float) -> Verdict:
    """Whether the whole interval lies above ``value`` (``sign`` 1) or below it (-1)."""
    low, high = sorted(sign * (each - value) for each in _interval(ours))
    return "reproduced" if low > 0.0 else "contradicted" if high < 0.0 else "inconclusive"


def _interval(ours: Estimate) -> tuple[float, float]:
    """The interval; of a number that is none of estimates, the number itself."""
    assert ours.value is not None
    return (ours.value if ours.low is None else ours.low), (ours.value if ours.high is None else ours.high)


def said(ours: Estimate) -> str:
    """Our number in words."""
    interval = "" if ours.low is None or ours.high is None else f" [{ours.low:.4g}, {ours.high:.4g}]"
    return f"{ours.value:.4g}{interval}"
