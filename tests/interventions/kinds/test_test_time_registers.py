"""Moved neurons on a batch of different images against one image at a time, one number at a time."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from helpers.interventions import append, assert_by_hand, move, passed, sign_max, slow_move
from vit_registers.core.errors import InputError
from vit_registers.forward.hooks import second_linear
from vit_registers.interventions.base import Known, NotApplicable, applied, check, layout_under
from vit_registers.interventions.kinds.test_time_registers import MovedNeurons, TestTimeRegisters, largest, moved
from vit_registers.models.layout import TokenLayout

NEURONS = ((0, 3), (1, 17), (1, 5), (1, 0), (2, 30))
NAMES = (0, "shapes", "vit", "ttr")
RANKED = [[1, 5, 9.0], [0, 7, 8.0], [1, 2, 7.0], [1, 90, 6.0], [2, 1, 5.0], [0, 3, 4.0], [2, 2, 3.0], [1, 1, 2.0]]
RANKED += [[2, 9, 1.5], [0, 0, 1.0]]
FOUND = {"found": True, "top_k": 4, "neurons": RANKED}
NONE = {"found": False, "top_k": 4, "neurons": [], "reason": "no outlier patches found: 0.00% of the patches"}


def published(a, neurons, layout, how):
    """What the published code does to a batch of activations (b, t, h) without trained registers, line by line.

    ``activate_on_registers`` of its shared/hook_fn.py: the hook is called with all neurons of a layer.
    """
    output, num_registers, neuron_indices = a.clone(), layout.appended, neurons
    tensor = output[0, :, neuron_indices]
    pos_max, neg_max = torch.max(tensor), torch.min(tensor)
    found = pos_max if abs(pos_max) > abs(neg_max) else neg_max
    output[0, -num_registers:, neuron_indices] = how.scale * found.unsqueeze(0).expand(num_registers, -1)
    if how.patches == "zero":
        output[0, 1:-num_registers, neuron_indices] = 0
    elif how.patches == "mean":
        patch_activations = output[0, 1:-num_registers, neuron_indices]
        mean_activation = torch.mean(patch_activations, dim=0)
        output[0, 1:-num_registers, neuron_indices] = mean_activation.unsqueeze(0).expand(
            output.shape[1] - num_registers - 1, -1
        )
    elif how.patches == "only_outliers":
        patch_activations = output[0, 1:-num_registers, neuron_indices].clone()
        means, stds = torch.mean(patch_activations, dim=0), torch.std(patch_activations, dim=0)
        mask = patch_activations > (means + stds).unsqueeze(0)
        patch_activations[mask] = means.unsqueeze(0).expand_as(patch_activations)[mask]
        output[0, 1:-num_registers, neuron_indices] = patch_activations
    return output


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
VALUES = {
    "patches": PATCHES,
    "value": ("magnitude", "signed_maximum"),
    "value_over": ("patches", "all_tokens"),
    "value_per": ("neuron", "layer"),
    "clear_cls": (False, True),
    "scale": (1.0, -0.5),
}
SWITCHES = [dict(zip(VALUES, values, strict=True)) for values in itertools.product(*VALUES.values())]
# Eight of them, among which every two switches stand at every two of their values.
PAIRWISE = [
    {
        "patches": PATCHES[2 * c + b],
        "value": VALUES["value"][b],
        "value_over": VALUES["value_over"][a ^ b],
        "value_per": VALUES["value_per"][a],
        "clear_cls": bool(a ^ c),
        "scale": VALUES["scale"][a ^ b ^ c],
    }
    for a, b, c in itertools.product([0, 1], repeat=3)
]


def test_eight_settings_hold_every_pair_of_switches():
    for one, other in itertools.combinations(VALUES, 2):
        if {one, other} != {"patches", "value"}:  # what patches take does not depend on the value
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
    a[:, layout.patch_slice, 1] -= 3.0  # negative where it is largest
    a[:, -1] = torch.where(torch.arange(8) == 4, -9.0, 5.0)  # an appended token holds the largest of all tokens
    results = [moved(a, torch.tensor([[1, 4]]), layout, TestTimeRegisters(tokens=2, **s)) for s in SWITCHES]
    same = [x for x, y in itertools.combinations(range(len(SWITCHES)), 2) if torch.equal(results[x], results[y])]
    # Where patches stay, so does [CLS]: clearing it is the one switch without effect.
    assert [SWITCHES[x]["patches"] for x in same] == ["same"] * 16


def test_the_published_codes_switches_together_are_the_published_code():
    layout = TokenLayout(1, 0, (3, 4), 2)
    draw = torch.Generator().manual_seed(7)
    for patches, scale in itertools.product(PATCHES, [1.0, 0.5]):
        a = torch.randn(3, layout.length, 9, generator=draw)
        how = TestTimeRegisters(
            tokens=2, patches=patches, scale=scale, value_over="all_tokens", value_per="layer", images="first", batch=3
        )
        expected = published(a, [1, 4, 7], layout, how)
        found = moved(a, torch.tensor([[1, 4, 7]] * 3), layout, how)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
        alone = [published(image[None], [1, 4, 7], layout, how)[0] for image in a]  # as its scripts call it
        every = how.model_copy(update={"images": "every", "batch": None})
        found = moved(a, torch.tensor([[1, 4, 7]] * 3), layout, every)
        torch.testing.assert_close(found, torch.stack(alone), rtol=0, atol=1e-6)


def test_a_value_is_the_largest_by_magnitude_with_its_sign():
    values = torch.tensor([[1.0, -9.0, 2.0], [3.0, 4.0, -2.0], [-2.0, 5.0, 0.5]])[None]
    assert largest(values, "magnitude").tolist() == [[[3.0, -9.0, -2.0]]]  # of 2 and -2 the negative one
    assert largest(values, "signed_maximum").tolist() == [[[3.0, 5.0, 2.0]]]
    assert [sign_max(column) for column in values[0].T.tolist()] == [3.0, -9.0, -2.0]


GATED = ("swiglu_packed", "swiglu", "eva02")


@pytest.mark.parametrize("name", GATED)
def test_a_neuron_of_a_gated_mlp_that_fires_negatively_is_moved_and_not_erased(make, pixels, by_hand, name):
    """DINOv2-g's and EVA-02's MLPs at random weights: of many neurons the largest activation is negative."""
    backbone = make(name, torch.float64)
    outer = [by_hand(backbone, image.double()).activations for image in pixels]
    patches = torch.stack([a[1][backbone.layout.patch_slice] for a in outer])  # (b, p, h) of layer 1
    lowest, highest = patches.amin((0, 1)), patches.amax((0, 1))
    negative = int((lowest.abs() / highest.abs().clamp(min=1e-3)).argmax())
    assert lowest[negative] < -1.0
    assert -lowest[negative] > 3 * highest[negative].abs()
    for value, carried in (("magnitude", True), ("signed_maximum", False)):
        seen = []
        how = move([(1, negative)], 1, value=value)
        with applied(backbone, how) as layout:
            site = second_linear(backbone, 1)
            handle = site.register_forward_pre_hook(lambda m, inputs, seen=seen: seen.append(inputs[0]))
            with torch.inference_mode():
                backbone.module.forward_features(pixels.double())
            handle.remove()
        appended = seen[0][:, layout.appended_slice, negative]
        assert (seen[0][:, layout.patch_slice, negative] == 0).all()
        assert ((appended < -0.5 * patches[..., negative].abs().amax(1, keepdim=True)).all()).item() is carried
    change = by_numbers(move([(1, negative)], 1), backbone.layout.with_appended(1))
    if name != "eva02":  # which norms after pooling: its pass by hand ends elsewhere
        assert_by_hand(backbone, pixels.double(), move([(1, negative)], 1), by_hand, 1, change_activation=change)


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
    before, found = a.clone(), moved(a, torch.tensor([neurons] * 3), layout, how)
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
    first = passed(backbone, pixels.double(), move(NEURONS, 2, images="first", batch=5))[1]
    untouched = passed(backbone, pixels.double(), append(2))[1]
    torch.testing.assert_close(first[:1], every[:1], rtol=0, atol=1e-10)
    torch.testing.assert_close(first[1:], untouched[1:], rtol=0, atol=1e-10)
    assert (every[1:] - untouched[1:]).abs().amax(dim=(1, 2)).min() > 1e-3
    alone = move(NEURONS, 2, images="first", batch=1)  # as it was called
    for image in range(5):
        one = passed(backbone, pixels[image : image + 1].double(), alone, of=[image])[1]
        torch.testing.assert_close(one[0], every[image], rtol=0, atol=1e-10)


# --- which neurons ---------------------------------------------------------------------------------------------------


def test_every_setting_is_carried_over(make):
    settings = {"scale": 0.5, "patches": "mean", "value_per": "layer", "value_over": "all_tokens", "clear_cls": True}
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
    assert (
        TestTimeRegisters(tokens=1, neurons=which).choose(make("dinov2"), Known(FOUND, None, NAMES)).neurons == expected
    )


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
        ({"tokens": 4, "images": "first", "batch": 8}, "4 test-time registers, 1st image of 8 only"),
        ({"tokens": 4, "images": "first", "batch": 1}, "4 test-time registers, 1 image at a time"),
        ({"tokens": 4, "neurons": "random", "matched_on": ["activation"]}, "matched random neurons, 4 tokens"),
        (
            {"tokens": 4, "value_over": "all_tokens", "value_per": "layer"},
            "4 test-time registers, over all tokens, one value per layer",
        ),
        (
            {"tokens": 1, "value": "signed_maximum", "scale": 0.5},
            "1 test-time register, signed maximum, 0.5 times their strength",
        ),
        ({"tokens": 0, "value": "signed_maximum", "patches": "mean"}, "neurons cleared, patches at mean"),
    ],
)
def test_it_is_called_by_what_is_moved_where(settings, label):
    assert TestTimeRegisters(**settings).label() == label


def test_the_methods_text_says_every_setting_that_has_an_effect():
    whole = TestTimeRegisters(tokens=4).sentence(None)
    assert whole == (
        "4 zero tokens appended; the register neurons that detection found take there the value of largest magnitude, "
        "with its sign, over patches, each its own, and on patches: zero"
    )
    changes = [{"neurons": n} for n in ("half", "next", "random")] + [{"patches": p} for p in PATCHES[1:]]
    changes += [{"tokens": 3}, {"tokens": 0}, {"top_k": 2}, {"scale": 0.5}, {"value_per": "layer"}, {"batch": 1}]
    changes += [{"value": "signed_maximum"}, {"value_over": "all_tokens"}, {"clear_cls": True}]
    changes += [{"images": "first", "batch": 1}, {"neurons": "random", "draws": "each_image"}]
    for names in (["activation"], ["output_norm"], ["activation", "output_norm"]):
        changes.append({"neurons": "random", "matched_on": names})
    sentences = [TestTimeRegisters(**{"tokens": 4, **change}).sentence(None) for change in changes]
    assert len({whole, *sentences}) == 1 + len(changes)
    cleared = TestTimeRegisters(tokens=0, clear_cls=True, images="first", batch=1).sentence(None)
    assert cleared == (
        "the register neurons that detection found are cleared (on patches: zero; on [CLS]: zero) and nothing is "
        "appended; only in the first image of every batch; in batches of 1 image"
    )


def test_only_the_neurons_found_moved_without_a_switch_are_what_the_paper_describes():
    assert TestTimeRegisters(tokens=1).as_described
    changes = [{"tokens": 0}, {"top_k": 4}, {"neurons": "half"}, {"value": "signed_maximum"}, {"patches": "mean"}]
    changes += [{"value_per": "layer"}, {"value_over": "all_tokens"}, {"images": "first", "batch": 1}]
    for change in changes:
        assert not TestTimeRegisters(**{"tokens": 1, **change}).as_described
    assert TestTimeRegisters(tokens=0).clears
    assert not TestTimeRegisters(tokens=0, neurons="random").clears
    assert not TestTimeRegisters(tokens=1).clears


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"matched_on": ["activation"]}, "matched_on: is of random neurons, but neurons is found; remove it"),
        ({"neurons": "half", "draws": "each_image"}, "draws: is of random neurons, but neurons is half; remove it"),
        ({"neurons": "random", "matched_on": ["activation"] * 2}, "matched_on: activation, activation names one twice"),
        ({"images": "first"}, "batch: which image is the first depends on it; give it"),
    ],
)
def test_settings_that_do_not_fit_together_are_refused(settings, message):
    with pytest.raises(ValidationError, match=message):
        TestTimeRegisters(tokens=1, **settings)


def test_neurons_chosen_in_another_way_are_told_apart_by_the_neurons_alone():
    found = move(NEURONS, 2, top_k=5).described()
    assert found == move(NEURONS, 2).described()
    assert found["neurons"] == [list(neuron) for neuron in NEURONS]
    assert found != move(NEURONS[1:], 2).described()
    assert found != move(NEURONS, 2, value="signed_maximum").described()
