"""ViTs with random weights: what a probe reads from features that nothing was learnt for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import NonNegativeInt, PositiveInt

from vit_registers.core.prose import plural
from vit_registers.models.bases import UnlearnedModel

if TYPE_CHECKING:
    from vit_registers.models.loaded import Loaded


class UntrainedModel(UnlearnedModel):
    """The ViT of the small recipe as it is before its first step; [CLS] and learned positions always."""

    made: ClassVar[str] = "random weights"

    kind: Literal["untrained"]
    image_size: PositiveInt
    patch_size: PositiveInt
    width: PositiveInt
    depth: PositiveInt
    heads: PositiveInt
    registers: NonNegativeInt = 0

    def label(self, name: str, params: Any) -> str:
        """What it lacks."""
        return "Untrained ViT" + (f", {plural(self.registers, 'register')}" if self.registers else "")

    def load(self, name: str, seed: int) -> Loaded:
        """The module with weights drawn from ``seed``."""
        import torch

        from vit_registers.models import backbone
        from vit_registers.models.loaded import Loaded

        architecture = {
            "img_size": self.image_size,
            "patch_size": self.patch_size,
            "embed_dim": self.width,
            "depth": self.depth,
            "num_heads": self.heads,
            "num_classes": 0,
            "reg_tokens": self.registers,
            "class_token": True,
            "no_embed_class": True,
            "weight_init": "jax",
        }
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            module = backbone.build(architecture)
        return Loaded(module, architecture, "random weights", self.seen())

    def origin(self) -> list[str]:
        """Sizes, and that nothing was trained."""
        sizes = f"{plural(self.depth, 'block')} of width {self.width} with {plural(self.heads, 'head')}"
        patches = f"patches of ${self.patch_size} \\times {self.patch_size}$ pixels"
        return [f"a ViT with random weights, {sizes}, {plural(self.registers, 'register')}", patches]
