"""Register neurons that are hard to detect: what they read, when they fire, what they write, and decoys beside them."""

import copy

import numpy as np
import pytest
import torch
from torch import Tensor

from helpers import tagged
from vit_registers.core.errors import InputError
from vit_registers.forward import hooks
from vit_registers.models.backbone import Backbone
from vit_registers.params.spread_planting import SpreadPlanting
from vit_registers.planted import spread
from vit_registers.planted.activations import capture_inputs
from vit_registers.planted.plant import random_direction
from vit_registers.planted.spread import APART, SHRINKAGE, SILENT, Fitted, Planted, fit_reading

PLANTING = SpreadPlanting(blocks=[1, 2], neurons=3, norm_ratio=10.0, decoys=2, decoy_activation=8.0, images=40)
COUNT = 6  # neurons that share an artifact


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return tagged.make()


@pytest.fixture(scope="module")
def clean(backbone: Backbone) -> spread.Clean:
    return spread.look(PLANTING, backbone, tagged.IMAGES, "here")


@pytest.fixture(scope="module")
def fitted(backbone: Backbone, clean: spread.Clean) -> Fitted:
    return spread.fit(PLANTING, backbone, clean, random_direction(backbone.width, 0, "test"))


def planted(
    backbone: Backbone, clean: spread.Clean, fitted: Fitted, activation: float, how: SpreadPlanting = PLANTING
) -> Planted:
    return spread.plant(how, backbone, clean, fitted, activation, np.random.default_rng(3))


def seen(backbone: Backbone) -> tuple[dict[int, Tensor], Tensor]:
    """Activations (n, t, h) by block, and the residual stream (n, t, d) that the last block leaves."""
    sites = {str(i): hooks.second_linear(backbone, i) for i in range(backbone.depth)}
    (found,) = capture_inputs(backbone, {**sites, "last": hooks.after_blocks(backbone)}, tagged.IMAGES)
    return {i: found[str(i)] for i in range(backbone.depth)}, found["last"]


def test_a_reading_is_the_linear_discriminant_that_is_1_there_and_0_elsewhere() -> None:
    draw = np.random.default_rng(0)
    there, elsewhere = draw.normal(0.5, 1.0, (40, 3)), draw.normal(0.0, 2.0, (160, 3))
    reading = fit_reading(torch.tensor(np.concatenate([there, elsewhere])), torch.tensor([True] * 40 + [False] * 160))
    a, b = reading(torch.tensor(there)), reading(torch.tensor(elsewhere))
    assert float(a.mean()) == pytest.approx(1.0)
    assert float(b.mean()) == pytest.approx(0.0, abs=1e-12)
    within = np.zeros((3, 3))
    for group in (there, elsewhere):  # one token after the other; the two groups weigh the same
        covariance = np.zeros((3, 3))
        for token in group:
            apart = token - group.mean(0)
            covariance += np.outer(apart, apart) / len(group)
        within += ((1 - SHRINKAGE) * covariance + SHRINKAGE * np.trace(covariance) / 3 * np.eye(3)) / 2
    row = np.linalg.solve(within, there.mean(0) - elsewhere.mean(0))
    expected = row / (row @ (there.mean(0) - elsewhere.mean(0)))
    np.testing.assert_allclose(reading.row.numpy(), expected, rtol=1e-6)


@pytest.mark.parametrize("activation", [16.0, 2.0, 0.16])
def test_neurons_fire_at_their_activation_on_tagged_patches_and_nowhere_else(
    backbone: Backbone, clean: spread.Clean, fitted: Fitted, activation: float
) -> None:
    made = planted(backbone, clean, fitted, activation)
    assert sorted({layer for layer, _ in made.neurons}) == [1, 2]
    assert len(set(made.neurons)) == COUNT
    activations, _ = seen(made.backbone)
    for layer, index in made.neurons:
        fired = activations[layer][:, clean.tagged, index]
        mean = float(fired.mean())
        if activation >= 2.0:
            assert 2.0**-APART * 0.8 < mean / activation < 2.0**APART * 1.2
        else:  # GELU of little is less than it
            assert 0.02 < mean < 0.4
        elsewhere = activations[layer][:, ~clean.tagged, index].abs()
        assert float(elsewhere.mean()) < 0.05 * mean


