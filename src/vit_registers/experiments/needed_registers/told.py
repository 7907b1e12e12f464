"""What the report says of whether models need what their artifacts hold."""

from dataclasses import dataclass
from typing import Any

from vit_registers.experiments.needed_registers.tables import OWN_HEAD, natural, planted
from vit_registers.views import chosen
from vit_registers.views.study import Condition, Study


@dataclass(frozen=True)
class Asked:
    """A model with artifacts as it is, with its neurons cleared, and with test-time registers."""

    before: Condition
    cleared: Condition
    after: Condition | None


def told(study: Study) -> dict[str, Any]:
    """Models whose own head was asked before and after clearing.

    ``needing``: those in which clearing costs it something, ``kept`` of these those that test-time registers cost
    nothing; ``free``: those in which clearing costs nothing.
    """
    asked = []
    for before in [*planted(study), *natural(study)]:
        cleared = study.cleared(before)
        if cleared is not None and all(_own_head(study, c) is not None for c in (before, cleared)):
            asked.append(Asked(before, cleared, study.after(before)))
    needing = [each for each in asked if _below(study, each.cleared, each.before)]
    kept = [each for each in needing if each.after and not _below(study, each.after, each.before)]
    said = (
        f"{chosen.names(study, [each.before for each in kept])}: moving the neurons keeps the class, clearing loses it."
    )
    return {
        "asked": asked,
        "needing": needing,
        "kept": kept,
        "headlines": {"dose_response": said} if kept else {},
        "free": [each for each in asked if each not in needing],
    }


def _own_head(study: Study, condition: Condition) -> float | None:
    return study.estimate(condition, str(OWN_HEAD.metric), **dict(OWN_HEAD.where)).value


def _below(study: Study, condition: Condition, before: Condition) -> bool:
    return chosen.lower(study, condition, before, str(OWN_HEAD.metric), **dict(OWN_HEAD.where))
