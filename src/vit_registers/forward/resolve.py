"""From an intervention's params and what detection found to the value that is applied."""

from dataclasses import dataclass
from typing import Any

from vit_registers import params
from vit_registers.backbones.backbone import Backbone
from vit_registers.errors import InputError
from vit_registers.forward import interventions
from vit_registers.forward.interventions import Intervention, second_linear
from vit_registers.seeds import generator


@dataclass(frozen=True)
class NotApplicable:
    """The condition cannot be had on this model; ``reason`` says why, and tables repeat it."""

    reason: str


def resolve(
    source: params.Intervention | None,
    backbone: Backbone,
    registers: dict[str, Any] | None,
    names: tuple[str | int, ...],
) -> Intervention | NotApplicable:
    """The intervention that ``source`` means on ``backbone``.

    ``registers`` is what detection wrote (needed to move neurons); ``names`` seeds the draw of random neurons: the
    study's seed, then data set, model and condition.
    """
    if source is None:
        return None
    if isinstance(source, params.Append):
        return interventions.Append(source.tokens)
    if isinstance(source, params.Zero):
        if not getattr(backbone.layout, source.tokens):
            return NotApplicable(f"the model has no {source.tokens}")
        return interventions.Zero(source.tokens, source.at)
    if registers is None:
        raise InputError(f"condition '{names[-1]}' moves register neurons; detect them first")
    if not registers["found"]:
        return NotApplicable(registers["reason"])
    settings = source.model_dump(exclude={"kind", "neurons"})
    return interventions.MoveNeurons(neurons=choose(source.neurons, backbone, registers, names), **settings)


def choose(
    which: str, backbone: Backbone, registers: dict[str, Any], names: tuple[str | int, ...]
) -> tuple[tuple[int, int], ...]:
    """Neurons (layer, index): the k that were found, their first half, the k next in rank, or k others at random.

    Random neurons come from the layers of those found, as many from each, and are none of them.
    """
    ranked = [(int(layer), int(index)) for layer, index, _ in registers["neurons"]]
    k = int(registers["top_k"])
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
