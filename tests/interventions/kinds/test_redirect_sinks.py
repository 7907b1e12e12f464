"""Masked sinks against softmax maps whose columns are zeroed by hand: the published redirection and masking agree."""

import pytest
import torch

from helpers.interventions import (
    DETECTED,
    NONE_FOUND,
    append,
    assert_by_hand,
    chain,
    clip,
    passed,
    redirect,
    slow_sinks,
    some_limits,
)
from vit_registers.forward import sinks
from vit_registers.interventions.base import Known, NotApplicable
from vit_registers.interventions.kinds.redirect_sinks import RedirectSinks, redirected
from vit_registers.models.attention import Attention, log_sum_exp

NAMES = (0, "shapes", "vit", "masked")


@pytest.fixture
def mild(monkeypatch):
    """Sink events as random weights have them: in some heads of some images."""
    monkeypatch.setattr(sinks, "SINK_ATTENTION", 0.2)
    monkeypatch.setattr(sinks, "SINK_QUERIES", 0.3)


def zeroed_and_scaled(weights, columns):
    """Maps (h, t, t) with a set of ``columns`` of each head zeroed and every row divided by what is left."""
    weights = weights.clone()
    for head, tokens in enumerate(columns):
        if len(tokens) < weights.shape[2]:
            weights[head][:, tokens] = 0.0
            weights[head] /= weights[head].sum(1, keepdim=True)
    return weights


@pytest.mark.parametrize("at", ["every", "last"])
@pytest.mark.parametrize("which", ["events", "most_attended"])
def test_sinks_are_masked_as_one_image_at_a_time_by_hand(make, family, pixels, by_hand, mild, which, at):
    backbone, events = make(family, torch.float64), []

    def masked(layer, weights):
        if at == "last" and layer < 2:
            return weights
        found = slow_sinks(weights, 0.2, 0.3)
        events.extend(event for _, event in found)
        return zeroed_and_scaled(weights, [[token] if event or which != "events" else [] for token, event in found])

    how = redirect(which=which, at=at)
    change = assert_by_hand(backbone, pixels.double(), how, by_hand, tolerance=1e-5, change_weights=masked)
    assert change > 1e-3 or not any(events)


def test_heads_with_and_without_events_are_both_among_those_tested(make, pixels, mild):
    backbone = make("dinov2_reg4", torch.float64)
    every = passed(backbone, pixels.double(), redirect(which="most_attended"))[1]
    events = passed(backbone, pixels.double(), redirect())[1]
    plain = passed(backbone, pixels.double())[1]
    assert not torch.equal(events, plain)
    assert not torch.equal(events, every)


@pytest.mark.parametrize("appended", [0, 2])
@pytest.mark.parametrize("name", ["dinov2_reg4", "dinov3", "without_cls"])
def test_artifacts_are_those_that_enter_the_block(make, pixels, by_hand, name, appended):
    backbone = make(name, torch.float64)
    limits, entered = some_limits(backbone, pixels.double(), [0, 1]), {}
    patches = range(*backbone.layout.patch_slice.indices(backbone.layout.length))

    def keep(layer, x):
        limit = dict(limits).get(layer, float("inf"))
        entered[layer + 1] = [t for t in patches if sum(float(v) ** 2 for v in x[t]) ** 0.5 > limit]
        return x

    def masked(layer, weights):
        found = entered[layer] if layer else []
        return zeroed_and_scaled(weights, [found] * len(weights))

    how = redirect((*limits, (2, 0.0)), which="artifacts")  # what leaves the last block enters no other
    how = chain(append(2), how) if appended else how
    changes = {"change_output": keep, "change_weights": masked}
    assert assert_by_hand(backbone, pixels.double(), how, by_hand, appended, tolerance=1e-5, **changes) > 1e-2


