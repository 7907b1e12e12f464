"""Which neurons are moved: half of those found without breaking a pair, and random ones that match them.

Both look at what neurons write: the column of the MLP's second linear layer, times LayerScale where a model has it, is
what one unit of a neuron's activation adds to the residual stream.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch

from vit_registers.core.errors import InputError
from vit_registers.core.files import digest
from vit_registers.core.seeds import derive, generator
from vit_registers.forward.hooks import output_columns, second_linear

if TYPE_CHECKING:
    from torch import Tensor

    from vit_registers.interventions.activation_statistics import ActivationStatistics
    from vit_registers.models.backbone import Backbone

Neurons = tuple[tuple[int, int], ...]  # (layer, index)
Quantity = Literal["activation", "output_norm"]

OPPOSITE = -0.95  # cosine of two output columns below which neurons are a pair that cancels
COMPARED = 100  # sets whose likeness to the neurons found is recorded, where every image has its own
NEAREST = 32  # neurons not taken yet, the best matches of one found, among which its match is drawn


def pairs_together(backbone: Backbone, ranked: Neurons) -> list[Neurons]:
    """Neurons in the order of ``ranked``, those of a layer that write in opposite directions as one.

    Moving one neuron of such a pair leaves what the other writes uncancelled, a larger artifact than before.
    """
    groups: list[Neurons] = []
    left = list(ranked)
    while left:
        first = left.pop(0)
        columns = output_columns(backbone, first[0])
        cosine = {
            other: float(torch.cosine_similarity(columns[:, first[1]], columns[:, other[1]], dim=0))
            for other in left
            if other[0] == first[0]
        }
        partner = min(cosine, key=lambda other: cosine[other], default=None)
        if partner is not None and cosine[partner] < OPPOSITE:
            left.remove(partner)
            groups.append((first, partner))
        else:
            groups.append((first,))
    return groups


def half(backbone: Backbone, ranked: Neurons) -> Neurons:
    """The first of ``ranked`` up to half of them, pairs together; fewer where the next pair would exceed the half."""
    chosen: list[tuple[int, int]] = []
    for group in pairs_together(backbone, ranked):
        if len(chosen) + len(group) > len(ranked) // 2:
            break
        chosen += group
    return tuple(chosen)


@dataclass(frozen=True)
class RandomNeurons:
    """Sets of random neurons in place of those found: as many of each layer, all different and none of those.

    ``candidates``: for every neuron found its layer and, nearest first, the others of that layer; one of the first
    ``nearest`` that are not taken yet is drawn. Each manifest row has a set of its own, which does not depend on the
    batch that it passes in.
    """

    candidates: tuple[tuple[int, tuple[int, ...]], ...]
    nearest: int
    seed: int

    def draw(self, row: int) -> Neurons:
        """The set of one image; with row -1 the one of all images, where there is only one."""
        rng = generator(self.seed, "set", row)
        taken: dict[int, set[int]] = {}
        for layer, others in self.candidates:
            mine = taken.setdefault(layer, set())
            window = min(self.nearest + len(mine), len(others))
            chosen = others[int(rng.integers(window))]
            while chosen in mine:
                chosen = others[int(rng.integers(window))]
            mine.add(chosen)
        return tuple((layer, index) for layer, indices in sorted(taken.items()) for index in sorted(indices))

    @property
    def layers(self) -> list[int]:
        """Layers from which neurons are drawn."""
        return sorted({layer for layer, _ in self.candidates})

    def described(self) -> Any:
        """Plain JSON that tells it from others."""
        return {"candidates": digest(self.candidates), "nearest": self.nearest, "seed": self.seed}


def random_neurons(
    backbone: Backbone,
    found: Neurons,
    matched_on: list[Quantity],
    statistics: ActivationStatistics | None,
    names: tuple[str | int, ...],
) -> RandomNeurons:
    """Random neurons instead of those ``found``; :class:`InputError` where a layer has too few others.

    With ``matched_on`` each is drawn from the :data:`NEAREST` of the same layer that are most like the one it stands
    for: by the distance of logarithms of mean |activation| on patches of calibration images, of the norm of what the
    neuron writes, or of both, each in standard deviations over the layer. ``names``: the study's seed and what the
    draw is for.
    """
    candidates = []
    for layer in sorted({layer for layer, _ in found}):
        mine = [index for at, index in found if at == layer]
        width = second_linear(backbone, layer).in_features
        if width < 2 * len(mine):
            raise InputError(
                f"condition '{names[-1]}': layer {layer} of '{backbone.name}' has {width} neurons, fewer than twice "
                f"the {len(mine)} found there; lower top_k"
            )
        where = _coordinates(backbone, layer, matched_on, statistics, names)
        for index in mine:
            order = (where - where[index]).square().sum(dim=1).argsort(stable=True).tolist()
            candidates.append((layer, tuple(other for other in order if other not in mine)))
    nearest = NEAREST if matched_on else max(len(others) for _, others in candidates)
    seed, *purpose = names
    return RandomNeurons(tuple(candidates), nearest, derive(int(seed), "random neurons", *purpose))


def _coordinates(
    backbone: Backbone,
    layer: int,
    matched_on: list[Quantity],
    statistics: ActivationStatistics | None,
    names: tuple[str | int, ...],
) -> Tensor:
    """Where the neurons of a layer are, (h, quantities): neighbours are alike. All in one place for no quantity."""
    known = quantities(backbone, layer, statistics)
    logs = []
    for quantity in matched_on:
        if quantity not in known:
            raise InputError(f"condition '{names[-1]}' matches neurons on their activation; calibrate first")
        log = known[quantity].clamp(min=1e-12).log()
        logs.append((log - log.mean()) / log.std().clamp(min=1e-12))
    return torch.stack(logs, dim=1) if logs else torch.zeros(second_linear(backbone, layer).in_features, 1)


def quantities(backbone: Backbone, layer: int, statistics: ActivationStatistics | None) -> dict[Quantity, Tensor]:
    """What is known of every neuron of a layer, (h,) float64 each; activations only where there are ``statistics``."""
    known: dict[Quantity, Tensor] = {"output_norm": output_columns(backbone, layer).norm(dim=0)}
    if statistics is not None:
        known["activation"] = statistics.neuron_activity[layer].double()
    return known


def likeness(
    backbone: Backbone, found: Neurons, sets: list[Neurons], statistics: ActivationStatistics | None
) -> dict[str, list[float]]:
    """How like those ``found`` the neurons of each set are: by quantity its mean in the set over that in ``found``.

    Neurons are drawn from the nearest that there are, and these may be far: where no other neuron writes as much, none
    can be matched.
    """
    by_layer = {layer: quantities(backbone, layer, statistics) for layer in {layer for layer, _ in found}}

    def mean(neurons: Neurons, quantity: Quantity) -> float:
        return sum(float(by_layer[layer][quantity][index]) for layer, index in neurons) / len(neurons)

    names = next(iter(by_layer.values()))
    return {name: [mean(one, name) / max(mean(found, name), 1e-12) for one in sets] for name in names}
