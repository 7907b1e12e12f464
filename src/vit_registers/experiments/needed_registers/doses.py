"""Which conditions of a study make a dose-response curve, and where each of them stands on it."""

from dataclasses import dataclass

from vit_registers.interventions.kinds.append import Append
from vit_registers.interventions.kinds.test_time_registers import TestTimeRegisters
from vit_registers.views.study import Condition, Study

NEURONS, TOKENS, FACTOR = "register neurons moved", "tokens that they are moved to", "factor on what is moved"
ALL = float("inf")  # neurons: as many as detection found


@dataclass(frozen=True)
class Dose:
    """A condition and how much is moved in it."""

    amount: float
    condition: Condition


def curves(study: Study, before: Condition) -> dict[str, list[Dose]]:
    """By what is varied, the conditions of a model in ascending order; of what one condition shows, there is no curve.

    What is not varied is as test-time registers have it, with one token: all neurons found, moved as they are.
    """
    found: dict[str, list[Dose]] = {NEURONS: [], TOKENS: [], FACTOR: []}
    for condition in study.of(before.dataset, before.model):
        if study.measured(condition):
            for name, amount in _amounts(study, condition).items():
                found[name].append(Dose(amount, condition))
    ordered = {name: sorted(doses, key=lambda dose: dose.amount) for name, doses in found.items()}
    return {name: doses for name, doses in ordered.items() if len(doses) > 1}


def _amounts(study: Study, condition: Condition) -> dict[str, float]:
    """Where a condition stands on each curve that it is on."""
    what = study.plan.interventions.get(condition.name)
    if isinstance(what, Append) and what.tokens == 1:
        return {NEURONS: 0.0}
    plain = TestTimeRegisters(tokens=0)
    if not isinstance(what, TestTimeRegisters):
        return {}
    varied = {name for name in ("tokens", "top_k", "scale") if getattr(what, name) != getattr(plain, name)}
    if what != plain.model_copy(update={name: getattr(what, name) for name in varied}):
        return {}  # it is otherwise than in the paper in a further way
    amounts: dict[str, float] = {}
    if what.tokens == 1 and what.scale == plain.scale:
        amounts[NEURONS] = what.top_k or ALL
    if what.top_k is None and what.scale == plain.scale and what.tokens:
        amounts[TOKENS] = what.tokens
    if what.top_k is None and what.tokens == 1:
        amounts[FACTOR] = what.scale
    return amounts
