"""A small ViT with random weights and a tag on some of its positions."""

from typing import Any

import torch
from timm.models.vision_transformer import VisionTransformer

from vit_registers.models.backbone import Backbone
from vit_registers.models.preprocess import Preprocess
from vit_registers.models.supported import layout_of
from vit_registers.planted.activations import capture_inputs, residual_sites
from vit_registers.planted.tag import low_variance_direction, second_moment, tag

ARCHITECTURE: dict[str, Any] = {
    "img_size": 32,
    "patch_size": 8,
    "embed_dim": 32,
    "depth": 5,
    "num_heads": 2,
    "num_classes": 0,
    "reg_tokens": 1,
    "no_embed_class": True,
}
POSITIONS = [5, 10]
IMAGES = torch.randint(256, (40, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def make(**changes: Any) -> Backbone:
    """The model, whose neurons are often silent; ``changes`` are of its architecture."""
    architecture = {**ARCHITECTURE, **changes}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = VisionTransformer(**architecture).eval().requires_grad_(False)
        for parameter in module.parameters():
            if parameter.ndim == 2:
                parameter.normal_(0.0, 0.15)
    preprocess = Preprocess.square(32, 32, "bicubic", (0.5,) * 3, (0.5,) * 3)
    layout = layout_of(module, "tagged")
    metadata = {"architecture": architecture, "layout": layout.to_json(), "preprocess": preprocess.to_json()}
    metadata |= {"name": "tagged", "kind": "tagged", "parameters": 0, "tag": {"positions": POSITIONS}}
    backbone = Backbone("tagged", module, layout, preprocess, metadata)
    direction = low_variance_direction(second_moment(backbone, 3, IMAGES))
    sites = {"0": residual_sites(backbone)[0]}
    norm = float(next(capture_inputs(backbone, sites, IMAGES))["0"].norm(dim=-1).mean())
    tag(backbone, POSITIONS, direction, 3.0 * norm)
    return backbone