@pytest.mark.parametrize("activation", [16.0, 2.0, 0.5])
def test_together_they_write_the_artifact_whatever_their_activation(
    backbone: Backbone, clean: spread.Clean, fitted: Fitted, activation: float
) -> None:
    made = planted(backbone, clean, fitted, activation)
    activations, last = seen(made.backbone)
    wrote = torch.zeros(len(tagged.IMAGES), backbone.layout.length, backbone.width)
    for layer, index in made.neurons:  # one neuron after the other
        column = hooks.second_linear(made.backbone, layer).weight[:, index]
        wrote += activations[layer][:, :, index, None] * column
    along = wrote.double() @ fitted.direction
    artifact = PLANTING.norm_ratio * clean.norm
    assert float(along[:, clean.tagged].mean()) == pytest.approx(artifact, rel=0.1)
    assert float(along[:, ~clean.tagged].abs().mean()) < 0.03 * artifact
    norms = last.norm(dim=-1)
    assert float(norms[:, clean.tagged].median()) > 3.0 * float(norms[:, ~clean.tagged].median())


def test_each_fires_without_the_others(backbone: Backbone, clean: spread.Clean, fitted: Fitted) -> None:
    """No planted neuron is one that merely responds to what those of earlier blocks wrote."""
    made = planted(backbone, clean, fitted, 4.0)
    alone = copy.deepcopy(made.backbone.module)
    for layer, index in made.neurons:
        if layer == 1:
            alone.blocks[layer].mlp.fc2.weight[:, index] = 0.0  # type: ignore[index, union-attr]
    activations, _ = seen(Backbone("alone", alone, backbone.layout, backbone.preprocess, {}))
    for layer, index in made.neurons:
        assert float(activations[layer][:, clean.tagged, index].mean()) > 2.0


def test_decoys_everywhere_are_constant_and_change_nothing(
    backbone: Backbone, clean: spread.Clean, fitted: Fitted
) -> None:
    made = planted(backbone, clean, fitted, 4.0)
    cleared = planted(backbone, clean, fitted, 4.0, PLANTING.model_copy(update={"decoys": 0}))
    assert cleared.neurons == made.neurons
    assert cleared.decoys == {"everywhere": [], "downstream": []}
    for layer, index in made.decoys["everywhere"]:  # what stood in the decoys' places is gone in both
        hooks.second_linear(cleared.backbone, layer).weight[:, index] = 0.0
    activations, _ = seen(made.backbone)
    assert [layer for layer, _ in made.decoys["everywhere"]] == [1, 2]
    for layer, index in made.decoys["everywhere"]:
        assert torch.allclose(activations[layer][:, :, index], torch.tensor(8.0))
        column = hooks.second_linear(made.backbone, layer).weight[:, index]
        part = PLANTING.norm_ratio * clean.norm / COUNT  # as large as what a register neuron writes
        assert float(8.0 * column.norm()) == pytest.approx(part, rel=1e-4)
    x = backbone.preprocess.normalise(tagged.IMAGES)
    outputs = []
    for module in (made.backbone.module, cleared.backbone.module):
        states: list[Tensor] = []
        handle = module.blocks[2].register_forward_hook(lambda m, i, o, into=states: into.append(o))  # type: ignore[index, union-attr]
        module(x)
        handle.remove()
        outputs.append(states[0])
    scale = float(outputs[1].norm(dim=-1).median())
    assert float((outputs[0] - outputs[1]).abs().max()) < 1e-4 * scale


