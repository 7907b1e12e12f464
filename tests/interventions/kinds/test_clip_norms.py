import statistics

import pytest
import torch

from helpers.interventions import DETECTED, NONE_FOUND, assert_by_hand, clip, passed, some_limits
from vit_registers.interventions.base import Known, NotApplicable
from vit_registers.interventions.kinds.clip_norms import ClipNorms

LIMITS = ((0, 7.0), (2, 9.0))
NAMES = (0, "shapes", "vit", "clipped")


def slow_clip(x, limit, to, layout):
    """One image's tokens (t, d), a patch at a time."""
    x = x.clone()
    patches = range(*layout.patch_slice.indices(len(x)))
    lengths = {token: sum(float(v) ** 2 for v in x[token]) ** 0.5 for token in patches}
    median = statistics.median(lengths.values())
    for token, length in lengths.items():
        if length > limit:
            x[token] *= min(median / length, 1.0) if to == "median" else 0.0
    return x


@pytest.mark.parametrize("to", ["median", "zero"])
def test_outliers_are_clipped_as_one_image_at_a_time_by_hand(make, family, pixels, by_hand, to):
    backbone = make(family, torch.float64)

    limits = some_limits(backbone, pixels.double(), [0, 2])

    def clipped(layer, x):
        limit = dict(limits).get(layer)
        return x if limit is None else slow_clip(x, limit, to, backbone.layout)

    how = clip(limits, to=to)
    change = assert_by_hand(backbone, pixels.double(), how, by_hand, change_output=clipped)
    assert change > 1e-2


def test_directions_stay_and_so_does_all_that_is_below(make, pixels):
    backbone = make("dinov2_reg4", torch.float64)
    ((_, limit),) = limits = some_limits(backbone, pixels.double(), [2])
    before, after = passed(backbone, pixels.double())[0], passed(backbone, pixels.double(), clip(limits))[0]
    assert torch.equal(after[:, :2], before[:, :2])  # earlier blocks
    before, after = before[:, 2], after[:, 2]
    assert torch.equal(after[:, :5], before[:, :5])  # [CLS] and registers, however large
    lengths = before[:, 5:].norm(dim=-1)
    above = lengths > limit
    assert 0.1 < above.double().mean() < 0.9
    assert torch.equal(after[:, 5:][~above], before[:, 5:][~above])
    cosines = torch.cosine_similarity(after[:, 5:], before[:, 5:], dim=-1)
    torch.testing.assert_close(cosines, torch.ones_like(cosines))
    medians = lengths.quantile(0.5, dim=1, keepdim=True).expand_as(lengths)
    torch.testing.assert_close(after[:, 5:].norm(dim=-1)[above], torch.minimum(medians, lengths)[above])


def test_where_nothing_is_above_nothing_changes(make, pixels):
    backbone = make("dinov2_reg4")
    assert torch.equal(passed(backbone, pixels, clip(((0, 1e9), (1, 1e9))))[1], passed(backbone, pixels)[1])


def test_it_takes_the_thresholds_of_detection(make):
    backbone, known = make("dinov2"), Known(DETECTED, None, NAMES)
    assert ClipNorms().resolve(backbone, known) == clip(((1, 7.0),))
    every = ClipNorms(at="every", to="zero")
    assert every.resolve(backbone, known) == clip(((0, 6.0), (1, 7.0), (2, 8.0)), at="every", to="zero")
    assert ClipNorms().resolve(backbone, Known(NONE_FOUND, None, NAMES)) == NotApplicable(NONE_FOUND["reason"])


def test_it_is_called_by_what_it_does_and_described_with_its_thresholds():
    assert ClipNorms().label() == "outliers clipped"
    assert ClipNorms(to="zero", at="every").label() == "outliers zeroed at every block"
    assert ClipNorms(at=-1).sentence(None) == (
        "patches whose norm exceeds the threshold of detection scaled to the median patch norm of their image at the "
        r"output of the last block \citep{outliers2026}"
    )
    assert clip(LIMITS).described() == {
        "kind": "clip_norms",
        "to": "median",
        "at": "arising",
        "limits": [[0, 7.0], [2, 9.0]],
    }
    assert (ClipNorms().appended, ClipNorms().calibrated, ClipNorms().moves_neurons) == (0, False, False)
