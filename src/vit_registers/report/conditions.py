"""What was done to the models, condition by condition, in words for the methods section."""

from vit_registers.core.prose import key
from vit_registers.params.bases import Intervention
from vit_registers.params.study import Params


def text(params: Params) -> str:
    """A list of the study's conditions besides the baseline; ``None.`` where there are none."""
    used = dict.fromkeys(name for run in params.study.runs for name in run.interventions)
    items = [f"  \\item {_intervention(name, params.interventions[name], params)}" for name in used]
    return "\n".join([r"\begin{itemize}", *items, r"\end{itemize}"]) if items else "None."


def _intervention(name: str, value: Intervention, params: Params) -> str:
    return f"{key(name)}: {value.sentence(params)}."
