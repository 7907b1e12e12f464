"""Every intervention on a batch of different images against one image at a time, one number at a time."""

import itertools
import statistics

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vit_registers.core.errors import InputError
from vit_registers.interventions.applied import applied, moved
from vit_registers.interventions.values import (
    Append,
    Chain,
    MoveNeurons,
    Replace,
    RestrictClsAttention,
    check,
    layout_under,
    second_linear,
)
from vit_registers.models.layout import TokenLayout

NEURONS = ((0, 3), (1, 17), (1, 5), (1, 0), (2, 30))


def passed(backbone, pixels):
    """Tokens after the final norm, and raw outputs of every block."""
    outputs = []
    handles = [block.register_forward_hook(lambda m, i, o: outputs.append(o)) for block in backbone.blocks]
    with torch.inference_mode():
        tokens = backbone.module.forward_features(pixels)
    for handle in handles:
        handle.remove()
    return tokens, outputs


def assert_by_hand(backbone, pixels, intervention, one_image, **changes):
    """A batch under the intervention gives what each of its images gives by hand; the model is as it was afterwards."""
    before, weights = passed(backbone, pixels)[0], {n: w.clone() for n, w in backbone.module.state_dict().items()}
    with applied(backbone, intervention) as layout:
        tokens, outputs = passed(backbone, pixels)
    assert tokens.shape[1] == layout.length
    assert_untouched(backbone, weights)
    assert torch.equal(passed(backbone, pixels)[0], before)
    for image, picture in enumerate(pixels):
        expected = one_image(backbone, picture, appended=layout.appended, **changes)
        torch.testing.assert_close(tokens[image], expected.final, rtol=0, atol=1e-10)
        for found, other in zip(outputs, expected.outputs, strict=True):
            torch.testing.assert_close(found[image], other, rtol=0, atol=1e-10)
    shared = min(before.shape[1], tokens.shape[1])
    return (tokens[:, :shared] - before[:, :shared]).abs().amax()


def assert_untouched(backbone, weights):
    now = backbone.module.state_dict()
    assert now.keys() == weights.keys()
    assert all(torch.equal(now[name], weights[name]) for name in weights)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in backbone.module.modules())


def slow_move(a, neurons, layout, how):
    """One image's activations (t, h) with neurons moved: a number at a time, as jiang2025 says it."""
    out = a.clone()
    patches = list(range(layout.length))[layout.patch_slice]
    cls = list(range(layout.length))[layout.cls_slice]
    maxima = {n: max(float(a[t, n]) for t in patches + (cls if how.max_includes_cls else [])) for n in neurons}
    for n in neurons:
        values = [float(a[t, n]) for t in patches]
        mean, sd = sum(values) / len(values), statistics.stdev(values)
        for token in patches + (cls if how.clear_cls else []):
            if how.patches == "zero":
                out[token, n] = 0.0
            elif how.patches == "mean" or (how.patches == "only_outliers" and float(a[token, n]) > mean + sd):
                out[token, n] = mean
        for token in list(range(layout.length))[layout.appended_slice]:
            out[token, n] = how.scale * (max(maxima.values()) if how.max_over == "layer" else maxima[n])
    return out


def mover(how, layout):
    """Change of activations that ``how`` makes in each layer."""

    def change(layer, a):
        neurons = [index for at, index in how.neurons if at == layer]
        return slow_move(a, neurons, layout, how) if neurons else a

    return change


# --- appended tokens -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tokens", [1, 4])
def test_appended_zeros_are_those_of_one_image_at_a_time(make, family, pixels, by_hand, tokens):
    backbone = make(family, torch.float64)
    change = assert_by_hand(backbone, pixels.double(), Append(tokens), by_hand)
    assert change > 1e-3  # they are attended to


def test_an_appended_token_enters_clips_blocks_as_the_bias_of_the_norm_before_them(make, pixels):
    backbone, entered = make("clip"), []
    handle = backbone.blocks[0].register_forward_pre_hook(lambda m, inputs: entered.append(inputs[0]))
    with applied(backbone, Append(2)) as layout:
        passed(backbone, pixels)
    handle.remove()
    bias = backbone.module.norm_pre.bias
    assert bias.abs().min() > 0
    torch.testing.assert_close(entered[0][:, layout.appended_slice], bias.expand(len(pixels), 2, -1))


def test_appended_tokens_have_no_order_and_no_position(make, family, pixels):
    backbone = make(family, torch.float64)
    with applied(backbone, Append(3)) as layout:
        appended = passed(backbone, pixels.double())[0][:, layout.appended_slice]
    torch.testing.assert_close(appended, appended[:, :1].expand_as(appended), rtol=0, atol=1e-12)


