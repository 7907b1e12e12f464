"""Edited values of sinks against one image at a time by hand; draws by the properties that they must have."""

from dataclasses import replace

import pytest
import torch
from pydantic import ValidationError

from helpers.interventions import ROWS, assert_untouched, edit_values, passed, slow_sinks, some_statistics, weights_of
from vit_registers.core.errors import InputError
from vit_registers.forward import sinks
from vit_registers.forward.tap import tapped
from vit_registers.interventions.base import Known, NotApplicable, check, shuffles
from vit_registers.interventions.kinds.ablate import derangement
from vit_registers.interventions.kinds.edit_sink_values import EditSinkValues
from vit_registers.params.passes import Calibration

NAMES = (0, "shapes", "vit", "edited")
NAMED = ("dinov2", "dinov2_reg4", "dinov3", "clip", "without_cls")


@pytest.fixture
def mild(monkeypatch):
    """Sink events as random weights have them: in some heads of some images."""
    monkeypatch.setattr(sinks, "SINK_ATTENTION", 0.2)
    monkeypatch.setattr(sinks, "SINK_QUERIES", 0.3)


def edited_by_hand(backbone, pixels, one_image, how, value, at="every"):
    """Every image's pass with the value that ``value(image, layer, head)`` gives in place of the sink's."""
    found = []
    for image, picture in enumerate(pixels):

        def change(layer, weights, values, image=image):
            values = values.clone()
            for head, (token, event) in enumerate(slow_sinks(weights, 0.2, 0.3)):
                if (event or how.how.which == "most_attended") and (at == "every" or layer == backbone.depth - 1):
                    values[head, token] = value(image, layer, head)
            return values

        found.append(one_image(backbone, picture, change_values=change).final)
    return torch.stack(found)


@pytest.mark.parametrize("at", ["every", "last"])
@pytest.mark.parametrize("which", ["events", "most_attended"])
@pytest.mark.parametrize("name", NAMED)
def test_zeros_and_means_are_those_of_one_image_at_a_time_by_hand(make, pixels, by_hand, mild, name, which, at):
    backbone = make(name, torch.float64)
    before, weights, known = passed(backbone, pixels.double())[1], weights_of(backbone), some_statistics(backbone)
    zero, mean = edit_values(which=which, at=at), edit_values(to="mean", which=which, at=at, statistics=known)
    for how, value in ((zero, lambda *where: 0.0), (mean, lambda image, layer, head: known.sink_value[layer, head])):
        expected = edited_by_hand(backbone, pixels.double(), by_hand, how, value, at)
        found = passed(backbone, pixels.double(), how)[1]
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)
        assert_untouched(backbone, weights)
        assert torch.equal(passed(backbone, pixels.double())[1], before)
        if which == "most_attended":
            assert (found - before).abs().amax() > 1e-3


def seen_at_the_last_block(backbone, pixels, how=None, of=ROWS):
    """Attention of the last block, as it is before it is edited, and what its output projection takes, by head."""
    read, taken = [], []
    handle = backbone.blocks[-1].attn.proj.register_forward_pre_hook(lambda m, inputs: taken.append(inputs[0]))
    with tapped(backbone, lambda layer, attention: read.append(attention)):
        passed(backbone, pixels, how, of)
    handle.remove()
    return read[-1], taken[0].unflatten(2, (2, -1)).transpose(1, 2)


def test_donors_give_the_value_of_their_own_sink(make, pixels):
    backbone = make("dinov2_reg4", torch.float64)
    how = edit_values(seed=3, to="donor_sink", which="most_attended", at="last")
    attention, plain = seen_at_the_last_block(backbone, pixels.double())
    _, edited = seen_at_the_last_block(backbone, pixels.double(), how)
    source, whole = derangement(5, 3).tolist(), attention.full()
    for image in range(5):
        donors = slow_sinks(whole[source[image]])
        for head, (token, _) in enumerate(slow_sinks(whole[image])):
            own, other = attention.v[image, head, token], attention.v[source[image], head, donors[head][0]]
            expected = plain[image, head] + whole[image, head, :, [token]] * (other - own)
            torch.testing.assert_close(edited[image, head], expected, rtol=0, atol=1e-4)
    assert sorted(source) == [0, 1, 2, 3, 4]
    assert all(donor != image for image, donor in enumerate(source))


