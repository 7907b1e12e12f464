"""The tap against softmax maps that are built whole, in float64, and against attention written out by hand."""

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import nn

from helpers.interventions import append
from helpers.passes import FAMILIES
from vit_registers.core.errors import InputError
from vit_registers.forward.readers.attention import attention_by_group
from vit_registers.forward.tap import tapped
from vit_registers.interventions.base import applied
from vit_registers.models import attention
from vit_registers.models.backbone import Backbone
from vit_registers.models.layout import TokenLayout

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}
# Every family in full precision, and in half one of each way to norm queries and to rotate them.
PASSES = [*((family, "fp32") for family in FAMILIES), *((f, "bf16") for f in ("dinov2_reg4", "dinov3", "without_cls"))]
# The kernel's exponentials are less exact in half precision, and so is its log-sum-exp.
TOLERANCES = {torch.float32: 1e-5, torch.bfloat16: 2e-4}


def untouched(backbone, pixels, dtype=torch.float32):
    """Tokens, and q, k of every block as the model gives them to the attention function, without the tap."""
    seen, original = [], F.scaled_dot_product_attention

    def watched(q, k, v, **options):
        seen.append((q.to(dtype), k.to(dtype)))
        return original(q, k, v, **options)

    with pytest.MonkeyPatch.context() as patch, torch.inference_mode():
        patch.setattr(F, "scaled_dot_product_attention", watched)
        with torch.autocast("cpu", dtype, enabled=dtype is not torch.float32):
            tokens = backbone.module.forward_features(pixels)
    return tokens, seen


def under_the_tap(backbone, pixels, dtype=torch.float32):
    """Tokens and what the tap reads of every block."""
    read = []
    with tapped(backbone, lambda layer, attention: read.append((layer, attention))), torch.inference_mode():
        with torch.autocast("cpu", dtype, enabled=dtype is not torch.float32):
            tokens = backbone.module.forward_features(pixels)
        assert [layer for layer, _ in read] == list(range(backbone.depth))
    return tokens, [attention for _, attention in read]


def hooks(module):
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in module.modules())


def whole_map(q, k):
    logits = q.double() @ k.double().transpose(-1, -2) / q.shape[-1] ** 0.5
    return logits.softmax(dim=-1)


def slow_by_group(whole, layout):
    """One token after the other: where it is, and what it gives to each group."""
    groups = (
        list(range(layout.length))[layout.cls_slice],
        [*list(range(layout.length))[layout.register_slice], *list(range(layout.length))[layout.appended_slice]],
        list(range(layout.length))[layout.patch_slice],
    )
    flows = torch.full((len(whole), 3, 3), torch.nan, dtype=torch.float64)
    for image, of_image in enumerate(whole.mean(1)):
        for i, source in enumerate(groups):
            for j, target in enumerate(groups):
                if source and target:
                    given = [sum(float(of_image[token, other]) for other in target) for token in source]
                    flows[image, i, j] = sum(given) / len(given)
    return flows


@pytest.mark.parametrize(("family", "precision"), PASSES)
def test_tokens_under_the_tap_are_those_of_the_untouched_model_bit_for_bit(make, family, pixels, precision):
    backbone = make(family)
    expected, _ = untouched(backbone, pixels, PRECISIONS[precision])
    found, _ = under_the_tap(backbone, pixels, PRECISIONS[precision])
    assert torch.equal(found, expected)


@pytest.mark.parametrize(("family", "precision"), PASSES)
def test_rows_columns_and_attention_by_group_are_those_of_the_whole_map(make, family, pixels, precision):
    backbone, dtype = make(family), PRECISIONS[precision]
    layout = backbone.layout
    _, expected = untouched(backbone, pixels, dtype)
    _, read = under_the_tap(backbone, pixels, dtype)
    close = {"rtol": 0, "atol": TOLERANCES[dtype], "check_dtype": False}
    for (q, k), found in zip(expected, read, strict=True):
        whole = whole_map(q, k)
        assert whole.amax() > 0.3  # peaked: a uniform map would hide an error
        tokens = [*layout.specials, layout.length - 1, layout.prefix]
        torch.testing.assert_close(found.rows(tokens), whole[:, :, tokens], **close)
        torch.testing.assert_close(found.columns(tokens), whole[..., tokens], **close)
        torch.testing.assert_close(found.full(), whole, **close)
        torch.testing.assert_close(
            attention_by_group(found.columns(layout.specials).mean(1), layout),
            slow_by_group(whole, layout),
            equal_nan=True,
            **close,
        )
        assert found.rows(layout.specials).shape == (*whole.shape[:2], len(layout.specials), layout.length)


