"""OpenCLIP's visual towers, carried into timm's ViT.

OpenCLIP attends through ``nn.MultiheadAttention``, whose fast path no tap sees. Its weights are therefore moved into
timm's module of the same computation; a test holds the two equal.
"""

import difflib
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from textwrap import shorten
from typing import Any

import open_clip
import torch
from open_clip.transformer import QuickGELU
from open_clip.transformer import VisionTransformer as OpenClipTower
from torch import Tensor, nn

from vit_registers.core.errors import InputError, reason
from vit_registers.models import backbone
from vit_registers.models.loaded import Loaded
from vit_registers.models.supported import layout_of
from vit_registers.models.weights import files, hub
from vit_registers.models.weights.files import differences, unreadable
from vit_registers.models.weights.hub import HubFile, Pin

PICKLED = "open_clip_pytorch_model.bin"  # OpenCLIP's own name for weights that have no other

# Names of OpenCLIP's weights and of timm's, replaced in this order.
RENAMED = [
    ("conv1", "patch_embed.proj"),
    ("positional_embedding", "pos_embed"),
    ("class_embedding", "cls_token"),
    ("transformer.resblocks.", "blocks."),
    ("ln_pre", "norm_pre"),
    ("ln_post", "norm"),
    ("ln_", "norm"),
    ("attn.in_proj_", "attn.qkv."),
    ("attn.out_proj", "attn.proj"),
    ("mlp.c_fc", "mlp.fc1"),
    ("mlp.c_proj", "mlp.fc2"),
]


def architecture_of(tower: OpenClipTower, name: str) -> dict[str, Any]:
    """Arguments of :func:`backbone.build` that make timm's module of the same computation."""
    if not isinstance(tower, OpenClipTower):
        raise InputError(f"OpenCLIP tower of '{name}' is a {type(tower).__name__}; expected its VisionTransformer")
    block = tower.transformer.resblocks[0]
    activation = block.mlp.gelu
    if not isinstance(activation, QuickGELU | nn.GELU) or tower.ln_post.eps != nn.LayerNorm(1).eps:
        raise InputError(
            f"OpenCLIP tower of '{name}': {type(activation).__name__} and a LayerNorm epsilon of {tower.ln_post.eps}; "
            "expected GELU or QuickGELU and 1e-05"
        )
    return {
        "clip": True,
        "quick_gelu": isinstance(activation, QuickGELU),
        "img_size": [int(side) for side in tower.image_size],
        "patch_size": int(tower.patch_size[0]),
        "embed_dim": int(tower.conv1.out_channels),
        "depth": len(tower.transformer.resblocks),
        "num_heads": int(block.attn.num_heads),
        "mlp_ratio": block.mlp.c_fc.out_features / tower.conv1.out_channels,
    }


