"""One tiny random backbone per family, and the same passes by hand: one image at a time, attention written out."""

import os
import signal
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import pytest
import timm
import torch
from timm.layers import GluMlp, SwiGLU
from torch import Tensor, nn

from vit_registers.extraction import join, shards, store
from vit_registers.models import backbone as backbones
from vit_registers.models.backbone import Backbone
from vit_registers.models.layout import TokenLayout
from vit_registers.models.preprocess import Preprocess

torch.set_num_threads(1)

TINY = {"img_size": (32, 48), "patch_size": 8, "embed_dim": 32, "depth": 3, "num_heads": 2, "num_classes": 0}
GRID = (4, 6)
FAMILIES: dict[str, tuple[Callable[[], nn.Module], TokenLayout]] = {
    "dinov2": (lambda: timm.create_model("vit_small_patch14_dinov2", **TINY), TokenLayout(1, 0, GRID)),
    "dinov2_reg4": (lambda: timm.create_model("vit_small_patch14_reg4_dinov2", **TINY), TokenLayout(1, 4, GRID)),
    "dinov3": (lambda: timm.create_model("vit_small_patch16_dinov3", **TINY), TokenLayout(1, 4, GRID)),
    "rope_per_block": (lambda: timm.create_model("vit_small_patch16_rope_mixed_224", **TINY), TokenLayout(1, 0, GRID)),
    "deit3_reg4": (
        lambda: timm.create_model("deit3_small_patch16_224", reg_tokens=4, no_embed_class=False, **TINY),
        TokenLayout(1, 4, GRID),
    ),
    "clip": (lambda: backbones.build({"clip": True, "quick_gelu": True, **TINY}), TokenLayout(1, 0, GRID)),
    "swiglu_packed": (lambda: timm.create_model("vit_giant_patch14_dinov2", **TINY), TokenLayout(1, 0, GRID)),
    "swiglu": (
        lambda: timm.create_model("vit_base_patch16_224", mlp_layer=SwiGLU, act_layer=nn.SiLU, **TINY),
        TokenLayout(1, 0, GRID),
    ),
    "without_cls": (
        lambda: timm.create_model("vit_base_patch16_siglip_gap_224", qk_norm=True, **TINY),
        TokenLayout(0, 0, GRID),
    ),
}

# Models that norm after pooling: what leaves their blocks is not normed by forward_features.
NORM_AFTER_POOLING: dict[str, tuple[Callable[[], nn.Module], TokenLayout]] = {
    "reg4_gap": (lambda: timm.create_model("vit_betwixt_patch16_reg4_gap_256", **TINY), TokenLayout(0, 4, GRID)),
    "eva02": (lambda: timm.create_model("eva02_tiny_patch14_224", **TINY), TokenLayout(1, 0, GRID)),
}


def randomise(module: nn.Module) -> nn.Module:
    """Weights at which every part of the model matters: attention is peaked, no branch is scaled away."""
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, weights in module.named_parameters():
            noise = torch.randn(weights.shape, generator=draw)
            if name in ("cls_token", "reg_token", "pos_embed"):
                weights.copy_(noise)
            elif weights.ndim > 1:
                weights.copy_(noise * (2.0 if "qkv" in name else 1.0) / weights[0].numel() ** 0.5)
            else:
                weights.copy_(0.2 * noise + (0.0 if name.endswith("bias") else 1.0))
    return module.eval().requires_grad_(False)


def make_backbone(family: str, dtype: torch.dtype = torch.float32) -> Backbone:
    build, layout = (FAMILIES | NORM_AFTER_POOLING)[family]
    preprocess = Preprocess.square(32, 32, "bicubic", (0.5,) * 3, (0.25,) * 3)
    return Backbone(family, randomise(build()).to(dtype), layout, preprocess, {})


@pytest.fixture
def make() -> Callable[..., Backbone]:
    """Function that makes the backbone of a family."""
    return make_backbone


@pytest.fixture(params=FAMILIES)
def family(request) -> str:
    """Each family's name in turn."""
    return request.param


@pytest.fixture
def pixels() -> Tensor:
    """Five different images."""
    return torch.randn(5, 3, 32, 48, generator=torch.Generator().manual_seed(1))


@dataclass
class Pass:
    """One image's tokens (t, d) after the final norm and, of every block, its raw output (t, d), fc2's input (t, h),
    queries, keys and values (heads, t, d / heads), and the softmax map (heads, t, t).
    """

    final: Tensor
    outputs: list[Tensor] = field(default_factory=list)
    activations: list[Tensor] = field(default_factory=list)
    queries: list[Tensor] = field(default_factory=list)
    keys: list[Tensor] = field(default_factory=list)
    values: list[Tensor] = field(default_factory=list)
    maps: list[Tensor] = field(default_factory=list)


def rotated(x: Tensor, rope: Tensor, halves: bool) -> Tensor:
    """Rotary embedding of (h, n, d / h) by angles whose sines and cosines are (n, d / h) each, or (h, n, d / h)."""
    sine, cosine = rope.chunk(2, dim=-1)
    if halves:
        first, second = x.chunk(2, dim=-1)
        turned = torch.cat([-second, first], dim=-1)
    else:
        turned = torch.stack([-x[..., 1::2], x[..., 0::2]], dim=-1).flatten(-2)
    return x * cosine + turned * sine


