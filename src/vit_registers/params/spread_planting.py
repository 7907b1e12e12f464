"""How register neurons are planted that are hard to detect."""

from typing import Annotated, Self

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from vit_registers.params.base import Strict


class SpreadPlanting(Strict):
    """Register neurons spread over ``blocks``, ``neurons`` in each; see :mod:`vit_registers.planted.spread`.

    Each fires by itself on every patch that the base's tag marks, at an activation of one's choice, and writes an equal
    part of an artifact of ``norm_ratio`` times the median patch norm at the last block: the smaller its activation, the
    larger its output column. ``decoys`` of each kind are planted beside them: neurons that are active on every token,
    and neurons of the block behind that merely respond to artifacts, both at ``decoy_activation``. ``images`` of the
    training split are what all of them are fitted on.
    """

    blocks: Annotated[list[NonNegativeInt], Field(min_length=1)]
    neurons: PositiveInt
    norm_ratio: PositiveFloat
    decoys: NonNegativeInt
    decoy_activation: PositiveFloat
    images: PositiveInt

    @model_validator(mode="after")
    def _blocks_in_order(self) -> Self:
        if self.blocks != sorted(set(self.blocks)):
            raise ValueError(f"blocks: expected each once, in ascending order, got {self.blocks}")
        return self
