"""How learned position embeddings get to another grid than they were made for, as params declare it."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from vit_registers.core.prose import setting
from vit_registers.params.base import Strict


class PositionResampling(Strict):
    """How learned position embeddings get to another grid: bicubic, with antialiasing and no offset as timm does.

    DINOv2 without registers was trained with ``antialias: false, offset: 0.1`` (its code adds 0.1 to the new side
    before it divides, and samples by that ratio), DINOv2 with registers with ``antialias: true, offset: 0.0``.
    """

    antialias: bool = True
    offset: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if self.antialias and self.offset:
            raise ValueError("offset: nobody's models were trained with antialias and an offset; take one of them")
        return self

    def sentence(self) -> str:
        """How learned position embeddings got to another grid, as LaTeX."""
        antialiased = "with antialiasing" if self.antialias else "without antialiasing"
        offset = (
            f" and with {setting(self.offset)} added to the new sides before they are divided" if self.offset else ""
        )
        return f"position embeddings resampled bicubically {antialiased}{offset}"