def attend(
    attn: nn.Module,
    x: Tensor,
    rope: Tensor | None,
    layout: TokenLayout,
    change: Callable[[Tensor], Tensor],
    change_values: Callable[[Tensor, Tensor], Tensor],
) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor], Tensor]:
    """Output (t, d), q, k and v (h, t, d / h) and softmax map (h, t, t) of self-attention on (t, d), written out."""
    tokens, width = x.shape
    projected = x @ attn.qkv.weight.T
    if attn.qkv.bias is not None:
        projected = projected + attn.qkv.bias
    elif getattr(attn, "q_bias", None) is not None:
        projected = projected + torch.cat([attn.q_bias, torch.zeros_like(attn.q_bias), attn.v_bias])
    q, k, v = projected.reshape(tokens, 3, attn.num_heads, -1).permute(1, 2, 0, 3)
    q, k = attn.q_norm(q), attn.k_norm(k)
    if rope is not None:  # patches only: [CLS], registers and appended tokens have no position
        q, k = q.clone(), k.clone()
        for placed in (q, k):
            placed[:, layout.patch_slice] = rotated(placed[:, layout.patch_slice], rope, attn.rotate_half)
    logits = q @ k.transpose(1, 2) / q.shape[-1] ** 0.5
    weights = logits.exp() / logits.exp().sum(-1, keepdim=True)
    taken = change_values(weights, v)
    return attn.proj((change(weights) @ taken).transpose(0, 1).reshape(tokens, width)), (q, k, v), weights


def hidden(mlp: nn.Module, x: Tensor) -> Tensor:
    """What enters fc2."""
    if isinstance(mlp, SwiGLU):
        gate, value = mlp.fc1_g(x), mlp.fc1_x(x)
    elif isinstance(mlp, GluMlp):
        gate, value = mlp.fc1(x).chunk(2, dim=-1)
    else:
        return mlp.act(mlp.fc1(x))
    return gate * torch.sigmoid(gate) * value


def branch_scale(block: nn.Module, branch: int) -> Tensor | float:
    """LayerScale of a block's attention (1) or MLP (2), under timm's two names for it."""
    scale = getattr(block, f"gamma_{branch}", None)
    if scale is None:
        scale = getattr(getattr(block, f"ls{branch}", None), "gamma", None)
    return 1.0 if scale is None else scale


def one_image(
    backbone: Backbone,
    image: Tensor,
    appended: int = 0,
    change_activation: Callable[[int, Tensor], Tensor] = lambda layer, a: a,
    change_output: Callable[[int, Tensor], Tensor] = lambda layer, x: x,
    change_weights: Callable[[int, Tensor], Tensor] = lambda layer, weights: weights,
    change_skip: Callable[[int, Tensor], Tensor] = lambda layer, x: x,
    change_values: Callable[[int, Tensor, Tensor], Tensor] = lambda layer, weights, values: values,
) -> Pass:
    """An image (3, h, w) through a backbone, block by block."""
    module = backbone.module
    with torch.no_grad():
        embedded = module._pos_embed(module.patch_embed(image[None]))
        x, rope = embedded if isinstance(embedded, tuple) else (embedded, None)
        x = module.norm_pre(torch.cat([x[0], x.new_zeros(appended, x.shape[2])]))
        seen = Pass(x)
        for layer, block in enumerate(module.blocks):
            of_layer = rope[layer] if getattr(module, "rope_mixed", False) else rope
            changed = partial(change_weights, layer), partial(change_values, layer)
            mixed, projected, weights = attend(block.attn, block.norm1(x), of_layer, backbone.layout, *changed)
            x = change_skip(layer, x) + branch_scale(block, 1) * mixed
            a = change_activation(layer, hidden(block.mlp, block.norm2(x)))
            x = x + branch_scale(block, 2) * (a @ block.mlp.fc2.weight.T + block.mlp.fc2.bias)
            x = change_output(layer, x)
            seen.outputs.append(x)
            seen.activations.append(a)
            for kept, projection in zip((seen.queries, seen.keys, seen.values), projected, strict=True):
                kept.append(projection)
            seen.maps.append(weights)
        seen.final = module.norm(x)
    return seen


@pytest.fixture
def by_hand() -> Callable[..., Pass]:
    """Function that passes one image by hand."""
    return one_image


def run_until_line(work: Callable[[], None], number: int) -> bool:
    """Do ``work`` in a process of its own that is killed (SIGKILL) before line ``number`` of what writes features
    (store.py, shards.py, join.py and files.py), counted as they are run; whether it came that far.
    """
    process = os.fork()
    if process == 0:
        followed = {store.__file__, shards.__file__, join.__file__, sys.modules["vit_registers.core.files"].__file__}
        lines = 0

        def follow(frame, event, argument):
            nonlocal lines
            if frame.f_code.co_filename not in followed:
                return None
            if event == "line":
                if lines == number:
                    os.kill(os.getpid(), signal.SIGKILL)
                lines += 1
            return follow

        try:
            sys.settrace(follow)
            work()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    assert status in (0, -signal.SIGKILL)
    return status != 0


@pytest.fixture
def killed_before_line() -> Callable[[Callable[[], None], int], bool]:
    """Function that does some work in a process which is killed before a line of the store."""
    return run_until_line
