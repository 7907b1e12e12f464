"""Ablations against one image at a time, one token at a time; draws by the properties that they must have.

Where tokens are drawn, a test learns from what the pass leaves there which they are and what they took: that the rest
of the pass is the one by hand, and that what was drawn is what it should be, are two questions.
"""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from helpers.interventions import ROWS, ablate, assert_by_hand, otherwise, passed, some_statistics
from vit_registers.core.errors import InputError
from vit_registers.interventions.base import Known, NotApplicable, check
from vit_registers.interventions.kinds.ablate import Ablate, Ablation, derangement
from vit_registers.params.passes import Calibration

NAMES = (0, "shapes", "vit", "ablated")
WITH_REGISTERS = ("dinov2_reg4", "dinov3", "deit3_reg4")


def places(backbone, how, of=ROWS):
    """Tokens of each image that are ablated, in the order of the sequence: zeros instead would stand there."""
    zeroed = otherwise(how, by="zero", at="last")
    pixels = torch.ones(len(of), 3, 32, 48, dtype=next(backbone.module.parameters()).dtype)
    last = passed(backbone, pixels, zeroed, of)[0][:, -1]
    return [np.flatnonzero((tokens == 0).all(-1)).tolist() for tokens in last]


# --- the pass --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("at", ["every", "last"])
@pytest.mark.parametrize(
    ("name", "tokens"),
    [(name, "cls") for name in ("dinov2", "dinov2_reg4", "dinov3", "clip", "swiglu_packed")]
    + [(name, "registers") for name in WITH_REGISTERS],
)
def test_zeros_are_those_of_one_image_at_a_time(make, pixels, by_hand, name, tokens, at):
    backbone = make(name, torch.float64)
    positions = [0] if tokens == "cls" else [1, 2, 3, 4]

    def zeroed(layer, x):
        if at == "last" and layer < 2:
            return x
        x = x.clone()
        x[positions] = 0.0
        return x

    change = assert_by_hand(backbone, pixels.double(), ablate(tokens, at=at), by_hand, change_output=zeroed)
    assert change > 1e-3


# Every way of ablating once, on one of the models and at one of the places.
CASES = [
    ("dinov2_reg4", {"tokens": "cls", "by": "mean", "at": "every"}),
    ("dinov3", {"tokens": "cls", "by": "noise", "at": "last", "seed": 3}),
    ("deit3_reg4", {"tokens": "cls", "by": "resample", "resample_from": "calibration", "at": "every", "seed": 3}),
    ("deit3_reg4", {"tokens": "registers", "by": "mean", "at": "last"}),
    ("dinov3", {"tokens": "registers", "by": "noise", "at": "every", "seed": 4}),
    ("dinov3", {"tokens": "registers", "by": "resample", "resample_from": "calibration", "at": "last", "seed": 4}),
    ("dinov2_reg4", {"tokens": "registers", "only": [2], "at": "last"}),
    ("deit3_reg4", {"tokens": "registers", "by": "noise", "only": [0, 3], "at": "every", "seed": 8}),
    ("dinov3", {"tokens": "patches", "count": 4, "at": "every", "seed": 1}),
    ("dinov2_reg4", {"tokens": "patches", "by": "mean", "count": 3, "at": "every", "seed": 1}),
    ("deit3_reg4", {"tokens": "patches", "by": "noise", "count": 5, "at": "last", "seed": 2}),
]


def told(case):
    return "-".join(map(str, case.values())) if isinstance(case, dict) else case


def made(backbone, settings):
    how = ablate(**settings)
    return ablate(**settings, statistics=some_statistics(backbone)) if how.how.calibrated else how


def assert_the_rest_is_by_hand(backbone, pixels, how, one_image):
    """Everything but the tokens that are ablated is what one image gives that has these tokens."""
    outputs, final = passed(backbone, pixels, how)
    for image, tokens in enumerate(places(backbone, how)):

        def changed(layer, x, image=image, tokens=tokens):
            if how.how.at == "last" and layer < backbone.depth - 1:
                return x
            x = x.clone()
            x[tokens] = outputs[image, layer, tokens]
            return x

        expected = one_image(backbone, pixels[image], change_output=changed)
        torch.testing.assert_close(final[image], expected.final, rtol=0, atol=1e-10)
        torch.testing.assert_close(outputs[image], torch.stack(expected.outputs), rtol=0, atol=1e-10)


