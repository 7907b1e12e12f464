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


def pixels(manifest: Manifest, rows: NDArray[np.int64], resize: int, size: int) -> NDArray[np.uint8]:
    """RGB images (g, size, size, 3) as the model saw them: shorter side to ``resize``, centre crop of ``size``.

    Maps and boxes drawn over them fall where they belong. Bicubic for every model: for pictures, not for measurement.
    """
    images = []
    for row in rows:
        image = load_image(manifest.file(int(row)))
        short = min(image.size)
        sides = [resize if side == short else int(resize * side / short) for side in image.size]
        left, top = (round((side - size) / 2.0) for side in sides)
        image = image.resize((sides[0], sides[1]))
        images.append(np.asarray(image.crop((left, top, left + size, top + size))))
    return np.stack(images)
