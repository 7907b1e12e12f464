"""Register neurons that are hard to detect: of any activation, over several blocks, among decoys. No training.

The neurons of :mod:`plant` stand out: their activations are several times those of all others, they are in one block,
and what they write is undone by nothing. These here are single neurons without a partner, which share an artifact over
several blocks. One of activation a at an artifact has an output column of norm proportional to 1 / a, so that the
artifact is the same at every a, and only how easily its neurons are found differs.

What makes that possible is a *reading* of the tag: a linear function t of what enters an MLP that is 1 on tagged tokens
and 0 on others, up to a few hundredths. A neuron with pre-activation (a + 4) t - 4 is then at a on tagged tokens and
at -4, where GELU is silent, on all others, for a of a few hundredths to tens. Behind the first planted block a token
may hold an artifact or not; the reading is fitted on both, so that no planted neuron needs the others to fire.

Decoys look like register neurons to a score and are none: neurons that are active on every token and whose output the
bias of the layer takes back, so that they do nothing; and neurons of the block behind that fire on artifacts and
write what they always wrote. Models are made in memory and never saved.
"""

import copy
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from torch import Tensor, nn

from vit_registers.core.errors import InputError
from vit_registers.forward import hooks
from vit_registers.models.backbone import Backbone
from vit_registers.params.spread_planting import SpreadPlanting
from vit_registers.planted.activations import capture_inputs

SILENT = 4.0  # below 0 by so much, GELU is at most 1.3e-4
APART = 0.25  # octaves: neurons of one planting differ by up to so much from its activation, so that they have an order
SHRINKAGE = 1e-3  # of the covariances that readings are fitted on, towards multiples of the identity

Neuron = tuple[int, int]  # layer, index


@dataclass(frozen=True)
class Reading:
    """t(z) = row . z + constant of what enters an MLP: 1 in the mean of the tokens that it tells, 0 of the others."""

    row: Tensor
    constant: float

    def __call__(self, inputs: Tensor) -> Tensor:
        """t (...) float64 of inputs (..., D)."""
        read: Tensor = inputs.double() @ self.row + self.constant
        return read


def fit_reading(inputs: Tensor, tokens: Tensor) -> Reading:
    """Linear discriminant between ``inputs`` (n, D) at ``tokens`` (n,) and at others, both of equal weight."""
    z, which = inputs.double().numpy(), tokens.numpy()
    model = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=SHRINKAGE, priors=[0.5, 0.5]).fit(z, which)
    row = torch.from_numpy(model.coef_[0])
    there, elsewhere = (torch.from_numpy(z[group].mean(0)) @ row for group in (which, ~which))
    return Reading(row / (there - elsewhere), float(-elsewhere / (there - elsewhere)))


@dataclass(frozen=True)
class Clean:
    """What planting needs to know of the tagged model, over n images.

    ``z``: what enters the MLP of each planted block and of the one behind, (n, T, D). ``idle``: its neurons by how
    little they write, least first (mean |activation| times norm of the output column). ``norm``: median over patches of
    the norm of the last block's output. ``tagged`` (T,): which tokens are tagged.
    """

    pixels: Tensor
    z: Mapping[int, Tensor]
    idle: Mapping[int, list[int]]
    norm: float
    tagged: Tensor


@dataclass(frozen=True)
class Planted:
    """A model with ``neurons`` (layer, index) and decoys by kind: ``everywhere``, ``downstream``."""

    backbone: Backbone
    neurons: list[Neuron]
    decoys: Mapping[str, list[Neuron]]


