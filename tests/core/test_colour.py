import colorsys

import numpy as np

from vit_registers.core.colour import hsv_to_rgb


def test_hsv_agrees_with_the_standard_library():
    rng = np.random.default_rng(0)
    h, s, v = rng.random((3, 50))
    slow = [colorsys.hsv_to_rgb(*color) for color in zip(h, s, v, strict=True)]
    assert np.allclose(hsv_to_rgb(h, s, v), slow)
