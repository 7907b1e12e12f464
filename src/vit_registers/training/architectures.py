"""What recipes train, as params declare it: a ViT of one's own sizes, or one of timm's by name."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, PositiveFloat, model_validator

from vit_registers.core.prose import architecture
from vit_registers.models.bases import plain_vit, refuse_uneven, sizes_sentence
from vit_registers.params.base import Depth, Heads, Share, Side, Strict, Width


class Architecture(Strict):
    """Sizes of timm's ``VisionTransformer``; learned positions always.

    ``reads``: what the head does: [CLS], or of a model without [CLS] the mean patch, normalised after patches are
    averaged (``mean_patch``: long ones count more) or before (``mean_normalised_patch``). ``weights``: how the initial
    ones are drawn, Xavier-uniform as in the first ViTs (``jax``) or normal of deviation .02 (``deit``).
    ``layer_scale``: what LayerScale begins with, null for none. ``drop_path``: stochastic depth of the last block.
    """

    image_size: Side
    patch_size: Side
    width: Width
    depth: Depth
    heads: Heads
    reads: Literal["cls", "mean_patch", "mean_normalised_patch"] = "cls"
    weights: Literal["jax", "deit"] = "jax"
    layer_scale: PositiveFloat | None = None
    drop_path: Share = 0.0

    @model_validator(mode="after")
    def _even(self) -> Self:
        self.check()
        return self

    def check(self) -> None:
        """Raise ValueError where sizes do not fit each other."""
        refuse_uneven(self.image_size, self.patch_size, self.width, self.heads)

    def arguments(self, registers: int, classes: int) -> dict[str, Any]:
        """Arguments of ``VisionTransformer``."""
        scaled = {} if self.layer_scale is None else {"init_values": self.layer_scale}
        sizes = (self.image_size, self.patch_size, self.width, self.depth, self.heads)
        return plain_vit(*sizes, registers, classes, self.reads, self.weights) | scaled

    def sentence(self) -> str:
        """Blocks, width and heads, as LaTeX."""
        return sizes_sentence(self.width, self.depth, self.heads)


class NamedArchitecture(Strict):
    """One of timm's ViTs from nothing; ``arguments`` go to timm."""

    name: str
    image_size: Side
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
