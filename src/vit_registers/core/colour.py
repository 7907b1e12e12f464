"""Colours as numbers."""

import numpy as np
from numpy.typing import NDArray

LUMA = (0.299, 0.587, 0.114)  # weights of red, green and blue in the luma of ITU-R BT.601
Floats = NDArray[np.float64]


def hsv_to_rgb(hue: Floats, saturation: Floats, value: Floats) -> Floats:
    """HSV in [0, 1] to RGB, channels last."""
    k = (np.array([5.0, 3.0, 1.0]) + hue[..., None] * 6.0) % 6.0
    wave = np.clip(np.minimum(k, 4.0 - k), 0.0, 1.0)
    return value[..., None] * (1.0 - saturation[..., None] * wave)
