"""What the report says of token ablations: what zeroing registers costs, and as many random patches."""

from typing import Any

from vit_registers.experiments.token_ablation.tables import TASKS, ablations, change
from vit_registers.interventions.kinds.ablate import Ablate
from vit_registers.views import chosen
from vit_registers.views.study import Condition, Estimate, Study

PROBE = TASKS[0]  # the linear probe on [CLS]


def told(study: Study) -> dict[str, Any]:
    """Of every model in which all registers were zeroed: what that changes of the probe, and what patches do.

    ``zeroed``: model, change by registers, change by as many patches (without a value where that was not measured).
    ``unspecific``: models in which patches cost as much as registers, by their intervals.
    """
    zeroed = []
    for before, conditions in ablations(study).items():
        by = {kind: _change(study, conditions, kind) for kind in ("registers", "patches")}
        if by["registers"].value is not None:
            zeroed.append((before, by["registers"], by["patches"]))
    unspecific = [before for before, registers, patches in zeroed if _as_much(patches, registers)]
    said = f"{chosen.names(study, unspecific)}: random patches zeroed cost the probe as much as registers."
    return {
        "zeroed": zeroed,
        "unspecific": unspecific,
        "headlines": {"token_ablation": said} if unspecific else {},
    }


def _as_much(patches: Estimate, registers: Estimate) -> bool:
    """Whether the interval of one change does not lie above that of the other."""
    return patches.value is not None and not chosen.above(patches, registers)


def _change(study: Study, conditions: list[Condition], kind: str) -> Estimate:
    """The change of the probe when all tokens of a kind are zeroed at every block."""
    for condition in conditions:
        what = study.plan.interventions[condition.name]
        plain = isinstance(what, Ablate) and (what.tokens, what.by, what.at, what.only) == (kind, "zero", "every", None)
        found = change(study, condition, PROBE) if plain else None
        if isinstance(found, Estimate) and found.value is not None:
            return found
    return Estimate(None)
