"""Averages over views against views that are cut and put back patch by patch."""

import itertools

import numpy as np
import pytest
import torch

from helpers.interventions import (
    ROWS,
    ablate,
    append,
    assert_untouched,
    average,
    chain,
    edit_values,
    restrict,
    weights_of,
)
from vit_registers.forward.readers.attention import AttentionRows
from vit_registers.forward.readers.norms import EmbeddingNorms, NeighbourCosines, Norms
from vit_registers.forward.readers.projections import Projections
from vit_registers.forward.readers.tokens import Patches, Tokens
from vit_registers.forward.reading import announce_rows, reading
from vit_registers.interventions.base import Known, NotApplicable, applied
from vit_registers.interventions.kinds.shift_average import ShiftAverage, farthest

NAMES = (0, "shapes", "vit", "averaged")
REACH = {"reach": 0.4, "views": 5}  # two patches on a grid of four by six
MIXED = (1, "shapes", "vit", "mixed")  # whose draws mirror some of these views


def final(backbone, pixels, how=None, of=ROWS):
    """What leaves the model (b, t, d)."""
    with applied(backbone, how), torch.inference_mode():
        announce_rows(of)
        return backbone.module.forward_features(pixels)


def slow_view(picture, view, patch):
    """An image (3, h, w) seen in a view: a pixel at a time."""
    down, right, mirrored = view
    _, height, width = picture.shape
    out = torch.zeros_like(picture)
    for y, x in itertools.product(range(height), range(width)):
        row, column = y - down * patch[0], x - right * patch[1]
        if 0 <= row < height and 0 <= column < width:
            out[:, y, x] = picture[:, row, width - 1 - column if mirrored else column]
    return out


def slow_average(backbone, picture, views, one_image, appended=0):
    """Patches (p, d): each patch's mean over the views that show it."""
    height, width = backbone.layout.grid
    found = {patch: [] for patch in itertools.product(range(height), range(width))}
    for view in [(0, 0, False), *views]:
        final = one_image(backbone, slow_view(picture, view, (8, 8)), appended=appended).final
        patches = final[backbone.layout.patch_slice].reshape(height, width, -1)
        down, right, mirrored = view
        for row, column in found:
            y, x = row + down, (width - 1 - column if mirrored else column) + right
            if 0 <= y < height and 0 <= x < width:
                found[row, column].append(patches[y, x])
    assert len({len(seen) for seen in found.values()}) > 1  # patches at the border are seen less often
    return torch.stack([sum(seen) / len(seen) for seen in found.values()])


@pytest.mark.parametrize("appended", [0, 2])
def test_patches_are_means_over_the_views_that_show_them(make, family, pixels, by_hand, appended):
    backbone, how = make(family, torch.float64), average(*MIXED, **REACH)
    views, weights = how.views(backbone.layout.grid), weights_of(backbone)
    assert {mirrored for _, _, mirrored in views} == {False, True}
    plain = final(backbone, pixels.double(), append(appended) if appended else None)
    found = final(backbone, pixels.double(), chain(append(appended), how) if appended else how)
    assert_untouched(backbone, weights)
    at = backbone.layout.patch_slice
    for image, picture in enumerate(pixels.double()[:2]):
        expected = slow_average(backbone, picture, views, by_hand, appended)
        torch.testing.assert_close(found[image, at], expected, rtol=0, atol=1e-6)
    special = list(backbone.layout.with_appended(appended).specials)
    assert torch.equal(found[:, special], plain[:, special])
    assert (found - plain).abs().amax() > 1e-2


def test_readers_see_the_image_as_it_is_and_the_means_where_they_read_what_leaves(make, pixels):
    backbone = make("dinov2_reg4")
    layout = backbone.layout

    def taken(how):
        kinds = (Tokens, Patches, Norms, AttentionRows, EmbeddingNorms, NeighbourCosines)
        readers = [*(of(backbone, layout) for of in kinds), Projections(backbone, layout, {"k": [-1]})]
        with applied(backbone, how), reading(backbone, readers, "fp32") as forward:
            for batch in pixels.split([3, 2]):
                forward(batch, range(len(batch)))
                yield {name: array for reader in readers for name, array in reader.take().items()}

    changed = {"patches", "patch_mean"}
    for before, after in zip(list(taken(None)), list(taken(average(*MIXED, **REACH))), strict=True):
        for name in before:
            assert np.array_equal(before[name], after[name], equal_nan=True) == (name not in changed), name