def test_decoys_downstream_fire_on_artifacts_and_on_nothing_of_the_tagged_model(
    backbone: Backbone, clean: spread.Clean, fitted: Fitted
) -> None:
    made = planted(backbone, clean, fitted, 4.0)
    activations, _ = seen(made.backbone)
    harmless = copy.deepcopy(made.backbone.module)
    for layer, index in made.neurons:
        harmless.blocks[layer].mlp.fc2.weight[:, index] = 0.0  # type: ignore[index, union-attr]
    before, _ = seen(Backbone("harmless", harmless, backbone.layout, backbone.preprocess, {}))
    assert [layer for layer, _ in made.decoys["downstream"]] == [3, 3]
    for layer, index in made.decoys["downstream"]:
        assert float(activations[layer][:, clean.tagged, index].mean()) == pytest.approx(8.0, rel=0.2)
        assert float(before[layer][:, clean.tagged, index].abs().mean()) < 1.0
        own, now = (hooks.second_linear(each, layer).weight[:, index] for each in (backbone, made.backbone))
        assert torch.equal(own, now)


def test_the_tagged_model_stays_as_it_is_and_the_same_draw_plants_the_same(
    backbone: Backbone, clean: spread.Clean, fitted: Fitted
) -> None:
    before = {name: tensor.clone() for name, tensor in backbone.module.state_dict().items()}
    one, other = (planted(backbone, clean, fitted, 1.0) for _ in range(2))
    assert all(torch.equal(before[name], tensor) for name, tensor in backbone.module.state_dict().items())
    again = other.backbone.module.state_dict()
    assert all(torch.equal(tensor, again[name]) for name, tensor in one.backbone.module.state_dict().items())


def test_neurons_taken_are_those_that_write_least(backbone: Backbone, clean: spread.Clean) -> None:
    activations, last = seen(backbone)
    for layer, order in clean.idle.items():
        weight = hooks.second_linear(backbone, layer).weight
        writes = [
            float(activations[layer][:, :, i].abs().mean()) * float(weight[:, i].norm()) for i in range(len(order))
        ]
        assert order[:10] == sorted(range(len(order)), key=lambda i: writes[i])[:10]
    patches = last[:, backbone.layout.patch_slice].norm(dim=-1)
    assert clean.norm == float(patches.median())


def test_what_is_written_goes_through_the_layer_scale() -> None:
    backbone = tagged.make(init_values=0.1)
    clean = spread.look(PLANTING, backbone, tagged.IMAGES, "here")
    fitted = spread.fit(PLANTING, backbone, clean, random_direction(backbone.width, 0, "test"))
    made = planted(backbone, clean, fitted, 4.0)
    _, last = seen(made.backbone)
    along = last.double() @ fitted.direction
    apart = along[:, clean.tagged].mean() - along[:, ~clean.tagged].mean()
    assert float(apart) == pytest.approx(PLANTING.norm_ratio * clean.norm, rel=0.15)


def test_a_model_without_room_is_refused(backbone: Backbone) -> None:
    def refused(match: str, model: Backbone = backbone, **changes: object) -> None:
        with pytest.raises(InputError, match=match):
            spread.look(PLANTING.model_copy(update=changes), model, tagged.IMAGES, "experiments.x.planting")

    refused(r"experiments.x.planting: blocks are \[4\]; decoys need a block behind, so the last may be 3", blocks=[4])
    refused("block 1 has 128 neurons, 130 are needed", neurons=128)
    bare = Backbone("bare", backbone.module, backbone.layout, backbone.preprocess, {})
    refused("'bare' has no tag that neurons could read; take a model of kind tagged", bare)


def test_blocks_are_in_order() -> None:
    with pytest.raises(ValueError, match=r"blocks: expected each once, in ascending order, got \[2, 1\]"):
        SpreadPlanting(**{**PLANTING.model_dump(), "blocks": [2, 1]})


def test_silence_is_silent() -> None:
    assert abs(float(torch.nn.functional.gelu(torch.tensor(-SILENT, dtype=torch.float64)))) < 1.3e-4
