"""Moved neurons on a batch of different images against one image at a time, one number at a time."""

import itertools
import statistics
from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.interventions import append, assert_by_hand, move, passed
from vit_registers.core.errors import InputError
from vit_registers.forward.hooks import second_linear
from vit_registers.interventions.base import Known, NotApplicable, applied, check, layout_under
from vit_registers.interventions.kinds.test_time_registers import MovedNeurons, TestTimeRegisters, moved
from vit_registers.models.layout import TokenLayout

NEURONS = ((0, 3), (1, 17), (1, 5), (1, 0), (2, 30))
NAMES = (0, "shapes", "vit", "ttr")
RANKED = [[1, 5, 9.0], [0, 7, 8.0], [1, 2, 7.0], [1, 90, 6.0], [2, 1, 5.0], [0, 3, 4.0], [2, 2, 3.0], [1, 1, 2.0]]
RANKED += [[2, 9, 1.5], [0, 0, 1.0]]
FOUND = {"found": True, "top_k": 4, "neurons": RANKED}
NONE = {"found": False, "top_k": 4, "neurons": [], "reason": "no outlier patches found: 0.00% of the patches"}


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


def by_numbers(intervention, layout):
    """Change of activations that the intervention makes in each layer."""

    def change(layer, a):
        neurons = [index for at, index in intervention.neurons if at == layer]
        return slow_move(a, neurons, layout, intervention.how) if neurons else a

    return change


@pytest.mark.parametrize("tokens", [0, 1, 4])
def test_moved_neurons_are_those_of_one_image_at_a_time(make, family, pixels, by_hand, tokens):
    backbone, how = make(family, torch.float64), move(NEURONS, tokens)
    change = by_numbers(how, layout_under(backbone, how))
    assert assert_by_hand(backbone, pixels.double(), how, by_hand, tokens, change_activation=change) > 1e-3


PATCHES = ("zero", "mean", "only_outliers", "same")
NAMES_OF_SWITCHES = ("patches", "max_over", "max_includes_cls", "clear_cls", "scale")
SWITCHES = [
    dict(zip(NAMES_OF_SWITCHES, values, strict=True))
    for values in itertools.product(PATCHES, ["neuron", "layer"], [False, True], [False, True], [1.0, -0.5])
]
# Eight of them, among which every two switches stand at every two of their values.
PAIRWISE = [
    {
        "patches": PATCHES[2 * c + b],
        "max_over": ("neuron", "layer")[a],
        "max_includes_cls": bool(a ^ b),
        "clear_cls": bool(a ^ c),
        "scale": (1.0, -0.5)[a ^ b ^ c],
    }
    for a, b, c in itertools.product([0, 1], repeat=3)
]


def test_eight_settings_hold_every_pair_of_switches():
    for one, other in itertools.combinations(NAMES_OF_SWITCHES, 2):
        assert {(s[one], s[other]) for s in PAIRWISE} == {(s[one], s[other]) for s in SWITCHES}


@pytest.mark.parametrize("switches", PAIRWISE, ids=lambda switches: "-".join(map(str, switches.values())))
def test_every_switch_does_what_the_protocol_says(make, pixels, by_hand, switches):
    backbone, how = make("dinov2_reg4", torch.float64), move(NEURONS, 2, **switches)
    change = by_numbers(how, layout_under(backbone, how))
    assert_by_hand(backbone, pixels.double()[:3], how, by_hand, 2, change_activation=change)


