"""How learned position embeddings get to another grid than they were made for."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from vit_registers.params.base import Strict


class PositionResampling(Strict):
    """How learned position embeddings get to another grid; DINOv2 without registers: antialias false, offset 0.1."""

    antialias: bool = True
    offset: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if self.antialias and self.offset:
            raise ValueError("offset: nobody's models were trained with antialias and an offset; take one of them")
        return self
