import pytest
import torch
from pydantic import ValidationError

from helpers.interventions import DETECTED, NONE_FOUND, assert_by_hand, move, slow_move
from vit_registers.core.errors import InputError
from vit_registers.interventions.base import Known, NotApplicable
from vit_registers.interventions.kinds.repeat_test_time_registers import RepeatTestTimeRegisters

NAMES = (0, "shapes", "vit", "again")
AGAIN = {"found": True, "neurons": [[2, 3, 5.0], [2, 11, 4.0], [0, 30, 3.0], [1, 1, 2.0]]}
NEURONS = ((1, 5), (0, 7), (1, 2), (1, 90), (2, 3), (2, 11), (0, 30), (1, 1))


def resolved(backbone, registers, **settings):
    return RepeatTestTimeRegisters(tokens=2, **settings).resolve(backbone, Known(registers, None, NAMES))


def test_the_neurons_of_all_rounds_are_moved_as_by_hand(make, pixels, by_hand):
    backbone = make("dinov2_reg4", torch.float64)
    how = resolved(backbone, DETECTED | {"repeats": [AGAIN]})
    assert how == move(NEURONS, 2)
    layout = backbone.layout.with_appended(2)

    def moved(layer, a):
        return slow_move(a, [index for at, index in NEURONS if at == layer], layout, how.how)

    assert assert_by_hand(backbone, pixels.double(), how, by_hand, appended=2, change_activation=moved) > 1e-2


def test_more_rounds_than_are_asked_for_are_left_alone(make):
    third = {"found": True, "neurons": [[0, 1, 1.0]] * 4}
    registers = DETECTED | {"repeats": [AGAIN, third]}
    assert resolved(make("dinov2"), registers) == move(NEURONS, 2)
    assert len(resolved(make("dinov2"), registers, rounds=3).neurons) == 12


def test_where_a_round_finds_nothing_it_does_not_apply(make):
    backbone, reason = make("dinov2"), NONE_FOUND["reason"]
    assert resolved(backbone, NONE_FOUND) == NotApplicable(reason)
    nothing = {"found": False, "reason": reason, "neurons": []}
    once = DETECTED | {"repeats": [nothing]}
    assert resolved(backbone, once) == NotApplicable(f"after 1 round of test-time registers: {reason}")
    assert resolved(backbone, once, rounds=3) == NotApplicable(f"after 1 round of test-time registers: {reason}")
    twice = DETECTED | {"repeats": [AGAIN, nothing]}
    assert resolved(backbone, twice, rounds=3) == NotApplicable(f"after 2 rounds of test-time registers: {reason}")


def test_it_is_refused_without_the_rounds_that_it_needs(make):
    with pytest.raises(InputError, match="condition 'again' moves register neurons; detect them first"):
        resolved(make("dinov2"), None)
    with pytest.raises(InputError, match=r"neurons of 2 rounds of detection; set detection\.repeats to 1, or more"):
        resolved(make("dinov2"), DETECTED)
    with pytest.raises(ValidationError, match="greater than or equal to 2"):
        RepeatTestTimeRegisters(tokens=1, rounds=1)


def test_it_is_called_by_what_it_does():
    again = RepeatTestTimeRegisters(tokens=4)
    assert (again.appended, again.moves_neurons, again.calibrated) == (4, True, False)
    assert again.label() == "4 test-time registers, 2 rounds"
    assert again.sentence(None) == (
        "4 test-time registers for the neurons of 2 rounds of detection, each on the model with the neurons of the "
        r"rounds before moved to an appended token \citep{outliers2026}"
    )
