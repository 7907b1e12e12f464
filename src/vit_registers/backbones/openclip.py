"""OpenCLIP's visual towers, carried into timm's ViT.

OpenCLIP attends through ``nn.MultiheadAttention``, whose fast path no tap sees. Its weights are therefore moved into
timm's module of the same computation; a test holds the two equal.
"""

import difflib
from pathlib import Path
from typing import Any

import open_clip
from open_clip.transformer import QuickGELU
from open_clip.transformer import VisionTransformer as OpenClipTower
from torch import Tensor, nn

from vit_registers.backbones import backbone
from vit_registers.backbones.backbone import Preprocess
from vit_registers.errors import InputError
from vit_registers.params import OpenClipModel

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


def architecture_of(tower: OpenClipTower) -> dict[str, Any]:
    """Arguments of :func:`backbone.build` that make timm's module of the same computation."""
    if not isinstance(tower, OpenClipTower):
        raise InputError(f"OpenCLIP tower {type(tower).__name__}: expected its VisionTransformer")
    block = tower.transformer.resblocks[0]
    return {
        "clip": True,
        "quick_gelu": isinstance(block.mlp.gelu, QuickGELU),
        "img_size": int(tower.image_size[0]),
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


def to_timm(tower: OpenClipTower) -> nn.Module:
    """timm's module with the weights of ``tower``."""
    module = backbone.build(architecture_of(tower))
    module.load_state_dict(convert(tower.state_dict()))
    return module


def fetch(source: OpenClipModel, name: str, out: Path) -> None:
    """Write the tower of ``source`` as a model of this pipeline; ``pretrained: null`` asks for untrained weights."""
    if source.name not in open_clip.list_models():
        close = difflib.get_close_matches(source.name, open_clip.list_models(), n=3)
        raise InputError(f"models.{name}.name: OpenCLIP has no '{source.name}'; close are {', '.join(close) or 'none'}")
    tags = open_clip.list_pretrained_tags_by_model(source.name)
    if source.pretrained is not None and source.pretrained not in tags:
        raise InputError(f"models.{name}.pretrained: unknown tag '{source.pretrained}'; known are {', '.join(tags)}")
    options = {} if source.image_size is None else {"force_image_size": source.image_size}
    try:
        model = open_clip.create_model(source.name, pretrained=source.pretrained, **options)
    except (OSError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"models.{name}: weights of '{source.name}' cannot be had ({reason}); connect first") from None
    tower = model.visual.eval()
    module = to_timm(tower)
    config = open_clip.get_model_preprocess_cfg(model)
    size = int(tower.image_size[0])
    preprocess = Preprocess(size, size, str(config["interpolation"]), tuple(config["mean"]), tuple(config["std"]))
    card = {
        "name": name,
        "kind": "openclip",
        "source": f"{source.name} {source.pretrained or 'untrained'}",
        "architecture": architecture_of(tower),
        "preprocess": preprocess.to_json(),
        "layout": backbone.layout_of(module, name).to_json(),
        "parameters": sum(p.numel() for p in module.parameters()),
    }
    backbone.save(out, module, card)