def test_every_switch_matters():
    """Otherwise the comparison above could not tell one switch from another."""
    layout = TokenLayout(1, 1, (2, 3), 2)
    a = torch.randn(1, layout.length, 8, generator=torch.Generator().manual_seed(4))
    a[:, 0] += 3.0  # [CLS] holds the maximum
    results = [moved(a, torch.tensor([1, 4]), layout, TestTimeRegisters(tokens=2, **s)) for s in SWITCHES]
    same = [x for x, y in itertools.combinations(range(len(SWITCHES)), 2) if torch.equal(results[x], results[y])]
    # Where patches stay, so does [CLS]: clearing it is the one switch without effect.
    assert [SWITCHES[x]["patches"] for x in same] == ["same"] * 8


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
    how = TestTimeRegisters(tokens=appended, **switches)
    a = torch.randn(3, layout.length, 6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    before, found = a.clone(), moved(a, torch.tensor(neurons), layout, how)
    assert torch.equal(a, before)
    for image in range(3):
        torch.testing.assert_close(found[image], slow_move(a[image], neurons, layout, how), rtol=0, atol=1e-12)


def test_moving_works_in_the_precision_of_the_pass(make, pixels):
    backbone, seen = make("dinov2_reg4"), []
    with applied(backbone, move(NEURONS, 2, scale=0.7, patches="only_outliers")) as layout:
        handle = second_linear(backbone, 1).register_forward_pre_hook(lambda m, inputs: seen.append(inputs[0]))
        with torch.autocast("cpu", torch.bfloat16), torch.inference_mode():
            backbone.module.forward_features(pixels)
        handle.remove()
    assert seen[0].dtype == torch.bfloat16
    patches = seen[0][:, layout.patch_slice]
    assert (seen[0][:, layout.appended_slice, 17].abs() > 0).all()
    assert patches.isfinite().all()


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
    every = passed(backbone, pixels.double(), move(NEURONS, 2))[1]
    first = passed(backbone, pixels.double(), move(NEURONS, 2, images="first"))[1]
    untouched = passed(backbone, pixels.double(), append(2))[1]
    torch.testing.assert_close(first[:1], every[:1], rtol=0, atol=1e-10)
    torch.testing.assert_close(first[1:], untouched[1:], rtol=0, atol=1e-10)
    assert (every[1:] - untouched[1:]).abs().amax(dim=(1, 2)).min() > 1e-3


# --- which neurons ---------------------------------------------------------------------------------------------------


def test_every_setting_is_carried_over(make):
    settings = {"scale": 0.5, "patches": "mean", "max_over": "layer", "max_includes_cls": True, "clear_cls": True}
    how = TestTimeRegisters(tokens=3, **settings)
    assert how.resolve(make("dinov2"), Known(FOUND, None, NAMES)) == MovedNeurons(
        how, ((1, 5), (0, 7), (1, 2), (1, 90))
    )


def test_without_detection_it_is_refused_by_name(make):
    with pytest.raises(InputError, match="condition 'ttr' moves register neurons; detect them first"):
        TestTimeRegisters(tokens=1).resolve(make("dinov2"), Known(None, None, NAMES))


@pytest.mark.parametrize("which", ["found", "half", "next", "random"])
def test_where_detection_found_none_its_reason_is_repeated(make, which):
    how = TestTimeRegisters(tokens=1, neurons=which)
    assert how.resolve(make("dinov2"), Known(NONE, None, NAMES)) == NotApplicable(NONE["reason"])


@pytest.mark.parametrize(
    ("which", "expected"),
    [
        ("found", ((1, 5), (0, 7), (1, 2), (1, 90))),
        ("half", ((1, 5), (0, 7))),
        ("next", ((2, 1), (0, 3), (2, 2), (1, 1))),
    ],
)
def test_ranked_neurons_are_chosen_by_rank(make, which, expected):
    assert TestTimeRegisters(tokens=1, neurons=which).choose(make("dinov2"), FOUND, NAMES) == expected


def test_random_neurons_are_others_of_the_same_layers_and_depend_on_the_condition(make):
    backbone, how = make("dinov2"), TestTimeRegisters(tokens=1, neurons="random")
    draws = [how.choose(backbone, FOUND, (seed, *NAMES[1:])) for seed in range(200)]
    for drawn in draws:
        assert Counter(layer for layer, _ in drawn) == {0: 1, 1: 3}
        assert len(set(drawn)) == 4
        assert not set(drawn) & {(1, 5), (0, 7), (1, 2), (1, 90)}
        assert all(0 <= index < 128 for _, index in drawn)
    assert len({neuron for drawn in draws for neuron in drawn if neuron[0] == 1}) > 100  # of 125, in 600 draws
    assert how.choose(backbone, FOUND, NAMES) == draws[0]
    assert how.choose(backbone, FOUND, (*NAMES[:3], "another")) != draws[0]


def test_the_first_k_of_the_ranking_can_be_moved_instead_of_what_detection_takes(make):
    known = Known(FOUND, None, NAMES)
    assert TestTimeRegisters(tokens=2, top_k=2).resolve(make("dinov2"), known).neurons == ((1, 5), (0, 7))
    with pytest.raises(InputError, match=r"top_k: \d+ neurons, but detection lists \d+; lower it, or raise"):
        TestTimeRegisters(tokens=2, top_k=len(RANKED) + 1).resolve(make("dinov2"), known)


@pytest.mark.parametrize(
    ("neurons", "message"),
    [
        (((0, 3), (3, 0)), "no neuron 0 in layer 3"),
        (((-1, 0),), "no neuron 0 in layer -1"),
        (((0, 128),), "no neuron 128 in layer 0"),
        (((0, -1),), "no neuron -1 in layer 0"),
    ],
)
def test_neurons_that_the_model_does_not_have_are_refused_before_anything_is_hooked(make, neurons, message):
    backbone = make("dinov2")
    with pytest.raises(InputError, match=message):
        check(backbone, move(neurons, 1))
    with pytest.raises(InputError, match=message), applied(backbone, move(neurons, 1)):
        pytest.fail("it was put in force")


def test_a_block_without_an_mlp_is_refused_by_name(make):
    backbone = make("dinov2")
    backbone.blocks[1].mlp = torch.nn.Identity()
    with pytest.raises(InputError, match="model 'dinov2': block 1 has no MLP with a second linear layer fc2"):
        check(backbone, move(((1, 0),), 1))


# --- words -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "label"),
    [
        ({"tokens": 4}, "4 test-time registers"),
        ({"tokens": 1}, "1 test-time register"),
        ({"tokens": 0}, "neurons cleared"),
        ({"tokens": 0, "neurons": "random"}, "random neurons cleared"),
        ({"tokens": 4, "neurons": "half"}, "half the neurons, 4 tokens"),
        ({"tokens": 4, "neurons": "next"}, "next neurons, 4 tokens"),
        ({"tokens": 2, "top_k": 1}, "first 1 neuron, 2 tokens"),
        ({"tokens": 4, "images": "first"}, "4 test-time registers, 1st image only"),
    ],
)
def test_it_is_called_by_what_is_moved_where(settings, label):
    assert TestTimeRegisters(**settings).label() == label


