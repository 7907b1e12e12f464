"""Intervals and paired tests, the images that figures show, and how large the explorer may be."""

from typing import Annotated

from pydantic import Field, PositiveFloat, PositiveInt

from vit_registers.params.base import Strict


class Statistics(Strict):
    """Intervals and paired tests over images.

    ``confidence`` of intervals; a p below 1 less it counts. ``resamples`` of the bootstrap. ``sign_flips``:
    assignments of signs at most, where not all are counted; a p of 1 / sign_flips has to survive its family.
    """

    confidence: Annotated[float, Field(gt=0.5, lt=1.0)]
    resamples: PositiveInt
    sign_flips: PositiveInt = 100_000


class Gallery(Strict):
    """The images that figures show, the same for every model: of each of so many classes one.

    ``candidates``: of a class the first so many of the dense split, of which it is the one with most outlier patches.
    """

    images: PositiveInt
    candidates: PositiveInt = 3


class Explorer(Strict):
    """Sizes of the explorer in megabytes: up to ``one_page_mb`` it is one page, beyond that maps have a page for each
    model; a page above ``limit_mb`` is refused.
    """

    one_page_mb: PositiveFloat
    limit_mb: PositiveFloat
