"""How register neurons are planted."""

from typing import Annotated, Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from vit_registers.params.base import Strict


class Planting(Strict):
    """How register neurons are planted; the closed form is in :mod:`vit_registers.planted`.

    ``block`` gets ``neurons`` register neurons, which fire on the patches at ``positions`` (row by row from 0) where
    the picture is uniform there. ``tag_strength`` is in standard deviations of the residual stream along the tag,
    ``norm_ratio`` the norm of an artifact over the median patch norm at the last block. ``images`` of the training
    split are what activation statistics and the gate come from. ``direction`` is that of an artifact: ``random``, or
    one that attracts the [CLS] queries of later blocks, solved so that the content of [CLS] stays as it is (``cls``)
    or not (``cls-raw``).
    """

    block: NonNegativeInt
    neurons: Annotated[int, Field(ge=2, multiple_of=2)]
    positions: list[NonNegativeInt]
    tag_strength: PositiveFloat
    images: PositiveInt
    norm_ratio: PositiveFloat
    direction: Literal["random", "cls", "cls-raw"]