# --- moved neurons ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tokens", [0, 1, 4])
def test_moved_neurons_are_those_of_one_image_at_a_time(make, family, pixels, by_hand, tokens):
    backbone = make(family, torch.float64)
    how = MoveNeurons(NEURONS, tokens)
    change = assert_by_hand(
        backbone,
        pixels.double(),
        how,
        by_hand,
        change_activation=mover(how, layout_under(backbone, how)),
    )
    assert change > 1e-3


SWITCHES = list(
    itertools.product(
        ["zero", "mean", "only_outliers", "same"], ["neuron", "layer"], [False, True], [False, True], [1.0, -0.5]
    )
)


@pytest.mark.parametrize(("patches", "max_over", "max_includes_cls", "clear_cls", "scale"), SWITCHES)
def test_every_switch_does_what_the_protocol_says(
    make, pixels, by_hand, patches, max_over, max_includes_cls, clear_cls, scale
):
    backbone = make("dinov2_reg4", torch.float64)
    how = MoveNeurons(NEURONS, 2, scale, patches, max_over, max_includes_cls, clear_cls)
    change = mover(how, layout_under(backbone, how))
    assert_by_hand(backbone, pixels.double()[:3], how, by_hand, change_activation=change)


def test_every_switch_matters():
    """Otherwise the comparison above could not tell one switch from another."""
    layout = TokenLayout(1, 1, (2, 3), 2)
    a = torch.randn(1, layout.length, 8, generator=torch.Generator().manual_seed(4))
    a[:, 0] += 3.0  # [CLS] holds the maximum
    results = [moved(a, torch.tensor([1, 4]), layout, MoveNeurons((), 2, s, p, m, i, c)) for p, m, i, c, s in SWITCHES]
    same = [x for x, y in itertools.combinations(range(len(SWITCHES)), 2) if torch.equal(results[x], results[y])]
    # Where patches stay, so does [CLS]: clearing it is the one switch without effect.
    assert [SWITCHES[x][0] for x in same] == ["same"] * 8


