"""Images and label maps on disk: read, or refused by name."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from vit_registers.core.errors import InputError

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"}
NUMBERED = {"L", "P", "I;16", "I"}  # PIL's modes with one whole number per pixel; of a palette, the index into it


def load_image(path: Path | str) -> Image.Image:
    """An image as RGB; :class:`InputError` where it is missing or cannot be decoded."""
    with _opened(path) as image:
        return image.convert("RGB")


def load_label_map(path: Path | str) -> NDArray[np.int64]:
    """Values (h, w) of an image with one whole number per pixel; :class:`InputError` where it is not one."""
    with _opened(path) as image:
        if image.mode not in NUMBERED:
            raise InputError(f"{path}: not a label map: PIL's mode {image.mode}, expected one of {sorted(NUMBERED)}")
        return np.asarray(image).astype(np.int64)


@contextmanager
def _opened(path: Path | str) -> Iterator[Image.Image]:
    try:
        with Image.open(path) as image:
            yield image
    except FileNotFoundError:
        raise InputError(f"{path}: no such image; restore it or drop its row") from None
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as an image ({error}); replace it or drop its row") from None
