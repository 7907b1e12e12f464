"""What the report says of detection: where it found artifacts, and whether it is right."""

from typing import Any

from vit_registers.views.study import Condition, Study


def told(study: Study) -> dict[str, Any]:
    """Models as they are, by what detection found in them.

    ``planted``: those with planted neurons, ``missed`` of these those without artifacts, ``exact`` those of which
    exactly the planted neurons came back, ``inexact`` the others of which that is known. ``natural``: those that
    nothing was planted in, ``arisen`` of these those with artifacts, ``embedded`` those of which most artifacts are
    there before any neuron. ``affected``: all with artifacts; ``defined``: those in which none are sought.
    """
    sought = [c for c in study.baselines if study.sought(c)]
    planted = [c for c in sought if study.plan.kinds[c.model] == "planted"]
    known = [c for c in planted if study.found(c) and study.estimate(c, "neuron_recall").value is not None]
    exact = [c for c in known if _right(study, c)]
    natural = [c for c in sought if study.is_natural(c.model)]
    arisen = [c for c in natural if study.found(c)]
    return {
        "planted_models": planted,
        "missed": [c for c in planted if not study.found(c)],
        "exact": exact,
        "inexact": [c for c in known if c not in exact],
        "natural_models": natural,
        "arisen": arisen,
        "embedded": [c for c in arisen if (study.estimate(c, "embedded_artifacts").value or 0.0) > 0.5],
        "affected": [c for c in sought if study.found(c)],
        "defined": [c for c in study.baselines if not study.sought(c)],
    }


def _right(study: Study, condition: Condition) -> bool:
    return all(study.estimate(condition, f"neuron_{name}").value == 1.0 for name in ("precision", "recall"))
