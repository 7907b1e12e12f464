"""The images that figures show, the same for every model: dense test images of different classes."""

import numpy as np
from numpy.typing import NDArray

from vit_registers.data.images import load_image
from vit_registers.data.manifest import Manifest


def choose(manifest: Manifest, dense_rows: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Positions among ``dense_rows`` of the first image of each class, in order, at most ``count``."""
    labels = manifest.table["label"].to_numpy()[dense_rows]
    _, first = np.unique(labels, return_index=True)
    return np.sort(first)[:count]


def pixels(manifest: Manifest, rows: NDArray[np.int64], size: int) -> NDArray[np.uint8]:
    """RGB images (g, size, size, 3): the centre square of each, resized. For pictures, not for measurement."""
    images = []
    for row in rows:
        image = load_image(manifest.file(int(row)))
        side = min(image.size)
        left, top = (image.width - side) // 2, (image.height - side) // 2
        images.append(np.asarray(image.crop((left, top, left + side, top + side)).resize((size, size))))
    return np.stack(images)