@pytest.mark.parametrize(("name", "case"), CASES, ids=told)
def test_a_batch_gives_what_each_image_gives_by_hand(make, pixels, by_hand, name, case):
    backbone = make(name, torch.float64)
    how = made(backbone, case)
    plain, final = passed(backbone, pixels.double())[1], passed(backbone, pixels.double(), how)[1]
    assert (final - plain).abs().amax() > 1e-3
    assert_the_rest_is_by_hand(backbone, pixels.double(), how, by_hand)


@st.composite
def ablations(draw):
    tokens = draw(st.sampled_from(["cls", "registers", "patches"]))
    by = draw(st.sampled_from(["zero", "mean", "noise"] + ["resample"] * (tokens != "patches")))
    found = {
        "tokens": tokens,
        "by": by,
        "at": draw(st.sampled_from(["every", "last"])),
        "seed": draw(st.integers(0, 9)),
    }
    if tokens == "patches":
        found["count"] = draw(st.integers(1, 24))
    if tokens == "registers" and draw(st.booleans()):
        found["only"] = draw(st.lists(st.integers(0, 3), min_size=1, max_size=4, unique=True))
    return found


@settings(max_examples=30, deadline=None, derandomize=True, database=None,
          suppress_health_check=[HealthCheck.function_scoped_fixture])  # fmt: skip
@given(name=st.sampled_from(WITH_REGISTERS), case=ablations())
def test_every_ablation_leaves_the_rest_of_a_pass_as_it_is_by_hand(make, pixels, by_hand, name, case):
    backbone = make(name, torch.float64)
    assert_the_rest_is_by_hand(backbone, pixels.double()[:2].repeat(3, 1, 1, 1)[:5], made(backbone, case), by_hand)


# --- which tokens, and what they take --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"tokens": "cls"}, [0]),
        ({"tokens": "registers"}, [1, 2, 3, 4]),
        ({"tokens": "registers", "only": [3, 0]}, [1, 4]),
    ],
    ids=str,
)
def test_special_tokens_are_where_the_layout_says(make, settings, expected):
    assert places(make("dinov2_reg4"), ablate(**settings)) == [expected] * 5


def test_patches_are_as_many_different_ones_of_every_image_and_all_alike_in_the_long_run(make):
    backbone = make("dinov2_reg4")
    chosen = places(backbone, ablate("patches", count=6, seed=1), range(400))
    first = backbone.layout.patch_slice.start
    assert all(len(one) == 6 and min(one) >= first for one in chosen)
    times = np.bincount(np.concatenate(chosen) - first, minlength=24)
    assert np.abs(times - 100).max() < 4.5 * np.sqrt(400 * 0.25 * 0.75)
    assert len({tuple(one) for one in chosen}) > 390


def test_patches_are_the_same_ones_at_all_layers(make, pixels):
    backbone = make("dinov2_reg4")
    how = ablate("patches", count=3, seed=1)
    outputs = passed(backbone, pixels, how)[0]
    zeros = (outputs == 0).all(-1)  # (b, layers, t)
    assert (zeros.sum(-1) == 3).all()
    assert torch.equal(zeros, zeros[:, :1].expand_as(zeros))


def test_a_mean_is_that_of_the_layer_and_token(make, pixels):
    backbone = make("dinov2_reg4")
    known = some_statistics(backbone)
    outputs = passed(backbone, pixels, ablate("registers", "mean", statistics=known, only=[1, 3]))[0]
    torch.testing.assert_close(outputs[:, :, [2, 4]], known.mean[:, [2, 4]].expand(5, -1, -1, -1))
    how = ablate("patches", "mean", statistics=known, count=2, seed=3)
    outputs = passed(backbone, pixels, how)[0]
    for image, tokens in enumerate(places(backbone, how)):
        torch.testing.assert_close(outputs[image][:, tokens], known.patch_mean[:, None].expand(-1, 2, -1))


