"""The images that figures show, the same for every model: dense test images of different classes."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vit_registers.data.images import load_image
from vit_registers.data.manifest import Manifest
from vit_registers.data.transforms import Transform
from vit_registers.params.statistics import Gallery

OUTLIER = 3.0  # medians of its image: a patch above is an outlier here, whatever the threshold of detection


def choose(manifest: Manifest, dense_rows: NDArray[np.int64], wanted: Gallery) -> NDArray[np.int64]:
    """Positions among ``dense_rows`` of the candidates that are ``wanted``, the first of each of the first classes.

    Classes in the order in which they come first. Without classes, as many of the first images.
    """
    groups = _groups(manifest, dense_rows, wanted)
    _, first = np.unique(groups, return_index=True)
    taken = groups[np.sort(first)][: wanted.images]
    return np.concatenate([np.flatnonzero(groups == group)[: wanted.candidates] for group in taken])


def _groups(manifest: Manifest, rows: NDArray[np.int64], wanted: Gallery) -> NDArray[np.int64]:
    """Class of each image (n,); without classes, as many images after one another as there are candidates are one."""
    if not manifest.labelled:
        return np.arange(len(rows)) // wanted.candidates
    return np.asarray(manifest.table["label"].to_numpy()[rows], dtype=np.int64)


def kept(
    manifest: Manifest,
    dense_rows: NDArray[np.int64],
    chosen: NDArray[np.int64],
    norms: NDArray[Any] | None,
    wanted: Gallery,
) -> dict[str, NDArray[np.int64]]:
    """What figures need to choose among the candidates (g,): the ``groups`` they stand for, and their ``outliers``.

    ``norms`` (g, layers, p) of the patches of a model as it is; None where it has none, and no outliers.
    """
    counted = np.zeros(len(chosen), np.int64) if norms is None else outliers(norms)
    return {"groups": _groups(manifest, dense_rows, wanted)[chosen], "outliers": counted}


def outliers(norms: NDArray[Any]) -> NDArray[np.int64]:
    """Number (g,) of patches with a norm above three medians of their image, at the block where there are most.

    ``norms`` (g, layers, p).
    """
    values = np.asarray(norms, dtype=np.float64)
    above = values > OUTLIER * np.median(values, axis=-1, keepdims=True)
    return np.asarray(above.sum(axis=-1).max(axis=-1), dtype=np.int64)


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
