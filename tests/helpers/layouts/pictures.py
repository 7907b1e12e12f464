"""Images of a few pixels or of many: what writers of a layout draw with."""

import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

Size = tuple[int, int]  # width and height
Paint = Callable[[Path, Size], None]


def paint(path: Path, size: Size = (12, 8)) -> None:
    """An image of one grey; its folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((size[1], size[0], 3), 90, np.uint8)).save(path)


def photograph(path: Path, size: Size) -> None:
    """Smooth noise around a rectangle of another colour, drawn from the name of the file; its folders are made."""
    draw = np.random.default_rng(zlib.crc32(path.name.encode()))
    path.parent.mkdir(parents=True, exist_ok=True)
    coarse = Image.fromarray(draw.integers(40, 216, size=(9, 9, 3), dtype=np.uint8))
    pixels = np.array(coarse.resize(size, Image.Resampling.BICUBIC))
    x0, y0, x1, y1 = middle(size)
    pixels[y0:y1, x0:x1] = draw.integers(256, size=3, dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def middle(size: Size) -> tuple[int, int, int, int]:
    """The box of the object of a photograph, x0, y0, x1, y1."""
    width, height = size
    return width // 4, height // 4, 3 * width // 4, 3 * height // 4
