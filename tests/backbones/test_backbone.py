"""Saving, loading, laying out and preprocessing: what every model of the study goes through."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from timm.layers import Attention, DiffAttention
from timm.models import vision_transformer as vits
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision import transforms as tv

from vit_registers.backbones import backbone
from vit_registers.backbones.backbone import Preprocess
from vit_registers.backbones.layout import TokenLayout
from vit_registers.errors import InputError

TINY = {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2, "num_classes": 3}
DINOV3 = {
    "img_size": 32,
    "patch_size": 8,
    "embed_dim": 32,
    "depth": 2,
    "num_heads": 2,
    "num_classes": 0,
    "init_values": 1e-5,
    "num_reg_tokens": 4,
    "use_abs_pos_emb": False,
    "use_rot_pos_emb": True,
    "rope_type": "dinov3",
    "rope_rotate_half": True,
    "qkv_bias": False,
    "no_embed_class": True,
    "use_fc_norm": False,
}


def card(module: nn.Module, architecture: Any, **others: Any) -> dict[str, Any]:
    return {
        "name": "tiny",
        "kind": "trained",
        "architecture": architecture,
        "preprocess": Preprocess(32, 32, "bicubic", (0.5,) * 3, (0.25,) * 3).to_json(),
        "layout": backbone.layout_of(module, "tiny").to_json(),
        **others,
    }


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    module = backbone.build({**TINY, "reg_tokens": 2, "no_embed_class": True})
    backbone.save(tmp_path, module, card(module, {**TINY, "reg_tokens": 2, "no_embed_class": True}))
    return tmp_path


# --- saving and loading ----------------------------------------------------------------------------------------------


def test_a_saved_model_loads_as_the_same_function_frozen_and_in_eval_mode(tmp_path: Path) -> None:
    module = backbone.build({**TINY, "reg_tokens": 2})
    backbone.save(tmp_path, module, card(module, {**TINY, "reg_tokens": 2}))
    loaded = backbone.load(tmp_path)
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(loaded.module(images), module(images))
    assert not loaded.module.training
    assert not any(p.requires_grad for p in loaded.module.parameters())
    assert loaded.layout == TokenLayout(1, 2, (4, 4))
    assert loaded.preprocess == Preprocess(32, 32, "bicubic", (0.5,) * 3, (0.25,) * 3)
    assert (loaded.name, loaded.depth, loaded.width, loaded.device.type) == ("tiny", 2, 32, "cpu")


def test_same_weights_same_bytes(tmp_path: Path) -> None:
    module = backbone.build(TINY)
    for folder in ("a", "b"):
        backbone.save(tmp_path / folder, module, card(module, TINY))
    for file in ("model.json", "model.safetensors"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_one_flipped_bit_of_the_weights_is_refused(saved: Path) -> None:
    content = bytearray((saved / "model.safetensors").read_bytes())
    content[-5] ^= 1
    (saved / "model.safetensors").write_bytes(content)
    with pytest.raises(InputError, match=r"model\.safetensors: missing, or not the weights"):
        backbone.load(saved)


def test_missing_weights_and_a_missing_card_are_refused_by_name(saved: Path) -> None:
    (saved / "model.safetensors").unlink()
    with pytest.raises(InputError, match=r"model\.safetensors: missing"):
        backbone.load(saved)
    with pytest.raises(InputError, match=r"nowhere/model\.json: no such file"):
        backbone.load(saved / "nowhere")


def test_random_weights_come_back_from_their_seed_alone_and_are_checked(tmp_path: Path) -> None:
    before = torch.random.get_rng_state()
    module = backbone.from_hub("test_vit", {"seed": 5}, 64)
    assert torch.equal(torch.random.get_rng_state(), before)
    weights = {"seed": 5, "sha256": backbone.state_digest(module)}
    content = card(module, "test_vit", kind="timm", image_size=64, weights=weights)
    (tmp_path / "model.json").write_text(json.dumps(content))
    images = torch.randn(1, 3, 64, 64)
    assert torch.equal(backbone.load(tmp_path).module(images), module(images))
    (tmp_path / "model.json").write_text(json.dumps({**content, "weights": {**weights, "seed": 6}}))
    with pytest.raises(InputError, match="changed since first use"):
        backbone.load(tmp_path)


def test_the_digest_of_weights_tells_names_dtypes_shapes_and_bits_apart() -> None:
    def module(**tensors: Tensor) -> nn.Module:
        out = nn.Module()
        for name, tensor in tensors.items():
            out.register_buffer(name, tensor)
        return out

    ones = torch.ones(2, 3)
    bit = ones.clone()
    bit.view(torch.int32)[1, 2] ^= 1
    variants = [
        module(a=ones),
        module(b=ones),
        module(a=ones.view(3, 2)),
        module(a=bit),
        module(a=ones.view(torch.int32)),
        module(a=ones, b=torch.tensor(1.0)),  # a scalar has bytes, too
    ]
    assert len({backbone.state_digest(variant) for variant in variants}) == len(variants)
    strided = torch.ones(3, 2).T
    assert backbone.state_digest(module(a=strided)) == backbone.state_digest(module(a=ones))


def test_a_device_that_is_not_there_is_refused_and_auto_takes_one_that_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert backbone.pick_device("auto").type == "mps"
    with pytest.raises(InputError, match="'cuda' is not available here"):
        backbone.pick_device("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert backbone.pick_device("auto").type == "cuda"
    assert backbone.pick_device("cpu").type == "cpu"


def test_the_reason_of_an_error_is_its_first_line() -> None:
    assert backbone.reason(OSError("No route.\nTrace follows")) == "No route"
    assert backbone.reason(ConnectionError()) == "ConnectionError"


# --- layouts ---------------------------------------------------------------------------------------------------------


LAID_OUT: dict[str, tuple[Callable[[], nn.Module], TokenLayout]] = {
    "registers": (lambda: VisionTransformer(**TINY, reg_tokens=4), TokenLayout(1, 4, (4, 4))),
    "no cls, average": (
        lambda: VisionTransformer(**TINY, class_token=False, global_pool="avg"),
        TokenLayout(0, 0, (4, 4)),
    ),
    "attention pooling": (
        lambda: VisionTransformer(**TINY, class_token=False, global_pool="map", reg_tokens=1),
        TokenLayout(0, 1, (4, 4)),
    ),
    "dynamic size": (lambda: VisionTransformer(**TINY, dynamic_img_size=True), TokenLayout(1, 0, (4, 4))),
    "clip": (lambda: backbone.build({**TINY, "clip": True, "quick_gelu": True}), TokenLayout(1, 0, (4, 4))),
    "dinov3": (lambda: Eva(**DINOV3), TokenLayout(1, 4, (4, 4))),
    "mixed rotary": (
        lambda: Eva(**{**DINOV3, "rope_type": "mixed", "rope_rotate_half": False, "attn_type": "rope"}),
        TokenLayout(1, 4, (4, 4)),
    ),
    "eva02": (
        lambda: Eva(
            **{**DINOV3, "rope_type": "cat", "rope_rotate_half": False, "swiglu_mlp": True, "num_reg_tokens": 0}
        ),
        TokenLayout(1, 0, (4, 4)),
    ),
}


@pytest.mark.parametrize("which", LAID_OUT)
def test_the_layout_is_that_of_the_sequence_and_finding_it_leaves_the_model_alone(which: str) -> None:
    make, expected = LAID_OUT[which]
    module = make().train()
    before = backbone.state_digest(module)
    assert backbone.layout_of(module, which) == expected
    assert backbone.state_digest(module) == before
    assert module.training
    assert {p.device.type for p in module.parameters()} == {"cpu"}
    tokens = module.eval().forward_features(torch.randn(2, 3, 32, 32))  # type: ignore[operator]
    assert tokens.shape[1] == expected.length


def unfused() -> nn.Module:
    module = VisionTransformer(**TINY)
    module.blocks[1].attn.fused_attn = False
    return module


REFUSED: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "not a ViT": (lambda: nn.Linear(2, 2), "is a Linear; expected timm's VisionTransformer or Eva"),
    "one unfused attention": (unfused, "has 1 self-attentions over all 17 tokens in its 2 blocks"),
    "attention in pairs": (
        lambda: VisionTransformer(**TINY, attn_layer=DiffAttention),
        "has 4 self-attentions over all 17 tokens in its 2 blocks",
    ),
    "attention fused with the MLP": (
        lambda: VisionTransformer(**TINY, block_fn=vits.ParallelScalingBlock),
        r"2 blocks \(ParallelScalingBlock\); expected one in each, as its `attn`",
    ),
    "several attentions in a block": (
        lambda: VisionTransformer(**TINY, block_fn=vits.ParallelThingsBlock),
        r"has 4 self-attentions .* \(ParallelThingsBlock\)",
    ),
    "not square": (
        lambda: VisionTransformer(**{**TINY, "img_size": (32, 64)}),
        "32x64 pixels .* give another image_size",
    ),
    "cut patches": (lambda: VisionTransformer(**{**TINY, "img_size": 36}), "36x36 pixels in patches of 8x8"),
}


@pytest.mark.parametrize("which", REFUSED)
def test_what_cannot_be_measured_is_refused_by_name(which: str) -> None:
    make, message = REFUSED[which]
    with pytest.raises(InputError, match=message) as caught:
        backbone.layout_of(make(), "odd-one")
    assert str(caught.value).startswith("model 'odd-one'")
    assert "\n" not in str(caught.value)


def test_a_masked_attention_is_refused() -> None:
    class Causal(Attention):
        def forward(self, x: Tensor, attn_mask: Tensor | None = None, is_causal: bool = False) -> Tensor:
            b, t, d = x.shape
            q, k, v = self.qkv(x).reshape(b, t, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
            out = F.scaled_dot_product_attention(q, k, v, is_causal=True)
            return self.proj(out.transpose(1, 2).reshape(b, t, d))  # type: ignore[no-any-return]

    with pytest.raises(InputError, match="has 0 self-attentions"):
        backbone.layout_of(VisionTransformer(**TINY, attn_layer=Causal), "causal")


def test_other_prefix_tokens_are_refused() -> None:
    from timm.models.deit import VisionTransformerDistilled

    with pytest.raises(InputError, match="neither \\[CLS\\] nor registers"):
        backbone.layout_of(VisionTransformerDistilled(**TINY), "distilled")


# --- preprocessing ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(50, 40), (40, 50), (28, 28), (31, 97)])
def test_preprocessing_is_torchvisions_resize_crop_and_normalise(size: tuple[int, int]) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    image = Image.fromarray(noise)
    mean, std = (0.1, 0.2, 0.3), (0.4, 0.5, 0.6)
    mode = tv.InterpolationMode.BICUBIC
    obvious = tv.Compose([tv.Resize(28, mode), tv.CenterCrop(24), tv.ToTensor(), tv.Normalize(mean, std)])
    ours = Preprocess(24, 28, "bicubic", mean, std)
    assert ours(image).shape == (3, 24, 24)
    assert ours.pixels(image).dtype == torch.uint8
    torch.testing.assert_close(ours(image), obvious(image), rtol=0, atol=1e-6)


def test_preprocessing_of_an_image_of_the_right_size_changes_no_pixel() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (24, 24, 3), dtype=np.uint8)
    ours = Preprocess(24, 24, "bicubic", (0.5,) * 3, (0.5,) * 3)
    assert np.array_equal(ours.pixels(Image.fromarray(pixels)).permute(1, 2, 0).numpy(), pixels)
    assert Preprocess.from_json(json.loads(json.dumps(ours.to_json()))) == ours