def look(planting: SpreadPlanting, backbone: Backbone, pixels: Tensor, where: str) -> Clean:
    """One pass of uint8 images (n, 3, s, s) through the tagged model; :class:`InputError` where it has no room."""
    _check(planting, backbone, where)
    blocks, layout = [*planting.blocks, planting.blocks[-1] + 1], backbone.layout
    sites: dict[str, nn.Module] = {f"z {i}": hooks.first_linear(backbone, i) for i in blocks}
    sites |= {f"a {i}": hooks.second_linear(backbone, i) for i in blocks}
    sites["last"] = hooks.after_blocks(backbone)
    inputs: dict[int, list[Tensor]] = {i: [] for i in blocks}
    activity: dict[int, Any] = dict.fromkeys(blocks, 0.0)
    norms = []
    for batch in capture_inputs(backbone, sites, pixels):
        norms.append(batch["last"][:, layout.patch_slice].norm(dim=-1))
        for i in blocks:
            inputs[i].append(batch[f"z {i}"])
            activity[i] = activity[i] + batch[f"a {i}"].double().abs().sum((0, 1))
    idle = {}
    for i in blocks:
        writes = activity[i] * hooks.output_columns(backbone, i).norm(dim=0)
        idle[i] = [int(neuron) for neuron in writes.argsort(stable=True)]
    tagged = torch.zeros(layout.length, dtype=torch.bool)
    tagged[[layout.prefix + p for p in backbone.metadata["tag"]["positions"]]] = True
    whole = {i: torch.cat(each) for i, each in inputs.items()}
    return Clean(pixels, whole, idle, float(torch.cat(norms).median()), tagged)


def _check(planting: SpreadPlanting, backbone: Backbone, where: str) -> None:
    if "tag" not in backbone.metadata:
        raise InputError(f"{where}: '{backbone.name}' has no tag that neurons could read; take a model of kind tagged")
    if planting.blocks[-1] + 1 >= backbone.depth:
        raise InputError(
            f"{where}: blocks are {planting.blocks}; decoys need a block behind, so the last may be "
            f"{backbone.depth - 2} of '{backbone.name}'"
        )
    needed = planting.neurons + planting.decoys
    for i in (*planting.blocks, planting.blocks[-1] + 1):
        mlp: Any = backbone.blocks[i].mlp
        if not isinstance(mlp.act, nn.GELU) or mlp.fc1.out_features != mlp.fc2.in_features:
            raise InputError(f"{where}: the MLP of block {i} of '{backbone.name}' is none with GELU and without a gate")
        if mlp.fc2.in_features < needed:
            raise InputError(f"{where}: block {i} has {mlp.fc2.in_features} neurons, {needed} are needed")


@dataclass(frozen=True)
class Fitted:
    """What neurons of one direction are written with: readings of the tag by planted block, what each neuron's tagged
    tokens look like there (n, D), and the reading of artifacts in the block behind.
    """

    direction: Tensor
    tag: Mapping[int, Reading]
    inputs: Mapping[int, Tensor]
    artifact: Reading


def fit(planting: SpreadPlanting, backbone: Backbone, clean: Clean, direction: Tensor) -> Fitted:
    """Readings for artifacts along the unit vector ``direction`` (D,): one pass of a model that has them by decree."""
    part = planting.norm_ratio * clean.norm / len(planting.blocks) * direction
    behind = planting.blocks[-1] + 1

    def add(output: Tensor) -> Tensor:
        changed = output.clone()
        changed[:, clean.tagged] += part.to(output.dtype)
        return changed

    sites: dict[str, nn.Module] = {str(i): hooks.first_linear(backbone, i) for i in (*planting.blocks, behind)}
    held: dict[int, list[Tensor]] = {int(i): [] for i in sites}
    with ExitStack() as stack:
        on = hooks.Hooks(stack)
        for i in planting.blocks:  # on the whole block: what its MLP adds reaches the stream as it is
            on.output(hooks.block(backbone, i), add)
        for batch in capture_inputs(backbone, sites, clean.pixels):
            for i in held:
                held[i].append(batch[str(i)])
    given = {i: torch.cat(each) for i, each in held.items()}
    readings = {}
    for i in planting.blocks:
        both = torch.cat([clean.z[i], given[i]]) if i > planting.blocks[0] else clean.z[i]
        readings[i] = fit_reading(both.flatten(0, 1), clean.tagged.repeat(len(both)))
    nowhere = torch.zeros_like(clean.tagged).repeat(len(clean.z[behind]))
    both = torch.cat([clean.z[behind], given[behind]]).flatten(0, 1)
    artifact = fit_reading(both, torch.cat([nowhere, clean.tagged.repeat(len(given[behind]))]))
    return Fitted(direction, readings, {i: given[i][:, clean.tagged].flatten(0, 1) for i in planting.blocks}, artifact)


