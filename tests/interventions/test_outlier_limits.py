import pytest
import torch

from helpers.interventions import DETECTED, NONE_FOUND
from vit_registers.core.errors import InputError
from vit_registers.interventions.base import Known, NotApplicable
from vit_registers.interventions.outlier_limits import limits, norms, where
from vit_registers.models.layout import TokenLayout

NAMES = (0, "shapes", "vit", "clipped")


def known(registers):
    return Known(registers, None, NAMES)


@pytest.mark.parametrize(
    ("at", "expected"),
    [
        ("arising", ((1, 7.0),)),
        ("deciding", ((2, 8.0),)),
        ("every", ((0, 6.0), (1, 7.0), (2, 8.0))),
        (0, ((0, 6.0),)),
        (-2, ((1, 7.0),)),
    ],
)
def test_every_block_has_the_threshold_that_detection_has_for_it(at, expected):
    assert limits(at, 3, known(DETECTED)) == expected


def test_without_outlier_patches_it_does_not_apply_and_without_neurons_it_does():
    assert limits("arising", 3, known(NONE_FOUND)) == NotApplicable(NONE_FOUND["reason"])
    ranked = NONE_FOUND | {"images_ranked": 0}  # as where no share of outliers is asked for, and none is there
    assert limits("arising", 3, known(ranked)) == NotApplicable(NONE_FOUND["reason"])
    without_neurons = DETECTED | {"found": False, "reason": "no register neurons found: 2 neurons fire"}
    assert limits("arising", 3, known(without_neurons)) == ((1, 7.0),)


def test_it_is_refused_before_detection_and_at_blocks_that_are_not_there():
    with pytest.raises(InputError, match="condition 'clipped' changes outlier patches; detect them first"):
        limits("arising", 3, known(None))
    for at in (3, -4):
        with pytest.raises(InputError, match=f"'clipped': at: block {at} of a model of 3 blocks; expected -3 to 2"):
            limits(at, 3, known(DETECTED))


def test_norms_are_those_of_patches_alone():
    layout = TokenLayout(1, 2, (1, 2), appended=1)
    tokens = torch.arange(12.0).reshape(1, 6, 2)
    torch.testing.assert_close(norms(tokens, layout), torch.tensor([[6.0**2 + 7.0**2, 8.0**2 + 9.0**2]]).sqrt())


def test_blocks_in_words():
    said = [where(at) for at in ("arising", "deciding", "every", 2, -1)]
    assert said[2:] == ["every block", "block 2", "the last block"]
    assert len(set(said)) == 5
