"""How register neurons are planted."""

from typing import Annotated, Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from vit_registers.params.base import Share, Strict


class Planting(Strict):
    """How register neurons are planted; the closed form is in :mod:`vit_registers.planted`.

    ``block`` gets ``neurons`` register neurons, which fire on the patches at ``positions`` (row by row from 0) where
    the picture is uniform there: on the share ``firing`` of these patches. ``tag_strength`` is in standard deviations
    of the residual stream along the tag. ``images`` of the training split are what activation statistics and the gate
    come from. ``direction`` is that of an artifact: ``random``, or one that attracts the [CLS] queries of later blocks,
    solved so that the content of [CLS] stays as it is (``cls``) or not (``cls-raw``); ``norm_ratio`` is then its norm
    over the median patch norm at the last block. Or it is what the late register of the base is filled with in the next
    block (``register``): the register is taken away, and patches hold what it held; ``norm_ratio`` is then over the
    median patch norm where the register is filled.

    Neurons work in ``pairs``, so that artifacts are of nearly equal norm; or each by itself, so that artifacts grow
    with how far the gate is open, and any number of the neurons can be moved.
    """

    block: NonNegativeInt
    neurons: Annotated[int, Field(ge=2, multiple_of=2)]
    positions: list[NonNegativeInt]
    tag_strength: PositiveFloat
    images: PositiveInt
    norm_ratio: PositiveFloat
    direction: Literal["random", "cls", "cls-raw", "register"]
    firing: Share = 0.6
    pairs: bool = True
