"""What holds for interventions of every kind."""

import subprocess
import sys
from pathlib import Path
from typing import Annotated

import pytest
import torch
from pydantic import TypeAdapter, ValidationError

from helpers.interventions import (
    ablate,
    append,
    assert_untouched,
    average,
    chain,
    clip,
    edit_values,
    interpolate,
    move,
    passed,
    redirect,
    restrict,
    weights_of,
)
from vit_registers.core.errors import InputError
from vit_registers.interventions import kinds as package
from vit_registers.interventions.base import applied, check, described, layout_under, shuffles
from vit_registers.interventions.kinds.ablate import Ablate
from vit_registers.interventions.kinds.chain import Chain
from vit_registers.params.bases import Intervention
from vit_registers.params.kinds import KindsIn, kinds

KINDS = "vit_registers.interventions.kinds"
FILES = sorted(path.stem for path in Path(package.__file__).parent.glob("*.py") if path.stem != "__init__")
NEURONS = ((0, 3), (1, 17), (2, 30))
EVERY = [
    append(2),
    move(NEURONS, 2),
    ablate("registers"),
    ablate("cls", at="last"),
    restrict("patches"),
    chain(move(NEURONS, 2), restrict("registers", skip=True)),
    clip(((0, 5.0), (2, 5.0))),
    interpolate(((1, 5.0),)),
    redirect(which="most_attended"),
    edit_values(of="random_nonsink", which="most_attended"),
    average(views=3),
]


@pytest.mark.parametrize("where", ["after the pass", "within the pass"])
@pytest.mark.parametrize("intervention", EVERY, ids=repr)
def test_an_exception_leaves_the_model_bit_for_bit_as_it_was(make, pixels, intervention, where):
    backbone = make("dinov3")
    before, weights = passed(backbone, pixels)[1], weights_of(backbone)

    def fail(module, inputs):
        raise RuntimeError("midway")

    handle = backbone.blocks[2].register_forward_pre_hook(fail) if where == "within the pass" else None
    with pytest.raises(RuntimeError, match="midway"), applied(backbone, intervention):
        fail(None, backbone.module.forward_features(pixels))
    if handle:
        handle.remove()
    assert_untouched(backbone, weights)
    assert torch.equal(passed(backbone, pixels)[1], before)


def test_the_baseline_changes_nothing(make, pixels):
    backbone = make("dinov2_reg4")
    before = passed(backbone, pixels)[1]
    with applied(backbone, None) as layout:
        assert layout == backbone.layout
        assert torch.equal(passed(backbone, pixels)[1], before)
    assert described(None) is None
    assert not shuffles(None)
    check(backbone, None)


def test_the_layout_in_force_counts_appended_tokens(make):
    backbone = make("dinov2_reg4")
    found = {repr(how): layout_under(backbone, how).appended for how in EVERY}
    assert list(found.values()) == [2, 2, 0, 0, 0, 2, 0, 0, 0, 0, 0]
    for how in EVERY:
        with applied(backbone, how) as layout:
            assert layout == layout_under(backbone, how)


def test_descriptions_tell_interventions_apart():
    assert len({str(described(how)) for how in EVERY}) == len(EVERY)


def test_what_is_refused_is_refused_before_anything_is_hooked(make):
    backbone = make("dinov2")
    with pytest.raises(InputError, match="model 'dinov2' has no registers"), applied(backbone, ablate("registers")):
        pytest.fail("it was put in force")
    assert_untouched(backbone, weights_of(backbone))


def test_the_kinds_are_those_that_are_there_and_params_tell_them_by_their_name():
    found = kinds(KINDS, Intervention)
    assert set(found) == set(FILES)
    assert {"ablate", "append", "chain"} < set(found)
    assert set(kinds(KINDS, Intervention, "chain")) == set(found) - {"chain"}
    any_kind = TypeAdapter(Annotated[Intervention, KindsIn(KINDS)])
    zero = any_kind.validate_json('{"kind": "ablate", "tokens": "cls"}')
    assert zero == Ablate(tokens="cls")
    both = any_kind.validate_json(
        '{"kind": "chain", "of": [{"kind": "append", "tokens": 1}, ' + zero.model_dump_json() + "]}"
    )
    assert isinstance(both, Chain)
    assert any_kind.validate_json(any_kind.dump_json(both)) == both
    with pytest.raises(ValidationError, match="'replace' found using 'kind' does not match any of the expected tags"):
        any_kind.validate_json('{"kind": "replace", "tokens": "cls"}')


@pytest.mark.slow
def test_kinds_are_declared_without_torch():
    for module in FILES:
        code = f"import sys, {KINDS}.{module}; print('torch' in sys.modules, 'timm' in sys.modules)"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout == "False False\n"