@pytest.mark.parametrize("tokens", ["registers", "patches"])
def test_noise_has_the_mean_and_deviation_that_calibration_found_and_is_drawn_anew_for_each(make, tokens):
    backbone = make("dinov2_reg4")
    known = some_statistics(backbone)
    how = ablate(tokens, "noise", seed=1, statistics=known, count=4 if tokens == "patches" else 0)
    many, rows = torch.zeros(400, 3, 32, 48), list(range(400))
    outputs = passed(backbone, many, how, rows)[0]
    drawn = torch.stack([outputs[i][:, at] for i, at in enumerate(places(backbone, how, rows))])  # (n, layers, 4, d)
    special = known.mean[:, 1:], known.sd[:, 1:]
    mean, sd = special if tokens == "registers" else (known.patch_mean[:, None], known.patch_sd[:, None] + 1e-9)
    noise = (drawn - mean) / sd
    assert (noise.mean(0).abs() * 20).max() < 5.0  # standard errors, of 384 numbers
    torch.testing.assert_close(noise.std(0), torch.ones(3, 4, 32), rtol=0.2, atol=0)
    flat = noise.flatten(1)[:, ::16].T  # other layers, tokens and channels
    correlation = torch.corrcoef(flat) - torch.eye(len(flat))
    assert correlation.abs().max() < 0.3


def test_resampled_from_calibration_is_what_one_of_its_images_has_at_every_layer(make):
    backbone = make("dinov2_reg4")
    known = some_statistics(backbone)
    how = ablate("registers", "resample", resample_from="calibration", seed=4, statistics=known)
    outputs = passed(backbone, torch.zeros(100, 3, 32, 48), how, range(100))[0]
    sources = known.resample_sources[:, :, 1:]  # (7, layers, 4, d)
    distance = (outputs[:, None, :, 1:5] - sources).abs().amax(dim=(2, 3, 4))  # (100, 7)
    assert (distance.amin(1) == 0).all()
    times = torch.bincount(distance.argmin(1), minlength=7)
    assert times.min() >= 5  # of 100 / 7


DRAWN = [case for _, case in CASES if case.get("seed")]


@pytest.mark.parametrize("case", DRAWN, ids=told)
def test_draws_belong_to_the_image_and_not_to_its_batch(make, pixels, case):
    backbone = make("dinov2_reg4", torch.float64)
    how = made(backbone, case)
    together = passed(backbone, pixels.double(), how)[1]
    for image, row in enumerate(ROWS):
        alone = passed(backbone, pixels[image : image + 1].double(), how, [row])[1]
        torch.testing.assert_close(alone[0], together[image], rtol=0, atol=1e-10)
    backwards = passed(backbone, pixels.double().flip(0), how, ROWS[::-1])[1].flip(0)
    torch.testing.assert_close(backwards, together, rtol=0, atol=1e-10)


@pytest.mark.parametrize("case", DRAWN, ids=told)
def test_other_images_and_other_seeds_draw_otherwise(make, pixels, case):
    backbone = make("dinov2_reg4", torch.float64)
    how, same = made(backbone, case), pixels.double()[:1].expand(2, -1, -1, -1)
    pairs = [passed(backbone, same, how, [row, row + 1])[1] for row in range(20)]
    different = sum(float((one - other).abs().max() > 1e-3) for one, other in pairs)
    assert different >= (14 if how.how.by == "resample" else 20)  # one of seven sources may be drawn twice
    seeds = [passed(backbone, pixels.double(), otherwise(how, seed=seed))[1] for seed in (how.seed, how.seed + 1)]
    changed = (seeds[0] - seeds[1]).abs().amax(dim=(1, 2)) > 1e-3
    assert changed.sum() >= (3 if how.how.by == "resample" else 5)


