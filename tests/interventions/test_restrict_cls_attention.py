import pytest
import torch
from torch import nn

from helpers.interventions import append, assert_by_hand, chain, passed, restrict
from vit_registers.core.errors import InputError
from vit_registers.interventions.base import Known, NotApplicable, check
from vit_registers.interventions.kinds.restrict_cls_attention import RestrictClsAttention

WITH_REGISTERS = ("dinov2_reg4", "dinov3", "deit3_reg4")
KNOWN = Known(None, None, (0, "shapes", "vit", "only"))


def allowed(layout, to):
    whole = list(range(layout.length))
    patches, appended = whole[layout.patch_slice], whole[layout.appended_slice]
    return {"patches": patches, "registers": whole[layout.register_slice] + appended, "nothing": []}[to]


@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize(
    ("name", "to", "appended"),
    [(name, "patches", 0) for name in ("dinov2", "dinov2_reg4", "dinov3", "clip", "swiglu_packed")]
    + [(name, "registers", 0) for name in WITH_REGISTERS]
    + [("dinov2", "registers", 2), ("deit3_reg4", "registers", 2), ("clip", "nothing", 0)],
)
def test_cls_sums_over_the_allowed_tokens_only(make, pixels, by_hand, name, to, appended, skip):
    backbone = make(name, torch.float64)
    how = chain(append(appended), restrict(to, skip)) if appended else restrict(to, skip)
    layout, last = backbone.layout.with_appended(appended), backbone.depth - 1

    def weights(layer, map_):
        if layer == last:
            map_ = map_.clone()
            for token in range(layout.length):
                if token not in allowed(layout, to):
                    map_[:, 0, token] = 0.0
        return map_

    def left_out(layer, x):
        if layer == last and not skip:
            x = x.clone()
            x[0] = 0.0
        return x

    changes = {"change_weights": weights, "change_skip": left_out}
    assert_by_hand(backbone, pixels.double(), how, by_hand, appended, tolerance=1e-5, **changes)


def test_the_parts_add_up_to_the_whole(make, pixels):
    """Attention outputs of [CLS] over patches and registers are the full one less [CLS]'s own: they are its addends."""
    backbone, found = make("dinov2_reg4", torch.float64), {}
    attn = backbone.blocks[-1].attn
    for name, how in (("whole", None), *((to, restrict(to)) for to in ("patches", "registers", "nothing"))):
        handle = attn.proj.register_forward_pre_hook(
            lambda m, inputs, name=name: found.__setitem__(name, inputs[0][:, 0])
        )
        passed(backbone, pixels.double(), how)
        handle.remove()
    assert found["nothing"].abs().max() == 0
    own = found["whole"] - found["patches"] - found["registers"]
    values = []
    handle = attn.register_forward_pre_hook(lambda m, inputs: values.append(inputs[0]))
    passed(backbone, pixels.double())
    handle.remove()
    q, k, v = attn.qkv(values[0]).reshape(5, -1, 3, attn.num_heads, 16).permute(2, 0, 3, 1, 4)
    weights = (q @ k.transpose(-1, -2) / 4).softmax(-1)
    expected = (weights[:, :, :1, :1] * v[:, :, :1]).transpose(1, 2).reshape(5, -1)
    torch.testing.assert_close(own, expected, rtol=0, atol=1e-5)


def test_a_model_without_such_tokens_is_not_applicable(make):
    only = RestrictClsAttention(to="registers")
    assert only.resolve(make("dinov2"), KNOWN) == NotApplicable("the model has no registers")
    assert only.resolve(make("without_cls"), KNOWN) == NotApplicable("the model has no [CLS]")
    assert only.resolve(make("dinov2_reg4"), KNOWN) == restrict("registers")


@pytest.mark.parametrize(
    ("name", "how", "message"),
    [
        ("dinov2", restrict("registers"), "model 'dinov2' has no registers for what \\[CLS\\] attends to"),
        ("without_cls", restrict("patches"), "model 'without_cls' has no \\[CLS\\]"),
    ],
)
def test_what_cannot_be_done_is_refused_before_any_image(make, name, how, message):
    with pytest.raises(InputError, match=message):
        check(make(name), how)


def test_the_skip_can_only_be_left_out_of_a_block_that_norms_before_it_attends(make):
    backbone = make("dinov2")

    class Other(nn.Module):
        pass

    backbone.module.blocks[-1] = Other()
    with pytest.raises(InputError, match=r"last block \(Other\) that does not norm before it attends: keep the skip"):
        check(backbone, restrict("patches"))
    check(backbone, restrict("patches", skip=True))


def test_it_is_called_by_what_it_does():
    assert RestrictClsAttention(to="patches").label() == "[CLS] attends to patches only"
    assert RestrictClsAttention(to="nothing", skip=True).label() == "[CLS] attends to nothing only, with its skip"
    assert RestrictClsAttention(to="patches").sentence(None) == (
        "in the last block the attention output of [CLS] sums over patches only, not renormalised, without its skip "
        r"connection \citep{lappe2025}"
    )
    assert "with its skip" in RestrictClsAttention(to="patches", skip=True).sentence(None)
    every = [restrict(to, skip).described() for to in ("patches", "registers", "nothing") for skip in (False, True)]
    assert len({str(one) for one in every}) == 6