def test_the_methods_text_says_every_setting_that_has_an_effect():
    whole = TestTimeRegisters(tokens=4).sentence(None)
    assert whole == (
        "4 zero tokens appended; the register neurons that detection found take there the signed maximum over patches, "
        "each its own, and on patches: zero"
    )
    changes = [{"neurons": n} for n in ("half", "next", "random")] + [{"patches": p} for p in PATCHES[1:]]
    changes += [{"tokens": 3}, {"tokens": 0}, {"top_k": 2}, {"scale": 0.5}, {"max_over": "layer"}]
    changes += [{"max_includes_cls": True}, {"clear_cls": True}, {"images": "first"}]
    sentences = [TestTimeRegisters(**{"tokens": 4, **change}).sentence(None) for change in changes]
    assert len({whole, *sentences}) == 1 + len(changes)
    cleared = TestTimeRegisters(tokens=0, clear_cls=True, images="first").sentence(None)
    assert cleared == (
        "the register neurons that detection found are cleared (on patches: zero; on [CLS]: zero) and nothing is "
        "appended; only in the first image of every batch"
    )


def test_only_the_neurons_found_moved_in_every_image_are_what_the_paper_describes():
    assert TestTimeRegisters(tokens=1, max_over="layer").as_described
    for change in ({"tokens": 0}, {"top_k": 4}, {"neurons": "half"}, {"images": "first"}):
        assert not TestTimeRegisters(**{"tokens": 1, **change}).as_described


def test_neurons_chosen_in_another_way_are_told_apart_by_the_neurons_alone():
    found = move(NEURONS, 2, top_k=5).described()
    assert found == move(NEURONS, 2).described()
    assert found["neurons"] == [list(neuron) for neuron in NEURONS]
    assert found != move(NEURONS[1:], 2).described()
    assert found != move(NEURONS, 2, images="first").described()