def test_maps_of_a_lengthened_sequence_are_those_of_attention_written_out(make, family, pixels, by_hand):
    """q and k are taken after their norms and rotary embeddings, which appended tokens do not have."""
    backbone = make(family, torch.float64)
    with applied(backbone, append(3)) as layout:
        _, read = under_the_tap(backbone, pixels.double())
    for image, picture in enumerate(pixels.double()):
        for found, expected in zip(read, by_hand(backbone, picture, appended=3).maps, strict=True):
            torch.testing.assert_close(found.full()[image], expected.float(), rtol=0, atol=1e-5)
            expected_flow = slow_by_group(expected[None], layout)[0]
            torch.testing.assert_close(
                attention_by_group(found.columns(layout.specials).mean(1), layout)[image],
                expected_flow.float(),
                rtol=0,
                atol=1e-5,
                equal_nan=True,
            )


def test_summaries_made_within_an_autocast_pass_are_those_made_after_it(make, pixels):
    """Readers ask while the model computes in half precision; what they get is float32 all the same."""
    backbone, within, after = make("dinov2_reg4"), [], []

    def summaries(attention):
        return [
            attention.rows([0, 7]),
            attention.columns([0, 7]),
            attention_by_group(attention.columns(backbone.layout.specials).mean(1), backbone.layout),
        ]

    def read(layer, attention):
        within.extend(summaries(attention))
        after.append(attention)

    with tapped(backbone, read), torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        backbone.module.forward_features(pixels)
    expected = [summary for attention in after for summary in summaries(attention)]
    for found, other in zip(within, expected, strict=True):
        assert found.dtype == torch.float32
        assert torch.equal(found, other)


def test_attention_by_group_is_nan_for_groups_that_are_empty_and_its_rows_sum_to_one(make, pixels):
    backbone = make("dinov2")
    _, read = under_the_tap(backbone, pixels)
    given = attention_by_group(read[0].columns(backbone.layout.specials).mean(1), backbone.layout)
    assert given[:, 1].isnan().all()
    assert given[:, :, 1].isnan().all()
    torch.testing.assert_close(given[:, [0, 2]].nansum(-1), torch.ones(len(pixels), 2))


def test_every_pass_within_one_context_is_read(make, pixels):
    backbone, layers = make("dinov3"), []
    with tapped(backbone, lambda layer, attention: layers.append((layer, len(attention.q)))), torch.inference_mode():
        for batch in pixels.split([2, 3]):
            backbone.module.forward_features(batch)
    assert layers == [(layer, size) for size in (2, 3) for layer in range(3)]


def test_a_device_without_a_kernel_gives_the_same(make, pixels, monkeypatch):
    backbone = make("dinov2_reg4")
    expected_tokens, expected = under_the_tap(backbone, pixels)
    monkeypatch.setattr(attention, "fused", lambda *arguments: None)
    tokens, read = under_the_tap(backbone, pixels)
    assert torch.equal(tokens, expected_tokens)
    for found, other in zip(read, expected, strict=True):
        torch.testing.assert_close(found.full(), other.full(), rtol=0, atol=1e-5)


# --- what is not measured, and what is refused -----------------------------------------------------------------------


class Attending(nn.Module):
    """Attention that calls ``attend`` on its input as one head."""

    def __init__(self, attend):
        super().__init__()
        self.attend = attend

    def forward(self, x):
        return self.attend(x[:, None])[:, 0]


class Stub(nn.Module):
    """Two blocks of attention and nothing else."""

    def __init__(self, attend):
        super().__init__()
        self.blocks = nn.ModuleList(nn.ModuleDict({"attn": Attending(attend)}) for _ in range(2))
        self.norm = nn.Identity()

    def forward_features(self, x):
        for block in self.blocks:
            x = block["attn"](x)
        return self.norm(x)


def stub(attend):
    module = Stub(attend)
    for block in module.blocks:
        block.attn = block["attn"]
    return Backbone("stub", module, TokenLayout(1, 0, (2, 2)), None, {})


def test_a_scale_of_the_models_own_is_kept():
    backbone = stub(lambda x: F.scaled_dot_product_attention(x, x, x, scale=0.9))
    x = torch.randn(2, 5, 4, generator=torch.Generator().manual_seed(0))
    expected = backbone.module.forward_features(x)
    tokens, read = under_the_tap(backbone, x)
    assert torch.equal(tokens, expected)
    logits = 0.9 * x @ x.transpose(1, 2)
    torch.testing.assert_close(read[0].full()[:, 0], logits.softmax(-1), rtol=0, atol=1e-6)


def test_queries_and_keys_in_full_precision_are_cast_as_autocast_does():
    backbone = stub(lambda x: F.scaled_dot_product_attention(x, x, x))
    x = torch.randn(2, 5, 4, generator=torch.Generator().manual_seed(0))
    expected, [(q, k), _] = untouched(backbone, x, torch.bfloat16)
    tokens, read = under_the_tap(backbone, x, torch.bfloat16)
    assert tokens.dtype == expected.dtype == torch.bfloat16
    assert torch.equal(tokens, expected)
    assert torch.equal(read[0].q, q)
    torch.testing.assert_close(read[0].full().double(), whole_map(q, k), rtol=0, atol=TOLERANCES[torch.bfloat16])


