"""Objects of images: target boxes in pixels of the image for CorLoc, and which share of every patch is object."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vit_registers.core.errors import InputError
from vit_registers.data.images import OBJECT, load_mask
from vit_registers.data.manifest import Manifest
from vit_registers.data.transforms import Floats, Transform

NO_BOXES = "the data set has no boxes"


def target_boxes(manifest: Manifest, rows: NDArray[np.int64]) -> list[Floats]:
    """Annotated boxes (b, 4) of each of some rows; b is 0 where the manifest has none."""
    given = [manifest.table["boxes"].iloc[int(row)] for row in rows]
    # A column without any box reads back as NaN, a single missing value as None.
    return [np.array([list(box) for box in b] if isinstance(b, np.ndarray) else []).reshape(-1, 4) for b in given]


def has_boxes(manifest: Manifest, dense: NDArray[np.int64], targets: list[Floats]) -> bool:
    """Whether dense images have boxes: all of them or none; CorLoc of some of them would be of an unnamed subset."""
    without = [row for row, boxes in zip(dense, targets, strict=True) if not len(boxes)]
    if without and len(without) < len(targets):
        image = manifest.table["image_id"].iloc[int(without[0])]
        raise InputError(
            f"data set '{manifest.name}': image '{image}' has no box while others have; CorLoc needs one on every "
            "image of the dense split, or on none: then boxes are found but not scored"
        )
    return not without


def covered(boxes: Floats, transform: Transform, grid: tuple[int, int]) -> Floats:
    """Share of each patch (h, w) of an image's input that lies in any of its ``boxes`` (b, 4), in pixels of the image.

    Counted by pixels of the input whose centre lies inside; what the crop removed counts nowhere.
    """
    height, width = transform.size
    y, x = np.arange(height)[:, None] + 0.5, np.arange(width)[None, :] + 0.5
    inside = np.zeros((height, width), dtype=bool)
    for x0, y0, x1, y1 in transform.to_input(boxes):
        inside |= (x >= x0) & (x < x1) & (y >= y0) & (y < y1)
    return _by_patch(inside, grid)


def _by_patch(inside: NDArray[np.bool_], grid: tuple[int, int]) -> Floats:
    """Share of each patch (h, w) of the pixels of an input that are ``inside``."""
    height, width = inside.shape
    patches = inside.reshape(grid[0], height // grid[0], grid[1], width // grid[1])
    return np.asarray(patches.mean(axis=(1, 3)), dtype=np.float64)


def box_shares(
    manifest: Manifest, rows: NDArray[np.int64], index: Mapping[str, Any], grid: tuple[int, int]
) -> Floats | None:
    """Share of each patch (n, p) of some images that lies in a box; None where the data set has no boxes.

    ``index`` is that of the features (index.json): it says how images were brought to the model's input.
    """
    truth = target_boxes(manifest, rows)
    if not has_boxes(manifest, rows, truth):
        return None
    transforms = [Transform.of(index, height, width) for width, height in _sizes(manifest, rows)]
    return np.stack([covered(boxes, way, grid).ravel() for boxes, way in zip(truth, transforms, strict=True)])


def object_shares(
    manifest: Manifest, rows: NDArray[np.int64], index: Mapping[str, Any], grid: tuple[int, int]
) -> Floats | None:
    """Share of each patch (n, p) of some images that is object: by masks where all have one, else by boxes."""
    if manifest.table["mask"].iloc[rows].isna().any():
        return box_shares(manifest, rows, index, grid)
    shares = []
    for row, size in zip(rows, _sizes(manifest, rows), strict=True):
        transform = Transform.of(index, size[1], size[0])
        mask = transform.placed(load_mask(manifest.file(int(row), "mask"), size), Image.Resampling.NEAREST)
        shares.append(_by_patch(np.asarray(mask) == OBJECT, grid).ravel())
    return np.stack(shares)


def _sizes(manifest: Manifest, rows: NDArray[np.int64]) -> list[tuple[int, int]]:
    """Width and height of some images."""
    return [(int(width), int(height)) for width, height in manifest.table[["width", "height"]].to_numpy()[rows]]
