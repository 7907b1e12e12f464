"""From an intervention's params and what detection found to the value that is applied."""

from dataclasses import dataclass
from typing import Any

from vit_registers import params
from vit_registers.core.errors import InputError
from vit_registers.core.seeds import derive, generator
from vit_registers.interventions import values as interventions
from vit_registers.interventions.activation_statistics import Moments
from vit_registers.interventions.values import Intervention, second_linear
from vit_registers.models.backbone import Backbone


@dataclass(frozen=True)
class NotApplicable:
    """The condition cannot be had on this model; ``reason`` says why, and tables repeat it."""

    reason: str


@dataclass(frozen=True)
class Known:
    """What interventions may ask for: ``registers`` is what detection wrote, ``moments`` what calibration did.

    ``names`` seeds draws: the study's seed, then data set, model and condition.
    """

    registers: dict[str, Any] | None
    moments: Moments | None
    names: tuple[str | int, ...]


def resolve(source: params.Intervention | None, backbone: Backbone, known: Known) -> Intervention | NotApplicable:
    """The intervention that ``source`` means on ``backbone``."""
    resolved: list[interventions.Single] = []
    appended = sum(
        part.tokens for part in params.singles(source) if isinstance(part, params.Append | params.MoveNeurons)
    )
    for part in params.singles(source):
        single = _single(part, backbone, known, appended)
        if isinstance(single, NotApplicable):
            return single
        resolved.append(single)
    if not isinstance(source, params.Chain):
        return resolved[0] if resolved else None
    return interventions.Chain(tuple(resolved))


def _single(part: Any, backbone: Backbone, known: Known, appended: int) -> interventions.Single | NotApplicable:
    if isinstance(part, params.Append):
        return interventions.Append(part.tokens)
    if isinstance(part, params.RestrictClsAttention):
        if not backbone.layout.cls:
            return NotApplicable("the model has no [CLS]")
        if part.to == "registers" and not backbone.layout.registers + appended:
            return NotApplicable("the model has no registers")
        return interventions.RestrictClsAttention(part.to, part.skip)
    if isinstance(part, params.Replace):
        return _replace(part, backbone, known)
    if known.registers is None:
        raise InputError(f"condition '{known.names[-1]}' moves register neurons; detect them first")
    if not known.registers["found"]:
        return NotApplicable(known.registers["reason"])
    settings = part.model_dump(exclude={"kind", "neurons", "top_k"})
    return interventions.MoveNeurons(
        neurons=choose(part.neurons, backbone, known.registers, known.names, part.top_k), **settings
    )


def _replace(part: params.Replace, backbone: Backbone, known: Known) -> interventions.Replace | NotApplicable:
    layout = backbone.layout
    count = part.count or layout.registers
    there = count if part.tokens == "patches" else getattr(layout, part.tokens)
    if not there:
        what = "registers to set the number of patches" if part.tokens == "patches" else part.tokens
        return NotApplicable(f"the model has no {what}")
    if part.only is not None and max(part.only) >= layout.registers:
        return NotApplicable(f"the model has {layout.registers} registers, numbered from 0")
    if part.calibrated and known.moments is None:
        raise InputError(f"condition '{known.names[-1]}' replaces tokens by what calibration found; calibrate first")
    seed, *purpose = known.names
    drawn = part.tokens == "patches" or part.by in ("noise", "shuffled")
    return interventions.Replace(
        tokens=part.tokens,
        by=part.by,
        at=part.at,
        only=None if part.only is None else tuple(part.only),
        count=count if part.tokens == "patches" else 0,
        donors=part.donors,
        seed=derive(int(seed), "replace", *purpose) if drawn else 0,
        moments=known.moments if part.calibrated else None,
    )


def choose(
    which: str,
    backbone: Backbone,
    registers: dict[str, Any],
    names: tuple[str | int, ...],
    top_k: int | None = None,
) -> tuple[tuple[int, int], ...]:
    """Neurons (layer, index): the k that were found, their first half, the k next in rank, or k others at random.

    Random neurons come from the layers of those found, as many from each, and are none of them.
    """
    ranked = [(int(layer), int(index)) for layer, index, _ in registers["neurons"]]
    k = top_k or int(registers["top_k"])
    if len(ranked) < (2 * k if which == "next" else k):
        raise InputError(
            f"condition '{names[-1]}': top_k: {k} neurons, but detection lists {len(ranked)}; lower it, or raise "
            "detection.top_k"
        )
    found = ranked[:k]
    if which == "found":
        return tuple(found)
    if which == "half":
        return tuple(found[: k // 2])
    if which == "next":
        return tuple(ranked[k : 2 * k])
    seed, *purpose = names
    rng = generator(int(seed), "random neurons", *purpose)
    chosen: list[tuple[int, int]] = []
    for layer in sorted({layer for layer, _ in found}):
        taken = {index for at, index in found if at == layer}
        others = [i for i in range(second_linear(backbone, layer).in_features) if i not in taken]
        chosen += [(layer, int(index)) for index in rng.choice(others, size=len(taken), replace=False)]
    return tuple(chosen)
