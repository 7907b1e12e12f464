"""Targets of dense prediction: the class and the depth of every pixel that a model sees."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vit_registers.core.errors import InputError
from vit_registers.data.depth import DepthScale
from vit_registers.data.images import OBJECT, load_depth, load_mask
from vit_registers.data.manifest import Manifest
from vit_registers.data.transforms import Transform
from vit_registers.models.preprocess import Preprocess

FARTHEST = 65535  # of a 16-bit depth map, which counts as 1 where no scale is given; 0: not known
IGNORED = -1  # the class of pixels that are not scored


@dataclass(frozen=True)
class Targets:
    """Of some images at a model's input; ``classes`` or ``depth`` is None where the data set has none.

    ``classes`` (n, h, w): one of ``count`` classes, ``IGNORED`` where a pixel is of none and not scored. ``depth``
    (n, h, w) as stored, 0 where it is not known or not scored; ``unit`` of it makes 1: a metre where the data set has a
    ``scale``, else the largest value that a map can hold.
    """

    classes: NDArray[np.int16] | None
    count: int
    depth: NDArray[np.uint16] | None
    scale: DepthScale | None
    images: int

    @property
    def unit(self) -> float:
        """Stored values that make a depth of 1."""
        return FARTHEST if self.scale is None else self.scale.per_metre

    @property
    def scored(self) -> NDArray[np.int64]:
        """Places of the images of which any pixel has a class; of all images where there are no classes to score."""
        if self.classes is None:
            return np.arange(self.images)
        return np.flatnonzero((self.classes != IGNORED).any(axis=(1, 2)))

    def at(self, places: NDArray[np.int64]) -> "Targets":
        """Those of some of the images."""
        classes = None if self.classes is None else self.classes[places]
        return replace(
            self, images=len(places), classes=classes, depth=None if self.depth is None else self.depth[places]
        )


def at_input(values: Image.Image, preprocess: Preprocess) -> Image.Image:
    """A map transformed as the image is: resized until it covers ``resize``, centre crop; each pixel takes its nearest.

    Nearest, as there is no class between two, and no depth between those on the two sides of an edge.
    """
    transform = Transform(values.height, values.width, preprocess.resize, preprocess.size)
    return transform.placed(values, Image.Resampling.NEAREST)


def load(manifest: Manifest, rows: NDArray[np.int64], preprocess: Preprocess) -> Targets:
    """Targets of some rows; :class:`InputError` where some images have a map and others lack it.

    Classes are those of the label maps (column ``semantic``), without that of the ignore index, in their order. Where
    there are none, those of the masks: a mask is a PNG of 0 and 255, the pixels of 255 are of the image's class and the
    others background, class 0. Without labels a mask has no class.
    """
    classes = depth = None
    count = 0
    if _has(manifest, rows, "semantic"):
        scored = _scored_classes(manifest)
        count = len(scored)
        classes = np.stack([_label_map(manifest, row, scored, preprocess) for row in rows])
    elif manifest.labelled and _has(manifest, rows, "mask"):
        count = 1 + len(manifest.classes)
        labels = manifest.table["label"].to_numpy()[rows]
        masks = [_mask(manifest.file(row, "mask"), _size(manifest, row), preprocess) for row in rows]
        classes = np.stack([mask * np.int16(label + 1) for mask, label in zip(masks, labels, strict=True)])
    if _has(manifest, rows, "depth"):
        depth = np.stack([_depth(manifest, row, preprocess) for row in rows])
    return Targets(classes, count, depth, manifest.depth_scale, len(rows))


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


def _scored_classes(manifest: Manifest) -> list[int]:
    """Values of label maps that are scored: all semantic classes but that of the ignore index."""
    return [value for value in range(len(manifest.semantic_classes or [])) if value != manifest.ignore_index]


def _label_map(manifest: Manifest, row: int, scored: list[int], preprocess: Preprocess) -> NDArray[np.int16]:
    """Places of the classes of the pixels among those ``scored``, ``IGNORED`` where it is none: (h, w)."""
    values = manifest.label_map(row)
    place = np.zeros(max(int(values.max()), *scored) + 1, dtype=np.int32)
    place[scored] = np.arange(1, len(scored) + 1)  # counted from 1: what a model pads is 0, and of no class
    return np.asarray(at_input(Image.fromarray(place[values]), preprocess)).astype(np.int16) - np.int16(1)


def _depth(manifest: Manifest, row: int, preprocess: Preprocess) -> NDArray[np.uint16]:
    """Depth as it is stored, 0 where it is not scored: (h, w)."""
    whole = load_depth(manifest.file(row, "depth"), _size(manifest, row))  # in a mode that every resize knows
    if manifest.depth_scale is not None:
        whole = manifest.depth_scale.scored(whole)
    return np.asarray(at_input(Image.fromarray(whole), preprocess)).astype(np.uint16)