@pytest.mark.parametrize(
    "other",
    [
        ablate("registers"),
        ablate("patches", "zero", count=3, seed=1),
        restrict("patches"),
        edit_values(which="most_attended"),
    ],
    ids=lambda how: type(how).__name__,
)
def test_what_else_is_in_force_is_so_in_every_view(make, pixels, other):
    backbone, how = make("dinov2_reg4", torch.float64), average(*MIXED, **REACH)
    found = final(backbone, pixels.double(), chain(other, how))
    height, width = backbone.layout.grid
    total, seen = torch.zeros(5, height, width, 32, dtype=torch.float64), torch.zeros(height, width, 1)
    for view in [(0, 0, False), *how.views(backbone.layout.grid)]:
        seen_so = torch.stack([slow_view(picture, view, (8, 8)) for picture in pixels.double()])
        patches = final(backbone, seen_so, other)[:, backbone.layout.patch_slice].reshape(5, height, width, -1)
        down, right, mirrored = view
        for row, column in itertools.product(range(height), range(width)):
            y, x = row + down, (width - 1 - column if mirrored else column) + right
            if 0 <= y < height and 0 <= x < width:
                total[:, row, column] += patches[:, y, x]
                seen[row, column] += 1
    torch.testing.assert_close(found[:, backbone.layout.patch_slice], (total / seen).flatten(1, 2), rtol=0, atol=1e-6)


def test_an_exception_within_a_view_leaves_nothing_behind(make, pixels):
    backbone, weights = make("dinov2"), weights_of(make("dinov2"))
    calls = []

    def fail(module, inputs):
        calls.append(1)
        if len(calls) == 2:
            raise RuntimeError("midway")

    expected = final(backbone, pixels, average(*MIXED, **REACH))
    handle = backbone.blocks[1].register_forward_pre_hook(fail)
    with applied(backbone, average(*MIXED, **REACH)), torch.inference_mode():
        with pytest.raises(RuntimeError, match="midway"):
            backbone.module.forward_features(pixels)
        handle.remove()
        assert torch.equal(backbone.module.forward_features(pixels), expected)
    assert_untouched(backbone, weights)


def test_views_are_far_from_each_other_within_reach_and_those_of_the_condition():
    views = average().views((37, 37))
    assert len(views) == 9  # and the image as it is
    assert max(abs(side) for y, x, _ in views for side in (y, x)) <= 6  # .15 of 37
    assert len({view[:2] for view in views} | {(0, 0)}) == 10
    near = min(np.hypot(a[0] - b[0], a[1] - b[1]) for a, b in itertools.combinations([(0, 0), *views], 2))
    assert near > 3.0
    assert average().views((37, 37)) == views
    assert average(0, "shapes", "vit", "another").views((37, 37)) != views
    assert average(1, *NAMES[1:]).views((37, 37)) != views
    assert not any(mirrored for _, _, mirrored in average(mirror=False).views((37, 37)))
    wide = average(candidates=1000).views((4, 20))
    assert max(abs(y) for y, _, _ in wide) == 1
    assert max(abs(x) for _, x, _ in wide) == 3
    assert len(average(views=20, candidates=1000).views((8, 8))) == 8  # no more offsets than there are


def test_the_farthest_candidate_is_taken_each_time():
    candidates = [(1, 0), (0, 3), (2, 2), (0, 3), (0, 0)]
    assert farthest(candidates, 2) == [(0, 3), (2, 2)]
    assert farthest(candidates, 9) == [(0, 3), (2, 2), (1, 0)]
    assert farthest([(0, 0)], 4) == []


def test_a_grid_too_small_to_be_shifted_is_not_applicable(make):
    backbone = make("dinov2")  # four by six
    assert ShiftAverage().resolve(backbone, Known(None, None, NAMES)) == average()
    reason = "its 4 by 6 patches are too few to be shifted by 0.05 of them"
    assert ShiftAverage(reach=0.05).resolve(backbone, Known(None, None, NAMES)) == NotApplicable(reason)


def test_it_is_called_by_what_it_does():
    assert ShiftAverage().label() == "patches averaged over 10 shifts"
    assert ShiftAverage(views=4, mirror=False).label() == "patches averaged over 4 shifts, none mirrored"
    assert ShiftAverage(mirror=False).sentence(None) == (
        "patch tokens after the last block averaged over 10 views of the image (or as many as the grid has offsets), "
        r"shifted by whole patches within 15\,\% of its sides, each patch over the views that show it "
        r"\citep{phreg2025}"
    )
    hows = [average(), average(views=5), average(mirror=False), average(1, *NAMES[1:])]
    assert len({str(how.described()) for how in hows}) == 4
