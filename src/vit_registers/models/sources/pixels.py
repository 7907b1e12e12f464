"""Pixels in place of tokens: what a probe, LOST or a head reads from images without any model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import model_validator

from vit_registers.models.bases import UnlearnedModel
from vit_registers.params.base import Side

if TYPE_CHECKING:
    from vit_registers.models.loaded import Loaded

HIDDEN = 4  # times the width: channels of the MLP, which computes nothing


class Pixels(UnlearnedModel):
    """A stack of one block that changes nothing, so that everything that reads features reads pixels.

    Patch tokens, and queries, keys and values, are the normalised pixels of each patch (``reduce: none``), or its mean
    colour (``reduce: mean``). There is no [CLS]. Keys can be centred and compared as those of any model.
    """

    made: ClassVar[str] = "pixels"

    kind: Literal["pixels"]
    image_size: Side
    patch_size: Side
    reduce: Literal["none", "mean"] = "none"

    @model_validator(mode="after")
    def _whole_patches(self) -> Self:
        if self.image_size % self.patch_size:
            raise ValueError(f"patch_size: expected a divisor of image_size ({self.image_size}), got {self.patch_size}")
        return self

    def label(self, name: str, params: Any) -> str:
        """What tokens are."""
        return "Raw pixels" if self.reduce == "none" else "Mean colour"

    def load(self, name: str, seed: int) -> Loaded:
        """The stack, of which only the patch embedding and the projection to keys and values do anything."""
        import torch

        from vit_registers.models import backbone
        from vit_registers.models.loaded import Loaded

        area = self.patch_size**2
        width = 3 * area if self.reduce == "none" else 3
        architecture = {
            "img_size": self.image_size,
            "patch_size": self.patch_size,
            "embed_dim": width,
            "depth": 1,
            "num_heads": 1,
            "num_classes": 0,
            "mlp_ratio": HIDDEN,
            "class_token": False,
            "global_pool": "avg",
            "fc_norm": False,
            "identity_norms": True,
        }
        module: Any = backbone.build(architecture)
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.zero_()
            embedding = module.patch_embed.proj.weight  # (width, 3, side, side)
            if self.reduce == "none":
                embedding.copy_(torch.eye(width).view_as(embedding))
            else:
                embedding.copy_(torch.eye(3)[:, :, None, None].expand_as(embedding) / area)
            module.blocks[0].attn.qkv.weight.copy_(torch.eye(width).repeat(3, 1))
        return Loaded(module, architecture, self.label(name, None).lower(), self.seen())

    def origin(self) -> list[str]:
        """What tokens are."""
        what = "normalised pixels" if self.reduce == "none" else "mean colour"
        return [f"the {what} of each patch of ${self.patch_size} \\times {self.patch_size}$ in place of its token"]
