"""Images and label maps on disk: read, or refused by name."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vit_registers.core.doors import door
from vit_registers.core.errors import InputError

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"}
OBJECT = 255  # in a mask; what is no object is 0
NUMBERED = {"L", "P", "I;16", "I"}  # PIL's modes with one whole number per pixel; of a palette, the index into it
# Of 16 bits per pixel, of which 65535 is white by the definitions of PNG and TIFF; PIL itself would clip at 255.
SIXTEEN = {"I;16", "I;16L", "I;16B", "I;16N"}
UNDEFINED = {"I", "F"}  # of which no definition says what is white

# Of more than 89 million pixels; twice as many PIL refuses as an attack on memory.
warnings.simplefilter("ignore", Image.DecompressionBombWarning)


def load_image(path: Path | str) -> Image.Image:
    """An image as RGB; :class:`InputError` where it is missing or cannot be decoded.

    Of 16 bits per pixel the upper eight count. Refused where nothing says what is white (32 bits, floats).
    """
    with _opened(path, "an image") as image:
        if image.mode in SIXTEEN:
            values = np.asarray(image).astype(np.uint16)
            return Image.fromarray((values >> 8).astype(np.uint8)).convert("RGB")
        if image.mode in UNDEFINED:
            raise InputError(
                f"{path}: holds {'floats' if image.mode == 'F' else '32-bit numbers'}, of which nothing says what is "
                "white; save it with 8 bits per colour"
            )
        return image.convert("RGB")


def load_label_map(path: Path | str) -> NDArray[np.int64]:
    """Values (h, w) of an image with one whole number per pixel; :class:`InputError` where it is not one."""
    with _opened(path, "a label map") as image:
        if image.mode not in NUMBERED:
            raise InputError(f"{path}: not a label map: PIL's mode {image.mode}, expected one of {sorted(NUMBERED)}")
        return np.asarray(image).astype(np.int64)


def load_mask(path: Path | str, size: tuple[int, int]) -> Image.Image:
    """A mask of 0 and 255, 255 on the object, of its image's ``size`` (width, height); else :class:`InputError`."""
    values = load_map(path, size, ("L", "P", "1"), "a mask of 0 and 255")
    whole = np.asarray(values.convert("L") if values.mode == "1" else values)
    odd = np.setdiff1d(whole, [0, OBJECT])
    if len(odd):
        raise InputError(f"{path}: holds {odd[0]}; expected a mask of 0 and 255, the object being of the image's class")
    return Image.fromarray(whole)


def load_depth(path: Path | str, size: tuple[int, int]) -> NDArray[np.int32]:
    """Stored depths (h, w) of an image of ``size`` (width, height), 0 where not known; else :class:`InputError`."""
    return np.asarray(load_map(path, size, ("I;16", "I;16B", "I"), "a 16-bit depth map")).astype(np.int32)


def load_map(path: Path | str, size: tuple[int, int], modes: tuple[str, ...], expected: str) -> Image.Image:
    """A map as it is stored, in one of PIL's ``modes`` and of its image's ``size``; else :class:`InputError`."""
    with _opened(path, expected) as values:
        if values.mode not in modes or values.size != size:
            found = f"{values.mode} of {values.width}x{values.height} pixels"
            raise InputError(f"{path}: {found}; expected {expected} of {size[0]}x{size[1]}")
        values.load()
        return values


@contextmanager
def _opened(path: Path | str, what: str) -> Iterator[Image.Image]:
    """An image that is not decoded yet."""
    restore = "replace it or drop its row"
    with door(path, what, restore, "restore it or drop its row", "image") as file, Image.open(file) as image:
        yield image
