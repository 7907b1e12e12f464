"""What the values of depth maps mean, where a data set measures in metres."""

from typing import Self

import numpy as np
from numpy.typing import NDArray
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat, model_validator

from vit_registers.params.base import Strict


class DepthScale(Strict):
    """``per_metre`` of a stored value make a metre; what is not scored counts as not known.

    Scored are depths above ``nearest`` and below ``farthest`` (metres), of pixels inside the ``window`` x0, y0, x1, y1
    (0-based, half-open) where there is one. NYU: 1000, 0.001 m, 10 m and the crop of Eigen et al. (2014).
    """

    per_metre: PositiveFloat
    nearest: NonNegativeFloat
    farthest: PositiveFloat
    window: tuple[NonNegativeInt, NonNegativeInt, NonNegativeInt, NonNegativeInt] | None = None

    @model_validator(mode="after")
    def _something_is_inside(self) -> Self:
        if self.nearest >= self.farthest:
            raise ValueError(f"nearest: expected less than farthest, which is {self.farthest:g}, got {self.nearest:g}")
        if self.window is not None and not (self.window[0] < self.window[2] and self.window[1] < self.window[3]):
            raise ValueError(f"window: expected x0 < x1 and y0 < y1, got {list(self.window)}")
        return self

    def scored(self, stored: NDArray[np.int32]) -> NDArray[np.int32]:
        """A stored map (h, w) with 0, which is: not known, wherever it is not scored."""
        inside = (stored > self.nearest * self.per_metre) & (stored < self.farthest * self.per_metre)
        if self.window is not None:
            x0, y0, x1, y1 = self.window
            crop = np.zeros_like(inside)
            crop[y0:y1, x0:x1] = True
            inside &= crop
        return np.where(inside, stored, 0).astype(np.int32)
