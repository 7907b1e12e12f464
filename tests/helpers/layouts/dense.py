"""ADE20K and NYU depth v2."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike
from PIL import Image

from helpers.layouts.pictures import Paint, Size, paint


def ade20k_scene(
    root: Path, part: str, name: str, values: ArrayLike, size: Size = (12, 8), draw: Paint = paint
) -> None:
    """An image of a size, and the map (h, w) of its classes."""
    draw(root / f"images/{part}/{name}.jpg", size)
    path = root / f"annotations/{part}/{name}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(values, np.uint8)).save(path)


def ade20k_classes(root: Path) -> None:
    """The table of the 150 classes, with synonyms."""
    lines = ["Idx\tRatio\tTrain\tVal\tStuff\tName"]
    lines += [f"{i}\t0.1\t1\t1\t0\tclass {i}, or kind {i}" for i in range(1, 151)]
    (root / "objectInfo150.txt").write_text("\n".join(lines) + "\n")


def nyu_frame(
    root: Path,
    room: str,
    name: str,
    depth: ArrayLike,
    dtype: type = np.uint16,
    size: Size = (12, 8),
    draw: Paint = paint,
) -> tuple[str, str]:
    """A frame: an image of a size, and its depths (h, w); their paths."""
    values = np.asarray(depth, dtype)
    draw(root / f"{room}/rgb_{name}.jpg", size)
    Image.fromarray(values).save(root / f"{room}/depth_{name}.png")
    return f"{room}/rgb_{name}.jpg", f"{room}/depth_{name}.png"


def nyu_lists(root: Path, frames: Mapping[str, Sequence[tuple[str, str]]]) -> None:
    """The lists of BTS, whose training list begins paths with a slash."""
    for split, given in frames.items():
        slash = "/" if split == "train" else ""
        lines = [f"{slash}{image} {slash}{depth} 518.8579" for image, depth in given]
        (root / f"nyu_{split}.txt").write_text("\n".join(lines) + "\n")