def plant(
    planting: SpreadPlanting,
    backbone: Backbone,
    clean: Clean,
    fitted: Fitted,
    activation: float,
    draw: np.random.Generator,
) -> Planted:
    """A copy of the tagged model with planted neurons of an ``activation`` at artifacts, and decoys."""
    made = replace(backbone, module=copy.deepcopy(backbone.module))
    count = planting.neurons * len(planting.blocks)
    part = planting.norm_ratio * clean.norm / count
    neurons: list[Neuron] = []
    for i in planting.blocks:
        for neuron in clean.idle[i][: planting.neurons]:
            own = activation * 2.0 ** draw.uniform(-APART, APART)
            _fires_on(made, (i, neuron), fitted.tag[i], own)
            fired = _gelu((own + SILENT) * fitted.tag[i](fitted.inputs[i]) - SILENT).mean()
            _writes(made, (i, neuron), part / fired * fitted.direction)
            neurons.append((i, neuron))
    decoys: dict[str, list[Neuron]] = {"everywhere": [], "downstream": []}
    for place in range(planting.decoys):
        i = planting.blocks[place % len(planting.blocks)]
        always = (i, clean.idle[i][planting.neurons + place // len(planting.blocks)])
        _active_everywhere(made, always, planting.decoy_activation, part, draw)
        decoys["everywhere"].append(always)
        responds = (planting.blocks[-1] + 1, clean.idle[planting.blocks[-1] + 1][place])
        _fires_on(made, responds, fitted.artifact, planting.decoy_activation)
        decoys["downstream"].append(responds)
    return Planted(made, neurons, decoys)


def _gelu(x: Tensor) -> Tensor:
    return nn.functional.gelu(x)


def _fires_on(backbone: Backbone, neuron: Neuron, reading: Reading, activation: float) -> None:
    """Give a neuron the pre-activation (a + 4) t - 4: ``activation`` a where the reading t is 1, silence where it is 0.

    GELU(a) is a, up to little, for a of 2 and more; below it is less.
    """
    layer, index = neuron
    first, slope = hooks.first_linear(backbone, layer), activation + SILENT
    with torch.no_grad():
        first.weight[index] = (slope * reading.row).to(first.weight.dtype)
        first.bias[index] = slope * reading.constant - SILENT


def _writes(backbone: Backbone, neuron: Neuron, column: Tensor) -> None:
    """Make a neuron add ``column`` (D,) to the residual stream for an activation of 1."""
    layer, index = neuron
    second, gain = hooks.second_linear(backbone, layer), hooks.layer_scale(backbone, layer, hooks.MLP)
    with torch.no_grad():
        second.weight[:, index] = (column if gain is None else column / gain.double()).to(second.weight.dtype)


def _active_everywhere(
    backbone: Backbone, neuron: Neuron, activation: float, norm: float, draw: np.random.Generator
) -> None:
    """Make a neuron constant on all tokens and write a vector of ``norm`` there, which the layer's bias takes back."""
    layer, index = neuron
    first, second = hooks.first_linear(backbone, layer), hooks.second_linear(backbone, layer)
    direction = torch.from_numpy(draw.standard_normal(backbone.width))
    fired = float(_gelu(torch.tensor(activation, dtype=torch.float64)))
    with torch.no_grad():
        first.weight[index], first.bias[index] = 0.0, activation
        _writes(backbone, neuron, norm / fired * direction / direction.norm())
        second.bias.sub_((fired * second.weight[:, index].double()).to(second.bias.dtype))
