"""Names that a reader sees in place of the keys of params."""

from collections import Counter
from collections.abc import Mapping

from vit_registers.core.prose import plural
from vit_registers.params import (
    Append,
    Intervention,
    MoveNeurons,
    Replace,
    RestrictClsAttention,
    singles,
)
from vit_registers.pipeline.slices import ViewStep


def _distinct(labels: Mapping[str, str]) -> dict[str, str]:
    """The same labels; where several keys share one, the key stands behind it."""
    times = Counter(labels.values())
    return {key: label if times[label] == 1 else f"{label} ({key})" for key, label in labels.items()}


def models(cfg: ViewStep) -> dict[str, str]:
    """Label of every model of the study by its key; released models keep the name people know them by."""
    return _distinct(cfg.labels)


def _replaced(part: Replace) -> str:
    what = {"cls": "[CLS]", "registers": "registers", "patches": "random patches"}[part.tokens]
    if part.only is not None:
        what = f"register{'s' if len(part.only) > 1 else ''} {', '.join(map(str, part.only))}"
    how = {"zero": "zeroed", "mean": "at their mean", "noise": "as noise", "shuffled": "of another image"}[part.by]
    return f"{what} {how}{'' if part.at == 'every' else ' at the last block'}"


def _condition(intervention: Intervention) -> str:
    return ", ".join(_single(part) for part in singles(intervention))


def _single(intervention: Append | MoveNeurons | Replace | RestrictClsAttention) -> str:
    if isinstance(intervention, Replace):
        return _replaced(intervention)
    if isinstance(intervention, RestrictClsAttention):
        return f"[CLS] attends to {intervention.to} only{', with its skip' if intervention.skip else ''}"
    if isinstance(intervention, Append):
        return plural(intervention.tokens, "zero token")
    if intervention.images == "first":
        whole = _single(intervention.model_copy(update={"images": "every"}))
        return f"{whole}, 1st image only"  # of a batch
    if intervention.top_k is not None and intervention.neurons == "found":
        return f"first {plural(intervention.top_k, 'neuron')}, {plural(intervention.tokens, 'token')}"
    which = {"found": "neurons", "half": "half the neurons", "next": "next neurons", "random": "random neurons"}
    if intervention.tokens == 0:
        return f"{which[intervention.neurons]} cleared"
    if intervention.neurons == "found":
        return plural(intervention.tokens, "test-time register")
    return f"{which[intervention.neurons]}, {plural(intervention.tokens, 'token')}"


def conditions(cfg: ViewStep) -> dict[str, str]:
    """Label of every condition by its key, said by what the intervention does, not by how its key is spelt."""
    return {"baseline": "baseline"} | _distinct({name: _condition(value) for name, value in cfg.interventions.items()})
