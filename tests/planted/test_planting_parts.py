"""The pieces of planting, each against a slow obvious version."""

import math

import numpy as np
import pytest
import torch
from timm.layers import Mlp
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from vit_registers.core.errors import InputError
from vit_registers.models.backbone import Backbone
from vit_registers.models.preprocess import Preprocess
from vit_registers.models.supported import layout_of
from vit_registers.planted import activations
from vit_registers.planted.gate import Gate, fit_gate, fit_uniformity, uniform_patches
from vit_registers.planted.plant import GAIN, SHIFT, SPREAD, least_contributing, random_direction, write_neurons
from vit_registers.planted.sink_direction import RIDGE, sink_direction
from vit_registers.planted.tag import low_variance_direction, second_moment, tag, tag_probe

IMAGES = 7


@pytest.fixture
def backbone() -> Backbone:
    """Untrained, with registers (so that patches do not start at 1) and norms that are not the identity."""
    torch.manual_seed(0)
    module = VisionTransformer(
        img_size=32, patch_size=8, embed_dim=24, depth=4, num_heads=3, reg_tokens=2, no_embed_class=True, num_classes=5
    ).eval()
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if "norm" in name or name.endswith("bias"):
                parameter += 0.3 * torch.randn_like(parameter)
    module.requires_grad_(False)
    preprocess = Preprocess.square(32, 32, "bicubic", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    return Backbone("scratch", module, layout_of(module, "scratch"), preprocess, {})


@pytest.fixture
def pixels() -> Tensor:
    return torch.randint(256, (IMAGES, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def stream(backbone: Backbone, image: Tensor) -> list[Tensor]:
    """Input of every block and the output of the last, for one image, block by block."""
    module = backbone.module
    x = module.norm_pre(module._pos_embed(module.patch_embed(backbone.preprocess.normalise(image[None]))))
    states = [x]
    for block in module.blocks:
        states.append(block(states[-1]))
    return states


# --- activations -----------------------------------------------------------------------------------------------------


def test_planting_statistics_equal_image_by_image(
    backbone: Backbone, pixels: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(activations, "BATCH", 3)  # uneven batches: 3, 3, 1
    seen = activations.planting_statistics(backbone, 1, pixels)
    z, activity, norms, here, cls = [], [], [], [], {2: [], 3: []}
    for image in pixels:
        states, block = stream(backbone, image), backbone.blocks[1]
        after_attention = states[1] + block.attn(block.norm1(states[1]))
        z.append(block.norm2(after_attention))
        activity.append(block.mlp.act(block.mlp.fc1(z[-1]))[0].abs())
        norms += states[-1][0, 3:].norm(dim=-1).tolist()
        here += states[2][0, 3:].norm(dim=-1).tolist()
        for i in cls:
            cls[i].append(backbone.blocks[i].norm1(states[i])[0, 0])
    torch.testing.assert_close(seen.z, torch.cat(z), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(seen.activity.float(), torch.cat(activity).mean(0), rtol=1e-4, atol=1e-5)
    assert seen.norm == pytest.approx(float(torch.tensor(norms).median()), rel=1e-4)
    assert seen.norm_here == pytest.approx(float(torch.tensor(here).median()), rel=1e-4)
    assert set(seen.cls) == {2, 3}
    for i in cls:
        torch.testing.assert_close(seen.cls[i].float(), torch.stack(cls[i]).mean(0), rtol=1e-4, atol=1e-5)


def test_hooks_are_gone_after_a_pass_and_after_one_that_broke_off(backbone: Backbone, pixels: Tensor) -> None:
    sites = {"a": backbone.blocks[0], "b": backbone.blocks[1].mlp.fc2}
    list(activations.capture_inputs(backbone, sites, pixels))
    broken = activations.capture_inputs(backbone, sites, pixels)
    next(broken)
    broken.close()
    assert not any(module._forward_pre_hooks for module in backbone.module.modules())


# --- the tag ---------------------------------------------------------------------------------------------------------


def test_second_moment_equals_image_by_image(backbone: Backbone, pixels: Tensor) -> None:
    block = 1
    total, count = torch.zeros(24, 24, dtype=torch.float64), 0
    for image in pixels:
        for state in stream(backbone, image)[: block + 2]:
            for token in state[0, 3:].double():
                total += torch.outer(token, token)
                count += 1
    torch.testing.assert_close(second_moment(backbone, block, pixels), total / count, rtol=1e-5, atol=1e-7)


def test_second_moment_reaches_the_output_of_the_last_block(backbone: Backbone, pixels: Tensor) -> None:
    states = torch.cat([torch.cat(stream(backbone, image))[:, 3:] for image in pixels]).double().flatten(0, 1)
    torch.testing.assert_close(
        second_moment(backbone, 3, pixels), states.T @ states / len(states), rtol=1e-5, atol=1e-7
    )


def test_low_variance_direction_has_the_least_second_moment_orthogonal_to_ones() -> None:
    rng = np.random.default_rng(0)
    data = rng.normal(size=(400, 12)) * rng.uniform(0.2, 3.0, 12) + 5.0  # ones has the largest moment here
    moment = torch.from_numpy(data.T @ data / len(data))
    e = low_variance_direction(moment)
    assert float(e.norm()) == pytest.approx(1.0)
    assert float(e.sum()) == pytest.approx(0.0, abs=1e-9)
    assert float(e[e.abs().argmax()]) > 0
    # Slowly: an orthonormal basis of all that is orthogonal to ones, and the smallest eigenvector within it.
    basis = np.linalg.qr(np.column_stack([np.ones(12), rng.normal(size=(12, 11))]))[0][:, 1:]
    values, vectors = np.linalg.eigh(basis.T @ moment.numpy() @ basis)
    assert abs(float(e @ torch.from_numpy(basis @ vectors[:, 0]))) == pytest.approx(1.0)
    assert float(e @ moment @ e) == pytest.approx(values[0])


def test_low_variance_direction_is_not_ones_where_ones_is_least_contributing() -> None:
    moment = torch.diag(torch.arange(1.0, 9.0, dtype=torch.float64))
    moment -= moment.mean(0, keepdim=True)
    moment = moment @ moment.T  # ones is its smallest eigenvector, with eigenvalue 0
    e = low_variance_direction(moment)
    assert float(e.norm()) == pytest.approx(1.0)
    assert float(e @ moment @ e) == pytest.approx(float(torch.linalg.eigvalsh(moment)[1]))


def test_low_variance_direction_has_one_sign() -> None:
    rng = np.random.default_rng(7)
    for _ in range(12):  # LAPACK's own sign would be right in all of them once in 4096 times
        e = low_variance_direction(torch.from_numpy(np.cov(rng.normal(size=(9, 40)))))
        assert float(e[e.abs().argmax()]) > 0


def test_tag_adds_to_the_chosen_patches_and_to_nothing_else(backbone: Backbone, pixels: Tensor) -> None:
    before = stream(backbone, pixels[0])[0]
    direction = torch.nn.functional.normalize(torch.arange(24.0, dtype=torch.float64), dim=0)
    tag(backbone, [0, 6], direction, 2.5)
    change = stream(backbone, pixels[0])[0] - before
    expected = torch.zeros_like(change)
    expected[0, [3, 9]] = 2.5 * direction.float()
    torch.testing.assert_close(change, expected, rtol=1e-5, atol=1e-6)


def test_tag_probe_reads_the_tag_behind_the_norm() -> None:
    torch.manual_seed(8)
    norm = torch.nn.LayerNorm(16, eps=0.0).double().requires_grad_(False)
    norm.weight.copy_(torch.rand(16) + 0.2)
    norm.bias.copy_(torch.randn(16))
    e = low_variance_direction(torch.diag(torch.rand(16, dtype=torch.float64)))
    x = 3.0 * torch.randn(50, 16, dtype=torch.float64) + 1.0
    read = norm(x) @ tag_probe(e, norm)
    shown = x @ e / x.std(-1, correction=0)
    torch.testing.assert_close(read - read.mean(), shown - shown.mean())


# --- the gate --------------------------------------------------------------------------------------------------------


def test_uniform_patches_equals_loops() -> None:
    rng = np.random.default_rng(2)
    spread = rng.uniform(0, 25, size=(6, 1, 2, 1, 3, 1))  # some patches flatter than 10 grey levels, some not
    image = 128 + spread * rng.normal(size=(6, 3, 2, 4, 3, 4))
    images = torch.from_numpy(image.reshape(6, 3, 8, 12).clip(0, 255).astype(np.uint8))
    objects = torch.zeros(6, 8, 12, dtype=torch.bool)
    objects[:, 3, 4] = True  # one pixel, in the middle patch of the upper row
    found = uniform_patches(images, objects, 4)
    for n in range(6):
        for row in range(2):
            for column in range(3):
                cell = images[n, :, row * 4 : row * 4 + 4, column * 4 : column * 4 + 4].numpy().astype(float)
                grey = 0.299 * cell[0] + 0.587 * cell[1] + 0.114 * cell[2]
                expected = grey.std() < 10 and (row, column) != (0, 1)
                assert found[n, row * 3 + column] == expected
    assert 0 < found.sum() < found.numel()


def test_uniformity_equals_least_squares_with_the_penalty_as_extra_rows() -> None:
    rng = np.random.default_rng(3)
    z = rng.normal(size=(300, 5)) @ rng.normal(size=(5, 5)) + 3.0
    t = (z[:, 0] + rng.normal(size=300) > 3).astype(float)
    centred, target = z - z.mean(0), t - t.mean()
    penalty = math.sqrt(0.01 * z.var(0).mean() * 300) * np.eye(5)
    slow = np.linalg.lstsq(np.vstack([centred, penalty]), np.concatenate([target, np.zeros(5)]), rcond=None)[0]
    np.testing.assert_allclose(fit_uniformity(torch.from_numpy(z), torch.from_numpy(t)).numpy(), slow, rtol=1e-8)


def gate_inputs(strength: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Inputs (150, 9, 6) with channel 0 the tag, channel 1 the uniformity; tokens 2 and 5 tagged."""
    rng = np.random.default_rng(4)
    z = rng.normal(size=(150, 9, 6))
    z[:, [2, 5], 0] += strength
    tagged = torch.zeros(9, dtype=torch.bool)
    tagged[[2, 5]] = True
    unit = torch.eye(6, dtype=torch.float64)
    return torch.from_numpy(z).float(), tagged, unit[1], unit[0]


def test_gate_follows_its_formula_and_no_untagged_token_passes() -> None:
    z, tagged, w, v = gate_inputs(12.0)
    gate = fit_gate(z, tagged, w, v, 0.6, "here")
    u, g = z.double().numpy()[..., 1], z.double().numpy()[..., 0]
    tau = np.quantile(u[:, [2, 5]], 0.4)
    others = [0, 1, 3, 4, 6, 7, 8]
    present = g[:, [2, 5]].mean()
    weight = 1.05 * max(0.1, u[:, others].max() - tau) / (present - g[:, others].max())
    s = (u - tau) + weight * (g - present)
    np.testing.assert_allclose(gate.score(z).numpy(), s, atol=1e-9)
    assert not (s[:, others] > 0).any()
    assert gate.strength == pytest.approx(s[s > 0].mean())
    assert gate.firing == pytest.approx((s[:, [2, 5]] > 0).mean())
    assert 0.3 < gate.firing < 0.8
    assert gate.margin == pytest.approx(-s[:, others].max() / gate.strength)
    assert gate.margin > 0


@pytest.mark.parametrize("firing", [0.3, 0.95])
def test_the_share_of_tagged_tokens_that_fire_is_chosen(firing: float) -> None:
    z, tagged, w, v = gate_inputs(40.0)  # a tag whose own noise hardly matters
    z[:, :, 0] = torch.where(tagged, 40.0, 0.0)
    assert fit_gate(z, tagged, w, v, firing, "here").firing == pytest.approx(firing, abs=0.01)


def test_gate_keeps_a_tenth_where_no_untagged_token_is_uniform() -> None:
    z, tagged, w, v = gate_inputs(12.0)
    z[:, ~tagged, 1] = -9.0
    gate = fit_gate(z, tagged, w, v, 0.6, "here")
    present, absent = float(z[:, tagged, 0].double().mean()), float(z[:, ~tagged, 0].max())
    assert float(gate.row[0]) == pytest.approx(1.05 * 0.1 / (present - absent))


def test_gate_without_a_readable_tag_is_refused_and_says_what_to_change() -> None:
    z, tagged, w, v = gate_inputs(1.0)
    with pytest.raises(InputError, match=r"^here: the tag reads .* raise tag_strength"):
        fit_gate(z, tagged, w, v, 0.6, "here")


# --- the neurons -----------------------------------------------------------------------------------------------------


def test_contribution_multiplies_activity_and_column_norm() -> None:
    activity = torch.tensor([1.0, 0.1, 5.0, 0.5, 0.2], dtype=torch.float64)
    columns = torch.tensor([[3.0, 0.0, 0.1, 3.0, 1.0], [4.0, 50.0, 0.0, 4.0, 0.0]])  # norms 5, 50, .1, 5, 1
    assert least_contributing(activity, columns, 3) == [4, 2, 3]  # products 5, 5, .5, 2.5, .2


@pytest.mark.parametrize("neurons", [[3, 17], [30, 2, 11, 5]])
def test_written_neurons_write_the_artifact_where_the_gate_opens(neurons: list[int]) -> None:
    torch.manual_seed(5)
    mlp = Mlp(8, 32).eval().requires_grad_(False)
    rows, bias, columns = (p.clone() for p in (mlp.fc1.weight, mlp.fc1.bias, mlp.fc2.weight))
    row = torch.randn(8, dtype=torch.float64)
    gate = Gate(row, threshold=0.7, strength=1.3, firing=0.5, margin=1.0)
    artifact = 40.0 * random_direction(8, 0, "x")
    # Tokens with s from far below to far above 0, and what the chosen neurons wrote before.
    s = torch.linspace(-4.0, 12.0, 81, dtype=torch.float64)
    z = ((s + gate.threshold)[:, None] * row / (row @ row)).float()
    torch.testing.assert_close(gate.score(z), s, rtol=1e-4, atol=1e-4)
    old = mlp.act(mlp.fc1(z))
    before = mlp(z) - old[:, neurons] @ columns[:, neurons].T
    write_neurons(mlp, neurons, gate, artifact)
    activation = mlp.act(mlp.fc1(z)).double()
    written = (mlp(z) - before).double()

    def gelu(x: float) -> float:
        return 0.5 * x * (1.0 + math.erf(x / math.sqrt(2.0)))

    for token, score in enumerate(s.tolist()):
        amount = 0.0  # how much of the artifact the pairs write together
        for pair in range(len(neurons) // 2):
            gain = GAIN * (1.0 + SPREAD * pair)
            lag = SHIFT * gain
            x = gain * score / gate.strength
            amount += (gelu(x) - gelu(x - lag)) / lag / (len(neurons) / 2)
            assert float(activation[token, neurons[2 * pair]]) == pytest.approx(gelu(x), abs=2e-4)
            assert float(activation[token, neurons[2 * pair + 1]]) == pytest.approx(gelu(x - lag), abs=2e-4)
        torch.testing.assert_close(written[token], amount * artifact, rtol=1e-3, atol=5e-3)
        if abs(score) > 1e-6:
            assert bool(activation[token, neurons[0]] > 0) == (score > 0)
    assert float(written[s < -0.6].norm(dim=-1).max()) < 1e-2  # closed: nothing
    open_norms = written[s > gate.strength / 2].norm(dim=-1)
    assert float(open_norms.min()) == pytest.approx(40.0, rel=1e-2)  # open: the artifact, however far
    assert float(open_norms.max()) == pytest.approx(40.0, rel=1e-2)
    others = [i for i in range(32) if i not in neurons]
    assert torch.equal(mlp.fc1.weight[others], rows[others])
    assert torch.equal(mlp.fc1.bias[others], bias[others])
    assert torch.equal(mlp.fc2.weight[:, others], columns[:, others])


def test_neurons_by_themselves_write_equal_parts_that_grow_with_the_gate() -> None:
    torch.manual_seed(5)
    mlp, neurons = Mlp(8, 32).eval().requires_grad_(False), [30, 2, 11]
    row = torch.randn(8, dtype=torch.float64)
    gate = Gate(row, threshold=0.7, strength=1.3, firing=0.5, margin=1.0)
    artifact = 40.0 * random_direction(8, 0, "x")
    s = torch.linspace(-4.0, 6.0, 41, dtype=torch.float64)
    z = ((s + gate.threshold)[:, None] * row / (row @ row)).float()
    without = mlp(z) - mlp.act(mlp.fc1(z))[:, neurons] @ mlp.fc2.weight[:, neurons].T
    write_neurons(mlp, neurons, gate, artifact, pairs=False)
    activation = mlp.act(mlp.fc1(z)).double()
    closed, wide = s < -1.0, s > 1.0
    for place, neuron in enumerate(neurons):
        gain = GAIN * (1.0 + SPREAD * place)
        parts = torch.outer(activation[:, neuron], mlp.fc2.weight[:, neuron].double())
        expected = torch.outer(s / gate.strength / len(neurons), artifact)  # one third of s / E artifacts
        torch.testing.assert_close(parts[wide], expected[wide], rtol=1e-3, atol=1e-3)
        assert float(parts[closed].abs().max()) < 1e-3
        assert float(activation[wide, neuron].max()) == pytest.approx(gain * 6.0 / gate.strength, rel=1e-3)
    torch.testing.assert_close((mlp(z) - without).double()[closed], torch.zeros(8).double().expand(closed.sum(), 8))


def test_random_direction_is_unit_centred_and_its_own_for_every_seed_and_name() -> None:
    d = random_direction(32, 0, "planted")
    assert float(d.norm()) == pytest.approx(1.0)
    assert float(d.sum()) == pytest.approx(0.0, abs=1e-9)
    assert torch.equal(d, random_direction(32, 0, "planted"))
    assert abs(float(d @ random_direction(32, 1, "planted"))) < 0.9
    assert abs(float(d @ random_direction(32, 0, "other"))) < 0.9


# --- the attention-sink direction ------------------------------------------------------------------------------------


def probe_heads(backbone: Backbone, number: int, mean: Tensor) -> tuple[np.ndarray, list[np.ndarray]]:
    """Pull (24,) and per-head carried matrices (24, 24) of a block, by sending basis vectors through its layers."""
    attention, gamma = backbone.blocks[number].attn, backbone.blocks[number].norm1.weight
    start = attention.qkv(torch.zeros(24))
    query = attention.qkv(mean.float())[:24].view(3, 8)
    pull, carried = np.zeros(24), [np.zeros((24, 24)) for _ in range(3)]
    for channel in range(24):
        artifact = torch.zeros(24)
        artifact[channel] = 1.0
        moved = attention.qkv(gamma * artifact) - start
        key, value = moved[24:48].view(3, 8), moved[48:].view(3, 8)
        pull[channel] = float((query * key).sum())
        for head in range(3):
            mixed = torch.zeros(3, 8)
            mixed[head] = value[head]
            carried[head][:, channel] = (attention.proj(mixed.flatten()) - attention.proj(torch.zeros(24))).numpy()
    return pull, carried


def test_sink_direction_equals_the_solution_from_probed_layers(backbone: Backbone) -> None:
    generator = torch.Generator().manual_seed(6)
    cls = {i: torch.randn(24, dtype=torch.float64, generator=generator) for i in (2, 3)}
    pull, penalty = np.zeros(24), np.zeros((24, 24))
    for number, mean in cls.items():
        matched, carried = probe_heads(backbone, number, mean)
        pull += matched / np.linalg.norm(matched)
        penalty += sum(m.T @ m for m in carried)
    # Within what is orthogonal to ones, as coordinates of a basis.
    basis = np.linalg.qr(np.column_stack([np.ones(24), np.eye(24)[:, :23]]))[0][:, 1:]
    within = basis.T @ penalty @ basis
    ridge_term = RIDGE * np.trace(within) / 24 * np.eye(23)
    slow = basis @ np.linalg.solve(within + ridge_term, basis.T @ pull)
    slow /= np.linalg.norm(slow)
    found = sink_direction(backbone, cls).numpy()
    np.testing.assert_allclose(found, slow, atol=1e-4)
    assert abs(found.sum()) < 1e-9
    # It draws attention, and gives [CLS] less for it than the pull that is not solved against the values.
    plain = basis @ basis.T @ pull
    assert found @ pull > 0
    assert (found @ penalty @ found) / (found @ pull) ** 2 < 0.9 * (plain @ penalty @ plain) / (plain @ pull) ** 2


def test_the_raw_direction_is_what_the_queries_match(backbone: Backbone, pixels: Tensor) -> None:
    cls = activations.planting_statistics(backbone, 0, pixels).cls
    found = sink_direction(backbone, cls, solved=False)
    pull = torch.zeros(backbone.width, dtype=torch.float64)
    for number, mean in cls.items():
        attn, gamma = backbone.blocks[number].attn, backbone.blocks[number].norm1.weight.double()
        size, width = attn.head_dim, backbone.width
        asked = torch.zeros(width, dtype=torch.float64)
        for head in range(attn.num_heads):
            rows = slice(head * size, (head + 1) * size)
            q = attn.qkv.weight[:width][rows].double() @ mean + attn.qkv.bias[:width][rows].double()
            asked += attn.qkv.weight[width : 2 * width][rows].double().T @ q
        pull += gamma * asked / (gamma * asked).norm()
    pull = pull - pull.mean()
    torch.testing.assert_close(found, pull / pull.norm())
    assert not torch.allclose(found, sink_direction(backbone, cls))
