"""What the report says of trained registers: whether trainings were repeated, and what registers then change."""

from typing import Any

from vit_registers.experiments.register_count.tables import pairs
from vit_registers.views.columns import TOP1_CLS
from vit_registers.views.study import Study


def told(study: Study) -> dict[str, Any]:
    """``several``: models with registers against models without over several trainings, with the change of the probe;
    ``single``: those of one training each.
    """
    found = []
    for a, b, over in pairs(study):
        change = study.estimate(a, "top1", against=b, over_trainings=over, **dict(TOP1_CLS.where))
        if change.value is not None:
            found.append((a, b, over, change))
    several = [(a, b, change) for a, b, over, change in found if over]
    return {
        "several": several,
        "single": [(a, b, change) for a, b, over, change in found if not over],
        "headlines": {} if several else {"register_count": "One training a point: no evidence about registers."},
    }