@pytest.mark.parametrize(
    "settings", [{"of": "random_nonsink"}, {"to": "donor_nonsink"}], ids=["control", "another image's"]
)
def test_other_tokens_are_drawn_for_each_image_and_head_and_are_never_the_sink(make, settings):
    backbone = make("dinov2_reg4", torch.float64)
    pixels = torch.randn(60, 3, 32, 48, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    how = edit_values(seed=5, which="most_attended", at="last", **settings)
    attention, plain = seen_at_the_last_block(backbone, pixels, of=range(60))
    _, edited = seen_at_the_last_block(backbone, pixels, how, range(60))
    found, whole = sinks.find(attention), attention.full().double()
    source = derangement(60, 5)
    drawn = []
    for image in range(60):
        for head in range(2):
            sink = int(found.token[image, head])
            if "of" in settings:  # which token's addend is missing
                addends = whole[image, head].T[:, :, None] * attention.v[image, head][:, None]
                missing = (plain[image, head] - edited[image, head] - addends).abs().amax((1, 2))
                token, off = int(missing.argmin()), float(missing.min())
                assert token != sink
            else:  # whose value stands where the sink's was
                column = whole[image, head, :, sink]
                value = ((edited - plain)[image, head] * column[:, None]).sum(0) / column.square().sum()
                distances = (attention.v[source[image], head] - attention.v[image, head, sink] - value).abs().amax(1)
                token, off = int(distances.argmin()), float(distances.min())
                assert token != int(found.token[source[image], head])
            assert off < 1e-4
            drawn.append(token)
    assert len(set(drawn)) > 20  # of 29 tokens


def test_draws_belong_to_the_image_and_not_to_the_batch(make, pixels):
    backbone = make("dinov2_reg4")
    how = edit_values(seed=1, of="random_nonsink", which="most_attended")
    whole = passed(backbone, pixels, how, ROWS)[1]
    parts = [passed(backbone, pixels[at], how, ROWS[at])[1] for at in (slice(0, 2), slice(2, 5))]
    torch.testing.assert_close(torch.cat(parts), whole)
    assert (whole - passed(backbone, pixels, how, [1, 2, 3, 4, 5])[1]).abs().amax() > 1e-3


def test_the_control_changes_the_same_heads(make, pixels, mild):
    backbone = make("dinov2_reg4")
    plain = seen_at_the_last_block(backbone, pixels)[1]
    changed = []
    for of in ("sink", "random_nonsink"):
        edited = seen_at_the_last_block(backbone, pixels, edit_values(seed=1, of=of, at="last"))[1]
        changed.append((edited != plain).flatten(2).any(2))
    assert torch.equal(*changed)
    assert 0 < changed[0].sum() < changed[0].numel()


def test_without_an_event_nothing_changes(make, pixels):
    backbone = make("dinov3")
    before = passed(backbone, pixels)
    assert not sinks.find(seen_at_the_last_block(backbone, pixels)[0]).events.any()
    assert torch.equal(passed(backbone, pixels, edit_values(at="last"))[0][:, :2], before[0][:, :2])
    torch.testing.assert_close(passed(backbone, pixels, edit_values(at="last"))[1], before[1])


def test_it_takes_means_where_calibration_left_them(make):
    backbone = make("dinov2_reg4")
    known = some_statistics(backbone)
    mean = EditSinkValues(to="mean")
    assert mean.resolve(backbone, Known(None, known, NAMES)).statistics is known
    assert EditSinkValues().resolve(backbone, Known(None, known, NAMES)) == edit_values()
    lacking = "condition 'edited' needs the mean values of sinks; set calibration.sink_values to true, and calibrate"
    for statistics in (None, _without_values(known)):
        with pytest.raises(InputError, match=lacking):
            mean.resolve(backbone, Known(None, statistics, NAMES))
    with pytest.raises(InputError, match="needs calibration before values of its sinks are at their mean"):
        check(backbone, edit_values(to="mean"))
    assert (mean.calibrated, EditSinkValues().calibrated) == (True, False)


def _without_values(known):
    return replace(known, sink_value=None)


def test_it_has_a_seed_where_it_draws_and_shuffles_where_it_has_donors(make):
    backbone, known = make("without_cls"), Known(None, None, NAMES)
    resolved = [EditSinkValues(to=to).resolve(backbone, known) for to in ("zero", "donor_sink", "donor_nonsink")]
    resolved.append(EditSinkValues(of="random_nonsink").resolve(backbone, known))
    assert not any(isinstance(how, NotApplicable) for how in resolved)
    assert [how.seed != 0 for how in resolved] == [False, True, True, True]
    assert [shuffles(how) for how in resolved] == [False, True, True, False]
    assert len({str(how.described()) for how in resolved}) == 4
    other = Known(None, None, (1, *NAMES[1:]))
    assert EditSinkValues(of="random_nonsink").resolve(backbone, other).seed != resolved[3].seed


def test_the_control_is_zeroed():
    with pytest.raises(ValidationError, match="to: mean is of the sink, but of is random_nonsink; take zero"):
        EditSinkValues(of="random_nonsink", to="mean")


class WithCalibration:
    calibration = Calibration(split="train", images=1000, resample_sources=64)


def test_it_is_called_by_what_it_does():
    assert EditSinkValues().label() == "values of sinks zeroed"
    assert EditSinkValues(of="random_nonsink").label() == "values of random tokens beside sinks zeroed"
    assert EditSinkValues(to="mean", which="most_attended", at="last").label() == (
        "values of most attended tokens at their mean at the last block"
    )
    assert EditSinkValues().sentence(WithCalibration) == (
        "in every block, in every head that has a sink, the value of the most attended token replaced by zeros "
        r"\citep{fesser2026}"
    )
    tos = ("zero", "mean", "donor_sink", "donor_nonsink")
    said = {EditSinkValues(to=to).sentence(WithCalibration) for to in tos}
    assert len(said | {EditSinkValues(of="random_nonsink").sentence(WithCalibration)}) == 5
