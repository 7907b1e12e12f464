"""Targets of dense prediction: the class and the depth of every pixel that a model sees."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vit_registers.core.errors import InputError
from vit_registers.data.images import OBJECT, load_map, load_mask
from vit_registers.data.manifest import Manifest
from vit_registers.data.transforms import Transform
from vit_registers.models.preprocess import Preprocess

FARTHEST = 65535  # of a 16-bit depth map, which counts as 1; 0: not known


@dataclass(frozen=True)
class Targets:
    """Of some images at a model's input: ``classes`` (n, h, w), 0 for background, and ``depth`` (n, h, w) as stored.

    Either is None where the data set has none.
    """

    classes: NDArray[np.int16] | None
    depth: NDArray[np.uint16] | None


def at_input(values: Image.Image, preprocess: Preprocess) -> Image.Image:
    """A map transformed as the image is: resized until it covers ``resize``, centre crop; each pixel takes its nearest.

    Nearest, as there is no class between two, and no depth between those on the two sides of an edge.
    """
    transform = Transform(values.height, values.width, preprocess.resize, preprocess.size)
    return transform.placed(values, Image.Resampling.NEAREST)


def load(manifest: Manifest, rows: NDArray[np.int64], preprocess: Preprocess) -> Targets:
    """Targets of some rows; :class:`InputError` where some images have a map and others lack it.

    A mask is a PNG of 0 and 255: the pixels of 255 are of the image's class. Maps of several classes in one image are
    refused, as 255 would mean another thing there. Without labels there are no classes, whatever masks there are.
    """
    classes = depth = None
    if manifest.labelled and _has(manifest, rows, "mask"):
        labels = manifest.table["label"].to_numpy()[rows]
        masks = [_mask(manifest.file(row, "mask"), _size(manifest, row), preprocess) for row in rows]
        classes = np.stack([mask * np.int16(label + 1) for mask, label in zip(masks, labels, strict=True)])
    if _has(manifest, rows, "depth"):
        depth = np.stack([_depth(manifest.file(row, "depth"), _size(manifest, row), preprocess) for row in rows])
    return Targets(classes, depth)


def _has(manifest: Manifest, rows: NDArray[np.int64], column: str) -> bool:
    """Whether the images have such a map: all of them or none; a score of some would be of an unnamed subset."""
    given = manifest.table[column].iloc[rows]
    without = rows[given.isna().to_numpy()]
    if len(without) and len(without) < len(rows):
        image = manifest.table["image_id"].iloc[int(without[0])]
        raise InputError(
            f"data set '{manifest.name}': image '{image}' has no {column} while others have; dense prediction needs "
            "one on every image of the dense split, or on none: then it is not scored"
        )
    return not len(without)


def _size(manifest: Manifest, row: int) -> tuple[int, int]:
    """Width and height of the image of a row."""
    return int(manifest.table["width"].iloc[row]), int(manifest.table["height"].iloc[row])


def _mask(path: Path, size: tuple[int, int], preprocess: Preprocess) -> NDArray[np.int16]:
    """1 where the object is: (h, w)."""
    return (np.asarray(at_input(load_mask(path, size), preprocess)) == OBJECT).astype(np.int16)


def _depth(path: Path, size: tuple[int, int], preprocess: Preprocess) -> NDArray[np.uint16]:
    """Depth as it is stored: (h, w)."""
    values = load_map(path, size, ("I;16", "I;16B", "I"), "a 16-bit depth map")
    whole = np.asarray(values).astype(np.int32)  # in a mode that every resize knows
    return np.asarray(at_input(Image.fromarray(whole), preprocess)).astype(np.uint16)