@pytest.mark.parametrize(
    "attend",
    [
        lambda x: F.scaled_dot_product_attention(x, x, x, attn_mask=torch.eye(5, dtype=torch.bool)),
        lambda x: F.scaled_dot_product_attention(x, x, x, is_causal=True),
        lambda x: F.scaled_dot_product_attention(x, x, x, dropout_p=0.5),
        lambda x: F.scaled_dot_product_attention(x, x[:, :, 1:], x[:, :, 1:]),
        lambda x: F.scaled_dot_product_attention(x.expand(-1, 2, -1, -1), x, x, enable_gqa=True)[:, :1],
    ],
    ids=["masked", "causal", "dropout", "cross", "grouped"],
)
def test_attention_that_is_not_plain_self_attention_is_refused(attend):
    backbone = stub(attend)
    backbone.module.forward_features(torch.randn(2, 5, 4))  # it runs; it only cannot be measured
    with pytest.raises(InputError, match=r"model 'stub' \(Stub\): its attention .* cannot be measured"):
        under_the_tap(backbone, torch.randn(2, 5, 4))


def twice(x):
    return F.scaled_dot_product_attention(F.scaled_dot_product_attention(x, x, x), x, x)


@pytest.mark.parametrize(("attend", "seen"), [(lambda x: x, 0), (twice, 4)], ids=["never", "twice"])
def test_blocks_that_attend_never_or_twice_are_refused_by_name(attend, seen):
    with pytest.raises(InputError, match=rf"model 'stub' \(Stub\): {seen} of 2 attentions"):
        under_the_tap(stub(attend), torch.randn(2, 5, 4))


@pytest.mark.parametrize(("name", "kind"), [("dinov2", "VisionTransformer"), ("dinov3", "Eva")])
def test_a_model_with_one_attention_that_bypasses_the_function_is_refused_by_name(make, pixels, name, kind):
    backbone = make(name)
    backbone.blocks[1].attn.fused_attn = False
    with pytest.raises(InputError, match=rf"model '{name}' \({kind}\): 2 of 3 attentions"):
        under_the_tap(backbone, pixels)


def test_a_mask_given_to_a_real_model_is_refused(make, pixels):
    backbone = make("dinov2")
    mask = torch.ones(backbone.layout.length, backbone.layout.length, dtype=torch.bool)
    with pytest.raises(InputError, match="masked"), tapped(backbone, lambda layer, attention: None):
        backbone.module.forward_features(pixels, attn_mask=mask)


def test_as_many_attentions_as_blocks_in_the_wrong_blocks_are_refused():
    backbone = stub(twice)
    backbone.blocks[1].attn.attend = lambda x: x
    with pytest.raises(InputError, match="model 'stub'"):
        under_the_tap(backbone, torch.randn(2, 5, 4))


def test_attention_outside_the_blocks_passes_through_unread(make):
    backbone, read = make("dinov2"), []
    q, k, v = torch.randn(3, 1, 2, 6, 8, generator=torch.Generator().manual_seed(0))
    expected = F.scaled_dot_product_attention(q, k[:, :, 1:], v[:, :, 1:], dropout_p=0.0, is_causal=True)
    with tapped(backbone, lambda layer, attention: read.append(layer)):
        found = F.scaled_dot_product_attention(q, k[:, :, 1:], v[:, :, 1:], dropout_p=0.0, is_causal=True)
    assert torch.equal(found, expected)
    assert read == []


def test_attention_that_pools_the_tokens_is_not_taken_for_a_block(pixels):
    module = timm.create_model(
        "vit_base_patch16_siglip_224", img_size=(32, 48), patch_size=8, embed_dim=32, depth=2, num_heads=2
    )
    backbone, read = Backbone("siglip", module.eval(), TokenLayout(0, 0, (4, 6)), None, {}), []
    with torch.inference_mode():
        expected = module(pixels)
        with tapped(backbone, lambda layer, attention: read.append(layer)):
            found = module(pixels)
    assert module.attn_pool.fused_attn
    assert torch.equal(found, expected)
    assert read == [0, 1]


@pytest.mark.parametrize("fails", [False, True])
def test_leaving_takes_every_hook_back_also_after_an_exception(make, pixels, fails):
    backbone, read = make("dinov2"), []

    def reader(layer, attention):
        read.append(layer)
        if fails and layer == 1:
            raise RuntimeError("the reader fails")

    def passes():
        with tapped(backbone, reader):
            assert hooks(backbone.module) == 2 * backbone.depth + 1
            backbone.module.forward_features(pixels)

    if fails:
        with pytest.raises(RuntimeError, match="the reader fails"):
            passes()
    else:
        passes()
    assert hooks(backbone.module) == 0
    before = list(read)
    backbone.module.forward_features(pixels)
    assert read == before
