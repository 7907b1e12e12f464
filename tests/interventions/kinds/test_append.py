import pytest
import torch

from helpers.interventions import append, assert_by_hand, passed
from vit_registers.interventions.base import Known, applied
from vit_registers.interventions.kinds.append import Append


@pytest.mark.parametrize("tokens", [1, 4])
def test_appended_zeros_are_those_of_one_image_at_a_time(make, family, pixels, by_hand, tokens):
    backbone = make(family, torch.float64)
    change = assert_by_hand(backbone, pixels.double(), append(tokens), by_hand, appended=tokens)
    assert change > 1e-3  # they are attended to


def test_an_appended_token_enters_clips_blocks_as_the_bias_of_the_norm_before_them(make, pixels):
    backbone, entered = make("clip"), []
    handle = backbone.blocks[0].register_forward_pre_hook(lambda m, inputs: entered.append(inputs[0]))
    with applied(backbone, append(2)) as layout:
        backbone.module.forward_features(pixels)
    handle.remove()
    bias = backbone.module.norm_pre.bias
    assert bias.abs().min() > 0
    torch.testing.assert_close(entered[0][:, layout.appended_slice], bias.expand(len(pixels), 2, -1))


def test_appended_tokens_have_no_order_and_no_position(make, family, pixels):
    backbone = make(family, torch.float64)
    tokens = passed(backbone, pixels.double(), append(3))[1]
    appended = tokens[:, backbone.layout.with_appended(3).appended_slice]
    torch.testing.assert_close(appended, appended[:, :1].expand_as(appended), rtol=0, atol=1e-12)


def test_it_asks_for_nothing_and_is_called_by_its_number(make):
    one = Append(tokens=1)
    assert one.resolve(make("without_cls"), Known(None, None, (0, "d", "m", "c"))) == append(1)
    assert (one.appended, one.calibrated, one.moves_neurons) == (1, False, False)
    assert (one.label(), Append(tokens=4).label()) == ("1 zero token", "4 zero tokens")
    assert Append(tokens=2).sentence(None) == "2 zero tokens appended and nothing else touched"
    assert append(2).described() == {"kind": "append", "tokens": 2}
