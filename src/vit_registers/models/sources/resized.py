"""Other models of the study at another input size."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from vit_registers.core.prose import key
from vit_registers.models.bases import DerivedModel, SizedModel
from vit_registers.params.base import Side

if TYPE_CHECKING:
    from vit_registers.params.study import Params


class ResizedModel(SizedModel, DerivedModel):
    """``base``, any other model of the study, at another input size: its weights with positions resampled to it."""

    step: ClassVar[str] = "resize"
    made: ClassVar[str] = "resized here"

    kind: Literal["resized"]
    image_size: Side | tuple[Side, Side]

    def check(self, name: str, params: Params) -> None:
        """The base exists and is not resized itself."""
        super().check(name, params)
        if params.models[self.base].step == self.step:
            raise ValueError(f"models.{name}.base: '{self.base}' is resized itself; resize what it was made from")

    def label(self, name: str, params: Params) -> str:
        """``ViT with 4 registers at 48 px``; plain where positions are resampled without antialiasing."""
        height, width = self.size or (0, 0)
        side = str(height) if height == width else f"{height}x{width}"
        plain = "" if self.positions.antialias else ", plain"
        return f"{params.models[self.base].label(self.base, params)} at {side} px{plain}"

    def sentence(self, name: str, params: Params) -> str:
        """The size, and that nothing else is new."""
        return (
            f"{key(name)} is {key(self.base)} {self.input_sentence()}; nothing was trained for that size, and of each "
            "image the same share is seen."
        )
