import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from helpers.interventions import ROWS, ablate, append, chain, move, otherwise, passed, restrict, some_statistics
from vit_registers.core.errors import InputError
from vit_registers.interventions.base import Known, NotApplicable, check, shuffles
from vit_registers.interventions.kinds.ablate import Ablate
from vit_registers.interventions.kinds.append import Append
from vit_registers.interventions.kinds.chain import Chain
from vit_registers.interventions.kinds.restrict_cls_attention import RestrictClsAttention
from vit_registers.interventions.kinds.test_time_registers import TestTimeRegisters

FOUND = {"found": True, "top_k": 4, "neurons": [[1, 5, 9.0], [0, 7, 8.0], [1, 2, 7.0], [1, 90, 6.0]]}
NONE = {"found": False, "top_k": 4, "neurons": [], "reason": "no outlier patches found: 0.00% of the patches"}
NAMES = (0, "shapes", "vit", "both")
PARTS = ["cls", "registers", "patches", "moved", "restricted"]


def part(name, backbone):
    return {
        "cls": ablate("cls"),
        "registers": ablate("registers", "mean", statistics=some_statistics(backbone)),
        "patches": ablate("patches", count=2, seed=5),
        "moved": move(((0, 3), (1, 17)), 2),
        "restricted": restrict("patches"),
    }[name]


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.permutations(PARTS).flatmap(lambda order: st.integers(2, len(order)).map(lambda n: order[:n])))
def test_interventions_on_different_tokens_commute(make, order):
    backbone = make("dinov2_reg4", torch.float64)
    pixels = torch.randn(3, 3, 32, 48, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    parts = [part(name, backbone) for name in order]
    one = passed(backbone, pixels, chain(*parts), ROWS[:3])
    other = passed(backbone, pixels, chain(*reversed(parts)), ROWS[:3])
    assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_a_chain_of_one_token_twice_leaves_the_later(make, pixels):
    backbone = make("dinov2_reg4", torch.float64)
    mean = part("registers", backbone)
    both = passed(backbone, pixels.double(), chain(ablate("registers"), mean))[1]
    assert torch.equal(both, passed(backbone, pixels.double(), mean)[1])


def test_its_parts_are_resolved_one_by_one_and_know_of_tokens_that_another_appends(make):
    moved = TestTimeRegisters(tokens=1, top_k=1)
    both = Chain(of=[moved, RestrictClsAttention(to="registers")])
    expected = chain(move(((1, 5),), 1, top_k=1), restrict("registers"))
    assert both.resolve(make("dinov2"), Known(FOUND, None, NAMES)) == expected
    backwards = Chain(of=[RestrictClsAttention(to="registers"), moved])
    assert backwards.resolve(make("dinov2"), Known(FOUND, None, NAMES)) == chain(*reversed(expected.parts))
    assert both.resolve(make("dinov2"), Known(NONE, None, NAMES)) == NotApplicable(NONE["reason"])
    check(make("dinov2"), expected)
    with pytest.raises(InputError, match="condition 'both' moves register neurons"):
        both.resolve(make("dinov2"), Known(None, None, NAMES))


def test_it_is_what_its_parts_are(make):
    both = Chain(of=[Append(tokens=2), Ablate(tokens="cls", by="mean")])
    assert (both.appended, both.calibrated, both.moves_neurons) == (2, True, False)
    assert Chain(of=[TestTimeRegisters(tokens=0), Ablate(tokens="cls")]).moves_neurons
    assert Chain(of=[Append(tokens=2), Ablate(tokens="cls")]).label() == "2 zero tokens, [CLS] zeroed"
    assert Chain(of=[Append(tokens=2), Ablate(tokens="cls", at="last")]).sentence(SimpleParams) == (
        "2 zero tokens appended and nothing else touched; [CLS] replaced by zeros at the output of the last block "
        r"\citep{parodi2026}"
    )
    assert chain(append(2), ablate("cls")).described() == [append(2).described(), ablate("cls").described()]
    resampled = otherwise(ablate("cls", "resample"), seed=3)
    assert [shuffles(how) for how in (chain(append(2), ablate("cls")), chain(append(2), resampled))] == [False, True]


class SimpleParams:
    class calibration:
        images = 10


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('[{"kind": "append", "tokens": 1}]', "at least 2 items"),
        ('[{"kind": "append", "tokens": 1}, {"kind": "test_time_registers", "tokens": 2}]', "appends tokens twice"),
        ('[{"kind": "append", "tokens": 1}, {"kind": "chain", "of": []}]', "'chain' found using 'kind' does not match"),
    ],
)
def test_what_is_no_chain_is_refused(content, message):
    with pytest.raises(ValidationError, match=message):
        Chain.model_validate_json('{"kind": "chain", "of": ' + content + "}")
    Chain.model_validate_json(
        '{"kind": "chain", "of": [{"kind": "append", "tokens": 1}, {"kind": "ablate", "tokens": "cls"}]}'
    )