def test_what_an_earlier_part_of_a_chain_clips_is_no_artifact_any_more(make, pixels):
    backbone = make("dinov2", torch.float64)
    limits = some_limits(backbone, pixels.double(), [0])
    masked = redirect(limits, which="artifacts")
    both, clipped = (passed(backbone, pixels.double(), how)[1] for how in (chain(clip(limits), masked), clip(limits)))
    assert torch.equal(both, clipped)
    assert not torch.equal(passed(backbone, pixels.double(), masked)[1], passed(backbone, pixels.double())[1])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_redirecting_after_and_masking_before_the_softmax_are_one(dtype):
    draw = torch.Generator().manual_seed(1)
    q, k, v = (2.0 * torch.randn(3, 2, 2, 9, 4, generator=draw)).to(dtype)
    attention = Attention(q, k, v, log_sum_exp(q, k, 0.5), 0.5)
    masked = torch.rand(2, 2, 9, generator=draw) < 0.3
    masked[0, 1], masked[1, 0] = False, True  # none, and all: there attention stays
    out = torch.full_like(v, 7.0)
    found = redirected(attention, masked, out)
    logits = q.double() @ k.double().transpose(-1, -2) * 0.5
    before = logits.masked_fill(masked[:, :, None], -torch.inf).softmax(-1) @ v.double()
    columns = [[row.nonzero().flatten().tolist() for row in image] for image in masked]
    after = (
        torch.stack([zeroed_and_scaled(m, c) for m, c in zip(logits.softmax(-1), columns, strict=True)]) @ v.double()
    )
    tolerance = 1e-5 if dtype == torch.float32 else 3e-2
    for image, head in ((0, 0), (1, 1)):
        assert masked[image, head].any()
        for expected in (before, after):
            torch.testing.assert_close(
                found[image, head], expected[image, head].to(dtype), rtol=tolerance, atol=tolerance
            )
    assert torch.equal(found[0, 1], out[0, 1])
    assert torch.equal(found[1, 0], out[1, 0])


def test_a_sink_that_gets_nearly_all_is_masked_without_loss_of_digits():
    q, k = torch.zeros(1, 1, 6, 4), torch.randn(1, 1, 6, 4, generator=torch.Generator().manual_seed(2))
    q[..., 0], k[0, 0, 3] = 60.0, torch.tensor([20.0, 0.0, 0.0, 0.0])
    v = torch.eye(6)[None, None, :, :4]
    attention = Attention(q, k, v, log_sum_exp(q, k, 0.5), 0.5)
    assert attention.full()[0, 0, :, 3].min() == 1.0  # all that is left rounds to nothing
    masked = torch.zeros(1, 1, 6, dtype=torch.bool)
    masked[..., 3] = True
    logits = (q.double() @ k.double().transpose(-1, -2) * 0.5).masked_fill(masked[:, :, None], -torch.inf)
    expected = (logits.softmax(-1) @ v.double()).float()
    torch.testing.assert_close(redirected(attention, masked, torch.zeros_like(v)), expected)


def test_without_an_event_nothing_changes(make, pixels):
    backbone = make("dinov3")
    assert torch.equal(passed(backbone, pixels, redirect(at="last"))[0][:, :2], passed(backbone, pixels)[0][:, :2])
    none = passed(backbone, pixels, redirect(((0, 1e9),), which="artifacts"))[1]
    torch.testing.assert_close(none, passed(backbone, pixels)[1])


def test_only_artifacts_ask_for_detection(make):
    backbone, known = make("dinov2"), Known(DETECTED, None, NAMES)
    limits = ((0, 6.0), (1, 7.0), (2, 8.0))
    assert RedirectSinks(which="artifacts").resolve(backbone, known) == redirect(limits, which="artifacts")
    none = Known(NONE_FOUND, None, NAMES)
    assert RedirectSinks(which="artifacts").resolve(backbone, none) == NotApplicable(NONE_FOUND["reason"])
    assert RedirectSinks().resolve(backbone, Known(None, None, NAMES)) == redirect()


def test_it_is_called_by_what_it_does():
    assert RedirectSinks().label() == "sinks masked"
    assert RedirectSinks(which="artifacts", at="last").label() == "attention to artifacts masked at the last block"
    assert RedirectSinks(which="most_attended").sentence(None) == (
        "the attention to the most attended token of each head set to zero in every block, and that to the other "
        r"tokens scaled to a sum of one \citep{fesser2026}"
    )
    hows = [redirect(which=which, at=at) for which in ("events", "most_attended") for at in ("every", "last")]
    hows += [redirect(((0, limit),), which="artifacts") for limit in (1.0, 2.0)]
    assert len({str(how.described()) for how in hows}) == len(hows)
