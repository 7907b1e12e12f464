"""What the report says of test-time registers: what they repair, and which controls repair as much."""

from dataclasses import dataclass
from typing import Any

from vit_registers.interventions.kinds.append import Append
from vit_registers.views import chosen
from vit_registers.views.study import Condition, Study

METRIC = "corloc"
AXES: dict[str, Any] = {"head": "lost"}


@dataclass(frozen=True)
class Repair:
    """A model as it is, with test-time registers, in the control of these, and with its neurons cleared."""

    before: Condition
    after: Condition
    control: Condition | None
    cleared: Condition | None


def repairs(study: Study) -> list[Repair]:
    """Every model with artifacts under test-time registers of which the number was measured before and after."""
    found = []
    for before in study.with_artifacts:
        after = study.after(before)
        if after is not None and all(study.estimate(c, METRIC, **AXES).value is not None for c in (before, after)):
            found.append(Repair(before, after, study.control(after), study.cleared(before)))
    return found


def told(study: Study) -> dict[str, Any]:
    """Repairs, by what was found.

    Where the control is a model without the artifacts: ``damaged``, those in which artifacts cost CorLoc, ``restored``
    of these those that are not below their control, ``partly`` the others, ``cleared_too`` those in which clearing
    alone restores as much; ``unharmed``, those in which artifacts cost nothing; ``failed``: other neurons, or zero
    tokens alone, that repair a damaged model, which they must not, and ``passed``: those that do not.
    Where there is only the model itself with as many zero tokens: ``raised``, those with a higher CorLoc than these,
    and ``level``, the others.
    """
    every = repairs(study)
    clean = [r for r in every if r.control is not None and r.control.model != r.before.model]
    damaged = [r for r in clean if _below(study, r.before, study.control(r.before) or r.control)]
    partly = [r for r in damaged if _below(study, r.after, r.control)]
    controls = [c for r in damaged for c in _controls(study, r.before)]
    failed = [c for c in controls if not _below(study, c, study.control(c))]
    own = [r for r in every if r.control is not None and r not in clean]
    raised = [r for r in own if r.control is not None and chosen.higher(study, r.after, r.control, METRIC, **AXES)]
    return {
        "repairs": every,
        "damaged": damaged,
        "restored": [r for r in damaged if r not in partly],
        "partly": partly,
        "cleared_too": [r for r in damaged if r.cleared and not _below(study, r.cleared, study.control(r.cleared))],
        "unharmed": [r for r in clean if r not in damaged],
        "failed": failed,
        "passed": [c for c in controls if c not in failed],
        "raised": raised,
        "level": [r for r in own if r not in raised],
    }


def _below(study: Study, condition: Condition, control: Condition | None) -> bool:
    """Whether a condition finds fewer objects than its control; where there is none, nothing says that it does."""
    return control is not None and chosen.lower(study, condition, control, METRIC, **AXES)


def _controls(study: Study, before: Condition) -> list[Condition]:
    """Conditions of a model that must not repair it, as far as a model without artifacts is their control."""
    found = []
    for condition in study.of(before.dataset, before.model):
        control = study.control(condition)
        idle = study.moves_others(condition) or isinstance(study.plan.interventions.get(condition.name), Append)
        if idle and study.measured(condition) and control is not None and control.model != before.model:
            found.append(condition)
    return found