@settings(deadline=None, derandomize=True, database=None)
@given(
    cls=st.integers(0, 1),
    registers=st.integers(0, 3),
    grid=st.tuples(st.integers(1, 3), st.integers(2, 3)),
    appended=st.integers(0, 3),
    switches=st.sampled_from(SWITCHES),
    neurons=st.lists(st.integers(0, 5), min_size=1, max_size=4, unique=True),
    seed=st.integers(0, 2**32),
)
def test_activations_are_moved_on_every_layout(cls, registers, grid, appended, switches, neurons, seed):
    layout = TokenLayout(cls, registers, grid, appended)
    patches, max_over, max_includes_cls, clear_cls, scale = switches
    how = MoveNeurons((), appended, scale, patches, max_over, max_includes_cls, clear_cls)
    a = torch.randn(3, layout.length, 6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    before, found = a.clone(), moved(a, torch.tensor(neurons), layout, how)
    assert torch.equal(a, before)
    for image in range(3):
        torch.testing.assert_close(found[image], slow_move(a[image], neurons, layout, how), rtol=0, atol=1e-12)


def test_moving_works_in_the_precision_of_the_pass(make, pixels):
    backbone, seen = make("dinov2_reg4"), []
    how = MoveNeurons(NEURONS, 2, 0.7, "only_outliers")
    with applied(backbone, how) as layout:
        handle = second_linear(backbone, 1).register_forward_pre_hook(lambda m, inputs: seen.append(inputs[0]))
        with torch.autocast("cpu", torch.bfloat16), torch.inference_mode():
            backbone.module.forward_features(pixels)
        handle.remove()
    assert seen[0].dtype == torch.bfloat16
    patches = seen[0][:, layout.patch_slice]
    assert (seen[0][:, layout.appended_slice, 17].abs() > 0).all()
    assert patches.isfinite().all()


# --- zeros -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("at", ["every", "last"])
@pytest.mark.parametrize(
    ("name", "tokens"),
    [(name, "cls") for name in ("dinov2", "dinov2_reg4", "dinov3", "clip", "swiglu_packed")]
    + [(name, "registers") for name in ("dinov2_reg4", "dinov3", "deit3_reg4")],
)
def test_zeros_are_those_of_one_image_at_a_time(make, pixels, by_hand, name, tokens, at):
    backbone = make(name, torch.float64)
    positions = [0] if tokens == "cls" else [1, 2, 3, 4]

    def zeroed(layer, x):
        if at == "last" and layer < 2:
            return x
        x = x.clone()
        for token in positions:
            x[token] = 0.0
        return x

    change = assert_by_hand(backbone, pixels.double(), Replace(tokens, at=at), by_hand, change_output=zeroed)
    assert change > 1e-3


# --- restored, and refused -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["after the pass", "within the pass"])
@pytest.mark.parametrize(
    "intervention",
    [
        Append(2),
        MoveNeurons(NEURONS, 2),
        Replace("registers"),
        Replace("cls", at="last"),
        RestrictClsAttention("patches"),
        Chain((MoveNeurons(NEURONS, 2), RestrictClsAttention("registers", skip=True))),
    ],
    ids=repr,
)
def test_an_exception_leaves_the_model_bit_for_bit_as_it_was(make, pixels, intervention, where):
    backbone = make("dinov3")
    before, weights = passed(backbone, pixels)[0], {n: w.clone() for n, w in backbone.module.state_dict().items()}

    def fail(module, inputs):
        raise RuntimeError("midway")

    handle = backbone.blocks[2].register_forward_pre_hook(fail) if where == "within the pass" else None
    with pytest.raises(RuntimeError, match="midway"), applied(backbone, intervention):
        fail(None, backbone.module.forward_features(pixels))
    if handle:
        handle.remove()
    assert_untouched(backbone, weights)
    assert torch.equal(passed(backbone, pixels)[0], before)


def test_the_baseline_changes_nothing(make, pixels):
    backbone = make("dinov2_reg4")
    before = passed(backbone, pixels)[0]
    with applied(backbone, None) as layout:
        assert layout == backbone.layout
        assert torch.equal(passed(backbone, pixels)[0], before)


@pytest.mark.parametrize(
    ("name", "intervention", "message"),
    [
        ("dinov2", Replace("registers"), "model 'dinov2' has no registers"),
        ("without_cls", Replace("cls"), "model 'without_cls' has no cls"),
        ("dinov2", MoveNeurons(((0, 3), (3, 0)), 1), "no neuron 0 in layer 3"),
        ("dinov2", MoveNeurons(((-1, 0),), 1), "no neuron 0 in layer -1"),
        ("dinov2", MoveNeurons(((0, 128),), 1), "no neuron 128 in layer 0"),
        ("dinov2", MoveNeurons(((0, -1),), 1), "no neuron -1 in layer 0"),
    ],
    ids=repr,
)
def test_what_the_model_does_not_have_is_refused_before_anything_is_hooked(make, name, intervention, message):
    backbone = make(name)
    with pytest.raises(InputError, match=message):
        check(backbone, intervention)
    with pytest.raises(InputError, match=message), applied(backbone, intervention):
        pytest.fail("it was entered")
    assert_untouched(backbone, backbone.module.state_dict())


def test_an_mlp_without_a_second_linear_layer_is_refused_by_name(make):
    backbone = make("dinov2")
    backbone.blocks[1].mlp.fc2 = torch.nn.Identity()
    assert second_linear(backbone, 0) is backbone.blocks[0].mlp.fc2
    with pytest.raises(InputError, match="model 'dinov2': block 1 has no MLP with a second linear layer fc2"):
        check(backbone, MoveNeurons(((1, 0),), 1))


def test_the_activation_of_a_neuron_is_what_enters_the_second_linear_layer(make, family, pixels, by_hand):
    """After GELU, and after the product with the gate for SwiGLU."""
    backbone, seen = make(family, torch.float64), []
    handles = [
        second_linear(backbone, layer).register_forward_pre_hook(lambda m, inputs: seen.append(inputs[0]))
        for layer in range(backbone.depth)
    ]
    passed(backbone, pixels.double())
    for handle in handles:
        handle.remove()
    expected = by_hand(backbone, pixels[3].double()).activations
    for found, other in zip(seen, expected, strict=True):
        torch.testing.assert_close(found[3], other, rtol=0, atol=1e-10)


def test_the_published_code_changes_the_first_image_of_a_batch_alone(make, pixels):
    backbone = make("dinov2", torch.float64)
    with applied(backbone, MoveNeurons(NEURONS, 2)):
        every = passed(backbone, pixels.double())[0]
    with applied(backbone, MoveNeurons(NEURONS, 2, images="first")):
        first = passed(backbone, pixels.double())[0]
    with applied(backbone, Append(2)):
        untouched = passed(backbone, pixels.double())[0]
    torch.testing.assert_close(first[:1], every[:1], rtol=0, atol=1e-10)
    torch.testing.assert_close(first[1:], untouched[1:], rtol=0, atol=1e-10)
    assert (every[1:] - untouched[1:]).abs().amax(dim=(1, 2)).min() > 1e-3
