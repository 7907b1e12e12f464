"""The images that figures show, the same for every model: dense test images of different classes."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vit_registers.data.images import load_image
from vit_registers.data.manifest import Manifest
from vit_registers.data.transforms import Transform


def choose(manifest: Manifest, dense_rows: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Positions among ``dense_rows`` of the first image of each class, in order, at most ``count``.

    Without classes, of the first images.
    """
    if not manifest.labelled:
        return np.arange(min(count, len(dense_rows)))
    labels = manifest.table["label"].to_numpy()[dense_rows]
    _, first = np.unique(labels, return_index=True)
    return np.sort(first)[:count]


def picture(manifest: Manifest, row: int, transform: Transform) -> NDArray[np.uint8]:
    """An RGB image (h, w, 3) as the model saw it, without its padding, so that maps and boxes fall where they belong.

    Bicubic for every model: for pictures, not for measurement.
    """
    image = load_image(manifest.file(row)).resize(transform.resized[::-1])
    left, top = (int(side) for side in transform.offset)
    right, bottom = min(left + transform.size[1], image.width), min(top + transform.size[0], image.height)
    return np.asarray(image.crop((left, top, right, bottom)))


def pixels(manifest: Manifest, rows: NDArray[np.int64], index: Mapping[str, Any]) -> NDArray[np.uint8]:
    """Pictures (g, *size, 3) of some rows at the input size of the model that the features' ``index`` names."""
    sizes = manifest.table[["height", "width"]].to_numpy()[rows]
    transforms = [Transform.of(index, int(height), int(width)) for height, width in sizes]
    return np.stack([picture(manifest, int(row), each) for row, each in zip(rows, transforms, strict=True)])
