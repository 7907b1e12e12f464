"""What sentences are about: the condition with most of something, and whether intervals tell two numbers apart.

Everything here selects; nothing computes a number.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from vit_registers.core.prose import escape, joined
from vit_registers.views.study import Condition, Estimate, Study

Sign = Callable[[Estimate], bool]
NAMED = 3  # of a list of names in a sentence, however many there are


@dataclass(frozen=True)
class Chosen:
    """A condition, its name in LaTeX, and what was measured of it."""

    condition: Condition
    name: str
    estimate: Estimate


def measured(study: Study, conditions: Iterable[Condition], metric: str, **axes: Any) -> list[Chosen]:
    """Of some conditions those that have a number of a metric at some values of axes."""
    found = [(c, study.estimate(c, metric, **axes)) for c in conditions]
    return [Chosen(c, escape(study.label(c)), cell) for c, cell in found if cell.value is not None]


def most(study: Study, conditions: Iterable[Condition], metric: str, **axes: Any) -> Chosen | None:
    """The condition with the largest value, of several the first; None where nothing was measured."""
    return max(measured(study, conditions, metric, **axes), key=lambda each: each.estimate.value or 0.0, default=None)


def least(study: Study, conditions: Iterable[Condition], metric: str, **axes: Any) -> Chosen | None:
    """The condition with the smallest value."""
    return min(measured(study, conditions, metric, **axes), key=lambda each: each.estimate.value or 0.0, default=None)


def names(study: Study, conditions: Iterable[Condition]) -> str:
    """The conditions by name in LaTeX: ``A, B, C and 4 more``."""
    return some([escape(study.label(c)) for c in conditions])


def some(items: list[str]) -> str:
    """The first :data:`NAMED` of some items, and how many more there are; nothing of none."""
    if not items:
        return ""
    more = len(items) - NAMED
    return joined(items) if more <= 0 else f"{', '.join(items[:NAMED])} and {more} more"


def above(a: Estimate, b: Estimate) -> bool:
    """Whether the interval of ``a`` lies above that of ``b``."""
    return a.low is not None and b.high is not None and a.low > b.high


def negative(difference: Estimate) -> bool:
    """Whether the interval of a difference lies below zero."""
    return difference.high is not None and difference.high < 0.0


def positive(difference: Estimate) -> bool:
    """Whether the interval of a difference lies above zero."""
    return difference.low is not None and difference.low > 0.0


def lower(study: Study, a: Condition, b: Condition, metric: str, **axes: Any) -> bool:
    """Whether ``a`` has less of a metric than ``b``: by their paired difference, or by their intervals if without."""
    return _apart(study, a, b, metric, negative, axes)


def higher(study: Study, a: Condition, b: Condition, metric: str, **axes: Any) -> bool:
    """Whether ``a`` has more of a metric than ``b``."""
    return _apart(study, a, b, metric, positive, axes)


def _apart(study: Study, a: Condition, b: Condition, metric: str, sign: Sign, axes: dict[str, Any]) -> bool:
    difference = study.estimate(a, metric, against=b, **axes)
    if difference.value is not None:
        return sign(difference)
    values = study.estimate(a, metric, **axes), study.estimate(b, metric, **axes)
    return above(*values) if sign is positive else above(*reversed(values))


def costliest(study: Study, metric: str, **axes: Any) -> Chosen | None:
    """Of the conditions compared with the model as it is, that with the least change of a metric, and the change.

    Where more is better, and something was lost anywhere, it is the condition that costs most.
    """
    found: list[Chosen] = []
    for before in study.baselines:
        for condition in study.of(before.dataset, before.model):
            change = study.estimate(condition, metric, against=before, **axes)
            if condition != before and change.value is not None:
                found.append(Chosen(condition, escape(study.label(condition)), change))
    return min(found, key=lambda each: each.estimate.value or 0.0, default=None)


def unlearned(study: Study) -> list[Condition]:
    """Models in which nothing was learnt, as they are."""
    return [c for c in study.baselines if c.model in study.plan.unlearned]


def learned(study: Study) -> list[Condition]:
    """All other models as they are."""
    return [c for c in study.baselines if c.model not in study.plan.unlearned]
