"""Images on disk: read as RGB, or refused by name."""

from pathlib import Path

from PIL import Image, UnidentifiedImageError

from vit_registers.core.errors import InputError

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"}


def load_image(path: Path | str) -> Image.Image:
    """An image as RGB; :class:`InputError` where it is missing or cannot be decoded."""
    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except FileNotFoundError:
        raise InputError(f"{path}: no such image; restore it or drop its row") from None
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as an image ({error}); replace it or drop its row") from None


def image_size(path: Path, where: str) -> tuple[int, int]:
    """Width and height of an image that decodes whole; ``where`` opens the message if it does not."""
    try:
        return load_image(path).size
    except InputError as error:
        raise InputError(f"{where}: {error}") from None