def convert(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A tower's state dict under timm's names and shapes; the projection to the text space is left out."""
    converted = {}
    for name, tensor in state.items():
        if name == "proj":
            continue
        for old, new in RENAMED:
            name = name.replace(old, new)
        shaped = {"cls_token": tensor[None, None] if tensor.ndim == 1 else tensor, "pos_embed": tensor[None]}
        converted[name] = shaped.get(name, tensor)
    return converted


def to_timm(tower: OpenClipTower, name: str) -> nn.Module:
    """timm's module with the weights of ``tower``; a tower that computes something else is refused."""
    module = backbone.build(architecture_of(tower, name))
    state = convert(tower.state_dict())
    different = sorted(state.keys() ^ module.state_dict().keys())
    if different:
        raise InputError(
            f"OpenCLIP tower of '{name}': its '{different[0]}' has no counterpart in timm's CLIP ViT, or the reverse; "
            "choose a plain ViT tower"
        )
    module.load_state_dict(state, assign=True)
    return module


def _create(
    architecture: str, tag: str | None, where: str, forced: bool = False, file: HubFile | None = None, **options: Any
) -> Any:
    """OpenCLIP's model; QuickGELU also where only the weights' tag asks for it, as OpenAI's do under a plain name.

    ``forced``: in any case. ``file``: the weights of the tag; without it they are random.
    """
    known = open_clip.get_pretrained_cfg(architecture, tag or "") or {}
    seen = {key: known[key] for key in ("mean", "std", "interpolation", "resize_mode") if key in known}
    positions = _positions(files.read(file.path, f"{where}: {file}")) if file else {}
    try:
        model = open_clip.create_model(
            architecture,
            pretrained=str(file.path) if file else None,
            force_quick_gelu=forced or bool(known.get("quick_gelu")),
            force_preprocess_cfg=seen,
            **options,
        )
    except Exception as error:  # of OpenCLIP, torch, timm: whatever a name or a file made them stumble over
        if file is None:
            raise InputError(f"{where}: OpenCLIP cannot make '{architecture}' ({reason(error)})") from None
        raise InputError(f"{where}: {file}: not the weights of '{architecture}' ({_why(error)})") from None
    own = _positions(model.state_dict())
    both = sorted(positions.keys() & own.keys())  # towers with a text tower of their own kind name it otherwise
    wrong = differences({key: positions[key] for key in both}, {key: own[key] for key in both})
    if wrong:
        raise InputError(f"{where}: {file}: not the weights of '{architecture}' ({wrong})")
    return model


def _positions(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Position embeddings of both towers, under their names: OpenCLIP resamples those of other sizes as it loads."""
    return {key: state[key] for key in ("visual.positional_embedding", "positional_embedding") if key in state}


def _why(error: Exception) -> str:
    """Why weights do not load. torch names the keys that do not fit below its first line."""
    if not str(error).startswith("Error(s) in loading"):
        return unreadable(error)
    return shorten(" ".join(str(error).partition(":")[2].split()), 300, placeholder=" ...")


def weights_of(architecture: str, tag: str | None, pin: Pin, where: str) -> HubFile | None:
    """The file with the weights of a tag, safetensors where its repository has them; None without a tag."""
    _refuse_unknown(architecture, tag, where)
    if tag is None:
        return None
    repository, _, file = open_clip.get_pretrained_cfg(architecture, tag)["hf_hub"].rpartition("/")
    names = [f"{file.rpartition('.')[0]}.safetensors", file] if file else ["open_clip_model.safetensors", PICKLED]
    return hub.download(repository, list(dict.fromkeys(names)), pin, where)


def _refuse_unknown(architecture: str, tag: str | None, where: str) -> None:
    """Refuse unknown names and towers that are no plain ViT before any weights are fetched."""
    if architecture not in open_clip.list_models():
        close = difflib.get_close_matches(architecture, open_clip.list_models(), n=3)
        raise InputError(f"{where}.name: OpenCLIP has no '{architecture}'; close are {', '.join(close) or 'none'}")
    tags = open_clip.list_pretrained_tags_by_model(architecture)
    if tag is not None and tag not in tags:
        raise InputError(f"{where}.pretrained: unknown tag '{tag}'; known are {', '.join(tags)}")
    with _empty(architecture, tag, where) as tower:
        layout_of(to_timm(tower, architecture), architecture)


@contextmanager
def _empty(architecture: str, tag: str | None, where: str) -> Iterator[Any]:
    """A tower without storage, on the meta device, which what is made within is on as well."""
    logging.disable(logging.WARNING)  # OpenCLIP would warn that the weights of this empty model are random
    try:
        with torch.device("meta"):
            yield _create(architecture, tag, where, device="meta").visual
    finally:
        logging.disable(logging.NOTSET)


def untrained(architecture: str, tag: str | None, where: str) -> dict[str, Any]:
    """Arguments of :func:`backbone.build` for an OpenCLIP tower, without its weights."""
    with _empty(architecture, tag, where) as tower:
        return architecture_of(tower, architecture)


def both_towers(architecture: str, tag: str | None, seed: int, where: str, forced: bool, file: HubFile | None) -> Any:
    """OpenCLIP's whole model, the text tower too; its weights are those of :func:`load` with the same arguments."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return _create(architecture, tag, where, forced, file).eval()


def load(architecture: str, tag: str | None, seed: int, where: str, forced: bool, file: HubFile | None) -> Loaded:
    """The visual tower at its own input size; without a ``file`` its weights are untrained, drawn from ``seed``.

    ``where`` is the key of params that messages open with; ``forced``: with QuickGELU, whatever the weights want;
    ``file``: see :func:`weights_of`.
    """
    model = both_towers(architecture, tag, seed, where, forced, file)
    tower = model.visual
    found = open_clip.get_model_preprocess_cfg(model)
    config = {
        "crop_pct": 1.0,
        "crop_mode": found["resize_mode"],
        **{key: found[key] for key in ("interpolation", "mean", "std")},
    }
    described = f"{architecture} ({tag or 'untrained'})"
    origin = file.to_json() if file else None
    return Loaded(to_timm(tower, architecture), architecture_of(tower, architecture), described, config, origin=origin)
