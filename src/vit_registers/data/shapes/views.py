"""Second views of generated images: turned, enlarged and cut out, so that the place of every point is known in both.

A view holds nothing but its image: pixels made up beyond the border would look like places that are known elsewhere.
"""

import numpy as np
from numpy.typing import NDArray

from vit_registers.data.correspondence import Pair

TURN = np.pi / 9  # at most, either way
ZOOM = (1.05, 1.35)  # beyond what keeps the turned view inside the image
Floats = NDArray[np.float64]


def similarities(rng: np.random.Generator, n: int, size: int) -> Floats:
    """Matrices (n, 2, 3) from points of images of side ``size`` to points of their second views, which have its size.

    Points are in pixels, of which the first spans 0 to 1.
    """
    angle, zoom = rng.uniform(-TURN, TURN, n), rng.uniform(*ZOOM, n)
    scale = zoom * (np.cos(angle) + np.abs(np.sin(angle)))
    cos, sin = scale * np.cos(angle), scale * np.sin(angle)
    linear = np.stack([np.stack([cos, -sin], axis=1), np.stack([sin, cos], axis=1)], axis=1)
    room = size / 2 * (1.0 - 1.0 / zoom)  # of the point of the image that is the middle of its view
    middle = size / 2 + room[:, None] * rng.uniform(-1.0, 1.0, (n, 2))
    offset = size / 2 - (linear @ middle[:, :, None])[:, :, 0]
    return np.concatenate([linear, offset[:, :, None]], axis=2)


def view(image: NDArray[np.uint8], matrix: Floats) -> NDArray[np.uint8]:
    """The second view of an image (s, s, c) by its ``matrix`` (2, 3), bilinear."""
    size = len(image)
    y, x = np.mgrid[:size, :size] + 0.5
    points = np.stack([x.ravel(), y.ravel()]) - matrix[:, 2:]
    at = np.clip(np.linalg.solve(matrix[:, :2], points) - 0.5, 0.0, size - 1)  # of centres, less than half a pixel off
    low = np.minimum(at.astype(np.int64), size - 2)
    share = (at - low)[..., None]
    (left, top), (right_share, lower_share) = low, share
    upper = image[top, left] * (1 - right_share) + image[top, left + 1] * right_share
    lower = image[top + 1, left] * (1 - right_share) + image[top + 1, left + 1] * right_share
    mixed = upper * (1 - lower_share) + lower * lower_share
    return (mixed + 0.5).astype(np.uint8).reshape(image.shape)


def entry(path: str, matrix: Floats) -> str:
    """What the manifest says of a second view."""
    rows = [tuple(map(float, row)) for row in matrix]
    return Pair.model_validate({"pair": path, "matrix": tuple(rows)}).model_dump_json()
