"""ViTs with random weights: what a probe reads from features that nothing was learnt for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import model_validator

from vit_registers.core.prose import plural
from vit_registers.models.bases import UnlearnedModel, plain_vit, refuse_uneven, sizes_sentence
from vit_registers.params.base import Depth, Heads, Side, Tokens, Width

if TYPE_CHECKING:
    from vit_registers.models.loaded import Loaded


class UntrainedModel(UnlearnedModel):
    """The ViT of the small recipe as it is before its first step; [CLS] and learned positions always."""

    made: ClassVar[str] = "random weights"

    kind: Literal["untrained"]
    image_size: Side
    patch_size: Side
    width: Width
    depth: Depth
    heads: Heads
    registers: Tokens = 0

    @model_validator(mode="after")
    def _even(self) -> Self:
        refuse_uneven(self.image_size, self.patch_size, self.width, self.heads)
        return self

    def label(self, name: str, params: Any) -> str:
        """What it lacks."""
        return "Untrained ViT" + (f", {plural(self.registers, 'register')}" if self.registers else "")

    def load(self, name: str, seed: int) -> Loaded:
        """The module with weights drawn from ``seed``."""
        import torch

        from vit_registers.models import backbone
        from vit_registers.models.loaded import Loaded

        sizes = (self.image_size, self.patch_size, self.width, self.depth, self.heads)
        architecture = plain_vit(*sizes, self.registers, classes=0)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            module = backbone.build(architecture)
        return Loaded(module, architecture, "random weights", self.seen())

    def origin(self) -> list[str]:
        """Sizes, and that nothing was trained."""
        sizes = sizes_sentence(self.width, self.depth, self.heads)
        patches = f"patches of ${self.patch_size} \\times {self.patch_size}$ pixels"
        return [f"a ViT with random weights, {sizes}, {plural(self.registers, 'register')}", patches]
