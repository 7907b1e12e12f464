"""What recipes train, as params declare it: a ViT of one's own sizes, or one of timm's by name."""

from __future__ import annotations

from typing import Any

from pydantic import Field, PositiveFloat, PositiveInt

from vit_registers.core.prose import architecture, plural
from vit_registers.params.base import Share, Strict


class Architecture(Strict):
    """Sizes of timm's ``VisionTransformer``; [CLS] and learned positions always.

    ``layer_scale``: what LayerScale begins with, null for none. ``drop_path``: stochastic depth of the last block.
    """

    image_size: PositiveInt
    patch_size: PositiveInt
    width: PositiveInt
    depth: PositiveInt
    heads: PositiveInt
    layer_scale: PositiveFloat | None = None
    drop_path: Share = 0.0

    def arguments(self, registers: int, classes: int) -> dict[str, Any]:
        """Arguments of ``VisionTransformer``; registers carry no position embedding (darcet2024)."""
        scaled = {} if self.layer_scale is None else {"init_values": self.layer_scale}
        return {
            "img_size": self.image_size,
            "patch_size": self.patch_size,
            "embed_dim": self.width,
            "depth": self.depth,
            "num_heads": self.heads,
            "num_classes": classes,
            "reg_tokens": registers,
            "class_token": True,
            "no_embed_class": True,
            "weight_init": "jax",
            **scaled,
        }

    def sentence(self) -> str:
        """Blocks, width and heads, as LaTeX."""
        return f"{plural(self.depth, 'block')} of width {self.width} with {plural(self.heads, 'head')}"


class NamedArchitecture(Strict):
    """One of timm's ViTs from nothing; ``arguments`` go to timm."""

    name: str
    image_size: PositiveInt
    arguments: dict[str, Any] = Field(default={})

    def all_arguments(self, registers: int, classes: int, **further: Any) -> dict[str, Any]:
        """Name and arguments for timm, those of params last; registers carry no position embedding (darcet2024)."""
        return {
            "name": self.name,
            "img_size": self.image_size,
            **further,
            "no_embed_class": True,
            "reg_tokens": registers,
            "num_classes": classes,
            **self.arguments,
        }

    def sentence(self) -> str:
        """The architecture with its arguments and input size, as LaTeX."""
        return architecture(self.name, self.image_size, self.arguments)


def build_as_deit(arguments: dict[str, Any], drop_path: float) -> Any:
    """A module of timm whose [CLS] and registers are drawn as its weights: truncated normal with deviation .02.

    So do DeiT and DINO draw [CLS], and bach2025 its registers; timm draws both with 1e-6.
    """
    from torch import nn

    from vit_registers.models import backbone

    module: Any = backbone.build({**arguments, "drop_path_rate": drop_path})
    for token in (module.cls_token, module.reg_token):
        if token is not None:
            nn.init.trunc_normal_(token, std=0.02)
    return module