# --- resampled from the batch ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("tokens", ["cls", "registers"])
def test_resampled_in_the_batch_every_image_gets_anothers_at_every_block(make, pixels, by_hand, tokens):
    """Images are passed by hand again and again, a block further each time, with what sources had at earlier blocks."""
    backbone = make("dinov2_reg4", torch.float64)
    how = ablate(tokens, "resample", seed=6)
    source = derangement(5, how.seed).tolist()
    place = [0] if tokens == "cls" else [1, 2, 3, 4]
    given_at: list[list[torch.Tensor]] = []  # by layer and image, what stands there after the ablation
    for layer in range(backbone.depth):
        raw = []
        for image, picture in enumerate(pixels.double()):

            def changed(at, x, image=image, until=layer):
                if at < until:
                    x = x.clone()
                    x[place] = given_at[at][image]
                return x

            raw.append(by_hand(backbone, picture, change_output=changed).outputs[layer])
        given_at.append([raw[source[image]][place] for image in range(5)])
    outputs, _ = passed(backbone, pixels.double(), how)
    for layer, image in itertools.product(range(backbone.depth), range(5)):
        torch.testing.assert_close(outputs[image, layer, place], given_at[layer][image], rtol=0, atol=1e-10)


@given(st.integers(2, 40), st.integers(0, 2**60))
def test_a_derangement_moves_every_image_and_is_one_cycle(images, seed):
    source = derangement(images, seed).tolist()
    assert sorted(source) == list(range(images))
    seen, at = set(), 0
    while at not in seen:
        seen.add(at)
        at = source[at]
    assert len(seen) == images


def test_a_batch_of_one_has_nothing_to_resample_from(make, pixels):
    with pytest.raises(InputError, match=r"within a batch of one image; raise extraction\.batch_size"):
        passed(make("dinov2_reg4"), pixels[:1], ablate("registers", "resample"), [3])


def test_images_that_were_not_announced_are_a_mistake_and_not_a_draw(make, pixels):
    with pytest.raises(RuntimeError, match="a batch of 5 images passes, but 2 rows were announced"):
        passed(make("dinov2"), pixels, ablate("patches", count=1), [1, 2])


# --- params ----------------------------------------------------------------------------------------------------------


def resolved(backbone, statistics=None, names=NAMES, **settings):
    return Ablate(**settings).resolve(backbone, Known(None, statistics, names))


@pytest.mark.parametrize(
    ("name", "settings", "reason"),
    [
        ("dinov2", {"tokens": "registers"}, "the model has no registers"),
        ("without_cls", {"tokens": "cls"}, "the model has no cls"),
        ("dinov2_reg4", {"tokens": "registers", "only": [4]}, "the model has 4 registers, numbered from 0"),
        ("dinov2", {"tokens": "patches"}, "the model has no registers to set the number of patches"),
    ],
)
def test_what_a_model_does_not_have_is_not_applicable(make, name, settings, reason):
    assert resolved(make(name), **settings) == NotApplicable(reason)


def test_ablations_that_draw_have_a_seed_of_their_own_and_others_have_none(make):
    backbone = make("dinov2_reg4")
    assert resolved(backbone, tokens="registers", at="last") == ablate("registers", at="last")
    first = resolved(backbone, tokens="patches")
    assert first.count == 4  # as many as the model has registers
    assert first.seed != 0
    assert first.seed == resolved(backbone, tokens="patches", count=4).seed
    assert first.seed != resolved(backbone, tokens="patches", names=(*NAMES[:3], "another")).seed
    assert first.seed != resolved(backbone, tokens="patches", names=(1, *NAMES[1:])).seed


def test_statistics_are_taken_where_they_are_needed_and_asked_for(make):
    backbone = make("dinov2_reg4")
    known = some_statistics(backbone)
    for case, needed in (
        ({"by": "zero"}, False),
        ({"by": "mean"}, True),
        ({"by": "noise"}, True),
        ({"by": "resample"}, False),
        ({"by": "resample", "resample_from": "calibration"}, True),
    ):
        assert Ablate(tokens="registers", **case).calibrated == needed
        assert resolved(backbone, known, tokens="registers", **case).statistics == (known if needed else None)
        if needed:
            with pytest.raises(InputError, match="condition 'ablated' replaces tokens by what calibration found; cali"):
                resolved(backbone, tokens="registers", **case)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"tokens": "cls", "only": [0]}, "only: numbers registers, but tokens is cls; remove it"),
        ({"tokens": "registers", "count": 2}, "count: is of random patches, but tokens is registers; remove it"),
        ({"tokens": "patches", "by": "resample", "resample_from": "calibration"}, "calibration keeps no patches"),
    ],
)
def test_settings_that_do_not_fit_each_other_are_refused(settings, message):
    with pytest.raises(ValidationError, match=message):
        Ablate(**settings)


