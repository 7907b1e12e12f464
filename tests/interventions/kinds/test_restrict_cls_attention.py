import itertools

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from helpers.interventions import append, assert_by_hand, chain, passed, restrict
from vit_registers.core.errors import InputError
from vit_registers.interventions.base import Known, NotApplicable, check
from vit_registers.interventions.kinds.restrict_cls_attention import RestrictClsAttention

WITH_REGISTERS = ("dinov2_reg4", "dinov3", "deit3_reg4")
KNOWN = Known(None, None, (0, "shapes", "vit", "only"))


def allowed(layout, to, cls):
    whole = list(range(layout.length))
    registers = whole[layout.register_slice] + whole[layout.appended_slice]
    patches = whole[layout.patch_slice]
    tokens = {"patches": patches, "registers": registers, "all": patches + registers, "nothing": []}[to]
    return tokens + ([0] if cls == "keep" else [])


@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize(
    ("name", "to", "cls", "appended"),
    [(name, "patches", "drop", 0) for name in ("dinov2", "dinov2_reg4", "dinov3", "clip", "swiglu_packed")]
    + [(name, "registers", "drop", 0) for name in WITH_REGISTERS]
    + [("dinov2", "registers", "drop", 2), ("deit3_reg4", "registers", "drop", 2), ("clip", "nothing", "drop", 0)]
    + [("dinov2_reg4", to, "keep", 0) for to in ("patches", "registers", "nothing")]
    + [("dinov3", "all", "drop", 0), ("deit3_reg4", "all", "drop", 2)],
)
def test_cls_sums_over_the_allowed_tokens_only(make, pixels, by_hand, name, to, cls, appended, skip):
    backbone = make(name, torch.float64)
    how = chain(append(appended), restrict(to, skip, cls)) if appended else restrict(to, skip, cls)
    layout, last = backbone.layout.with_appended(appended), backbone.depth - 1

    def weights(layer, map_):
        if layer == last:
            map_ = map_.clone()
            for token in range(layout.length):
                if token not in allowed(layout, to, cls):
                    map_[:, 0, token] = 0.0
        return map_

    def left_out(layer, x):
        if layer == last and not skip:
            x = x.clone()
            x[0] = 0.0
        return x

    changes = {"change_weights": weights, "change_skip": left_out}
    assert_by_hand(backbone, pixels.double(), how, by_hand, appended, tolerance=1e-5, **changes)


@pytest.mark.parametrize("name", ["dinov2_reg4", "dinov3", "clip"])
def test_all_tokens_without_the_skip_lacks_the_skip_alone(make, pixels, by_hand, name):
    backbone = make(name, torch.float64)

    def left_out(layer, x):
        x = x.clone()
        x[0] *= float(layer < backbone.depth - 1)
        return x

    how = restrict("all", cls="keep")
    assert assert_by_hand(backbone, pixels.double(), how, by_hand, tolerance=1e-5, change_skip=left_out) > 1e-3
    before, after = passed(backbone, pixels.double())[0], passed(backbone, pixels.double(), how)[0]
    torch.testing.assert_close(after[:, :, 1:], before[:, :, 1:], rtol=0, atol=1e-10)
    torch.testing.assert_close(after[:, :-1], before[:, :-1], rtol=0, atol=1e-10)


def test_what_restricts_nothing_is_refused():
    with pytest.raises(ValidationError, match="to: all with cls: keep and the skip restricts nothing"):
        RestrictClsAttention(to="all", cls="keep", skip=True)


def test_the_parts_add_up_to_the_whole(make, pixels):
    """Attention outputs of [CLS] over patches and registers are the full one less [CLS]'s own: they are its addends."""
    backbone, found = make("dinov2_reg4", torch.float64), {}
    attn = backbone.blocks[-1].attn
    both = {"both": restrict("all"), "itself": restrict("nothing", cls="keep"), "full": restrict("all", cls="keep")}
    parts = {to: restrict(to) for to in ("patches", "registers", "nothing")}
    for name, how in {"whole": None, **parts, **both}.items():
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
    torch.testing.assert_close(found["itself"], own, rtol=0, atol=1e-5)
    torch.testing.assert_close(found["both"], found["patches"] + found["registers"], rtol=0, atol=1e-5)
    torch.testing.assert_close(found["full"], found["whole"], rtol=0, atol=1e-5)


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
    assert RestrictClsAttention(to="nothing", skip=True).label() == "[CLS] attends to nothing, with its skip"
    assert RestrictClsAttention(to="patches").sentence(None) == (
        "in the last block the attention output of [CLS] sums over patches only, not renormalised, without its skip "
        r"connection \citep{lappe2025}"
    )
    assert "with its skip" in RestrictClsAttention(to="patches", skip=True).sentence(None)
    assert RestrictClsAttention(to="all", cls="keep").label() == "[CLS] without its skip"
    assert RestrictClsAttention(to="all", cls="keep").sentence(None) == (
        "in the last block the skip connection of [CLS] around its attention is left out"
    )
    assert RestrictClsAttention(to="all").label() == "[CLS] attends to patches and registers only"
    assert RestrictClsAttention(to="patches", cls="keep").label() == "[CLS] attends to [CLS] itself and patches only"
    choices = itertools.product(["all", "patches", "registers", "nothing"], [False, True], ["keep", "drop"])
    possible = [choice for choice in choices if choice != ("all", True, "keep")]
    for said in (lambda how: str(how.described()), lambda how: how.how.label(), lambda how: how.how.sentence(None)):
        assert len({said(restrict(*choice)) for choice in possible}) == 15
