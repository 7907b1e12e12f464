from dataclasses import replace

import pytest
import torch
from pydantic import ValidationError
from sklearn.neighbors import LocalOutlierFactor

from helpers.interventions import DETECTED, NONE_FOUND, assert_by_hand, interpolate, passed, some_limits
from vit_registers.core.errors import InputError
from vit_registers.interventions.base import Known, NotApplicable, check
from vit_registers.interventions.kinds.interpolate_outliers import InterpolateOutliers, interpolated

NAMES = (0, "shapes", "vit", "interpolated")


def slow(patches, outliers, grid):
    """Patches (p, d) of one image, those at ``outliers`` replaced: a patch at a time."""
    height, width = grid
    out = patches.clone()
    for patch in outliers:
        y, x = divmod(patch, width)
        near = [(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if (dy, dx) != (0, 0)]
        near = [row * width + column for row, column in near if 0 <= row < height and 0 <= column < width]
        valid = [patches[other] for other in near if other not in outliers]
        if valid:
            out[patch] = sum(valid) / len(valid)
    return out


def slow_norms(patches, limit):
    return [i for i, patch in enumerate(patches) if sum(float(v) ** 2 for v in patch) ** 0.5 > limit]


@pytest.mark.parametrize("by", ["norm", "lof"])
def test_outliers_are_interpolated_as_one_image_at_a_time_by_hand(make, family, pixels, by_hand, by):
    backbone = make(family, torch.float64)
    at = backbone.layout.patch_slice
    limits = some_limits(backbone, pixels.double(), [0, 1])
    lof = LocalOutlierFactor(n_neighbors=7, contamination=0.2)

    def changed(layer, x):
        if layer == 2:
            return x
        if by == "norm":
            outliers = slow_norms(x[at], dict(limits)[layer])
        else:
            outliers = [i for i, label in enumerate(lof.fit_predict(x[at].numpy())) if label == -1]
        x = x.clone()
        x[at] = slow(x[at], outliers, backbone.layout.grid)
        return x

    settings = {} if by == "norm" else {"by": "lof", "neighbours": 7, "contamination": 0.2, "at": "every"}
    how = interpolate(limits if by == "norm" else ((0, None), (1, None)), **settings)
    assert assert_by_hand(backbone, pixels.double(), how, by_hand, change_output=changed) > 1e-2


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_neighbours_are_the_eight_on_the_grid_that_are_none(dtype):
    draw = torch.Generator().manual_seed(3)
    patches = torch.randn(40, 12, 5, generator=draw).to(dtype)
    outliers = torch.rand(40, 12, generator=draw) < torch.linspace(0.0, 1.0, 40)[:, None]
    found = interpolated(patches, outliers, (3, 4))
    assert found.dtype == dtype
    for image in range(40):
        expected = slow(patches[image].double(), outliers[image].nonzero().flatten().tolist(), (3, 4))
        tolerance = {torch.float64: 1e-12, torch.float32: 1e-6, torch.bfloat16: 1e-2}[dtype]
        torch.testing.assert_close(found[image].double(), expected, rtol=tolerance, atol=tolerance)
    assert torch.equal(found[~outliers], patches[~outliers])
    alone = torch.ones(1, 12, dtype=torch.bool)
    assert torch.equal(interpolated(patches[:1], alone, (3, 4)), patches[:1])  # among outliers alone


def test_infinite_outliers_do_not_spread():
    patches = torch.ones(1, 4, 2)
    patches[0, 0] = torch.inf
    assert torch.equal(interpolated(patches, torch.tensor([[True, False, False, False]]), (2, 2)), torch.ones(1, 4, 2))


def test_special_tokens_and_earlier_blocks_stay(make, pixels):
    backbone = make("dinov3")
    limits = some_limits(backbone, pixels, [1])
    before, after = passed(backbone, pixels)[0], passed(backbone, pixels, interpolate(limits))[0]
    assert torch.equal(after[:, 0], before[:, 0])
    assert torch.equal(after[:, 1, :5], before[:, 1, :5])
    assert not torch.equal(after[:, 1, 5:], before[:, 1, 5:])


def test_it_takes_what_detection_found_and_by_lof_nothing(make):
    backbone, known = make("dinov2"), Known(DETECTED, None, NAMES)
    assert InterpolateOutliers().resolve(backbone, known) == interpolate(((1, 7.0),))
    none = Known(NONE_FOUND, None, NAMES)
    assert InterpolateOutliers().resolve(backbone, none) == NotApplicable(NONE_FOUND["reason"])
    lof = InterpolateOutliers(by="lof")
    assert lof.resolve(backbone, none) == interpolate(((1, None),), by="lof")
    every = InterpolateOutliers(by="lof", at="every")
    assert every.resolve(backbone, none).blocks == ((0, None), (1, None), (2, None))
    with pytest.raises(InputError, match="condition 'interpolated': at: block 3 of a model of 3 blocks"):
        InterpolateOutliers(by="lof", at=3).resolve(backbone, none)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"neighbours": 7}, "neighbours: is of the local outlier factor, but by is norm; remove it"),
        ({"contamination": 0.1}, "contamination: is of the local outlier factor, but by is norm; remove it"),
        ({"by": "lof", "at": "arising"}, "at: arising is what detection found, but by is lof; name the block"),
        ({"by": "lof", "contamination": 0.6}, "contamination"),
    ],
)
def test_settings_that_do_not_fit_each_other_are_refused(settings, message):
    with pytest.raises(ValidationError, match=message):
        InterpolateOutliers(**settings)


def test_a_lone_patch_is_refused(make):
    backbone = make("dinov2")
    lone = replace(backbone, layout=replace(backbone.layout, grid=(1, 1)))
    with pytest.raises(InputError, match="model 'dinov2' has 1 patch; there is none beside it"):
        check(lone, interpolate(((1, 7.0),)))


def test_it_is_called_by_what_it_does():
    assert InterpolateOutliers().label() == "outliers interpolated"
    assert InterpolateOutliers(by="lof", at=-1).label() == "LOF outliers interpolated at the last block"
    assert InterpolateOutliers(at="arising").sentence(None) == (
        "patches whose norm exceeds the threshold of detection replaced by the mean of those of their eight neighbours "
        r"on the grid that are no outliers, at the output of the first block that has artifacts \citep{scclip2024}"
    )
    assert (
        InterpolateOutliers(by="lof")
        .sentence(None)
        .startswith(
            r"of every image the 5\,\% of the patches with the largest local outlier factor over 30 neighbours replaced"
        )
    )
    described = {str(interpolate(blocks).described()) for blocks in (((1, 7.0),), ((1, 8.0),), ((2, 7.0),))}
    assert len(described) == 3