@pytest.mark.parametrize(
    ("name", "how", "message"),
    [
        ("dinov2", ablate("registers"), "model 'dinov2' has no registers"),
        ("without_cls", ablate("cls"), "model 'without_cls' has no cls"),
        ("dinov2_reg4", ablate("registers", only=[4]), "has 4 registers, numbered from 0"),
        ("dinov2_reg4", ablate("registers", "mean"), "needs calibration before its tokens are ablated so"),
        ("dinov2", ablate("patches", count=25), "has 24 patches; it cannot be that 25 of them"),
        ("dinov2_reg4", ablate("patches"), "has 24 patches; it cannot be that 0 of them"),
    ],
    ids=str,
)
def test_what_cannot_be_done_is_refused_before_any_image(make, name, how, message):
    with pytest.raises(InputError, match=message):
        check(make(name), how)


def test_it_is_described_by_its_settings_seed_and_the_file_of_its_statistics(make):
    backbone = make("dinov2_reg4")
    mean = ablate("registers", "mean", statistics=some_statistics(backbone))
    assert mean.described()["activation_statistics"] == "digest"
    assert ablate("registers").described()["activation_statistics"] is None
    hows = [made(backbone, case) for _, case in CASES]
    hows += [otherwise(how, seed=99) for how in hows]
    assert all(isinstance(how, Ablation) for how in hows)
    assert len({str(how.described()) for how in hows}) == len(hows)


# --- words -----------------------------------------------------------------------------------------------------------


class WithCalibration:
    calibration = Calibration(split="train", images=1000, resample_sources=64)


@pytest.mark.parametrize(
    ("settings", "label", "sentence"),
    [
        ({"tokens": "cls"}, "[CLS] zeroed", "[CLS] replaced by zeros at the output of every block"),
        (
            {"tokens": "registers", "by": "mean", "at": "last"},
            "registers at their mean at the last block",
            "the registers replaced by their mean over up to 1000 calibration images, per block and token at the "
            "output of the last block",
        ),
        (
            {"tokens": "registers", "by": "noise", "only": [1]},
            "register 1 as noise",
            "register 1 (from 0) replaced by Gaussian noise with their mean and deviation over up to 1000 "
            "calibration images, per block and token at the output of every block",
        ),
        (
            {"tokens": "registers", "by": "resample", "only": [0, 2]},
            "registers 0, 2 of another image",
            "registers 0, 2 (from 0) replaced by those of another image of the batch at the output of every block",
        ),
        (
            {"tokens": "cls", "by": "resample", "resample_from": "calibration"},
            "[CLS] of another image",
            "[CLS] replaced by those of a calibration image, as they are in it untouched at the output of every block",
        ),
        (
            {"tokens": "patches"},
            "random patches zeroed",
            "as many random patches, drawn per image, as there are registers replaced by zeros at the output of every "
            "block",
        ),
        (
            {"tokens": "patches", "count": 3},
            "random patches zeroed",
            "3 random patches, drawn per image, replaced by zeros at the output of every block",
        ),
    ],
    ids=str,
)
def test_it_is_called_by_what_it_does(settings, label, sentence):
    assert Ablate(**settings).label() == label
    assert Ablate(**settings).sentence(WithCalibration) == rf"{sentence} \citep{{parodi2026}}"


def test_registers_at_their_mean_everywhere_cite_where_that_was_done_before():
    fixed = Ablate(tokens="registers", by="mean")
    assert fixed.sentence(WithCalibration).endswith(r"at the output of every block \citep{massive2024,parodi2026}")
