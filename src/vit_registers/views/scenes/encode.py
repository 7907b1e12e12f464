"""What goes into a page as text: arrays, pictures, the colours of maps, JSON, and checksums of its own scripts."""

import base64
import hashlib
import io
import json
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

TYPES = {8: np.dtype("u1"), 16: np.dtype("<u2")}
COLOURS = "cividis"  # of maps: told apart with every common colour blindness, and in grey


def text(content: bytes) -> str:
    """Base64."""
    return base64.b64encode(content).decode("ascii")


def as_json(content: Any) -> str:
    """JSON that may stand in a script element, whatever its strings hold."""
    written = json.dumps(content, ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    return written.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def source(code: str) -> str:
    """A script or a style of the page as a content security policy names it: by its checksum."""
    return f"'sha256-{text(hashlib.sha256(code.encode()).digest())}'"


def colours() -> str:
    """The map's colours from low to high, 256 of red, green, blue, as base64."""
    import matplotlib as mpl

    table = mpl.colormaps[COLOURS](np.arange(256), bytes=True)
    return text(np.ascontiguousarray(table[:, :3]).tobytes())


def packed(array: NDArray[Any]) -> dict[str, Any]:
    """An array of little-endian numbers: its shape, its type, and its bytes in C order, deflated, as base64."""
    little = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    kind = f"{array.dtype.kind}{array.dtype.itemsize}"
    return {"shape": list(array.shape), "type": kind, "data": text(zlib.compress(little.tobytes(), 9))}


def maps(values: NDArray[Any], bits: int, gamma: float) -> dict[str, Any]:
    """Maps (..., n) of numbers that are not negative, each rounded to its own largest.

    A value is ``top * (level / (2^bits - 1))^gamma``; ``levels`` (..., n) and ``tops`` (...) are packed arrays.
    """
    numbers = np.asarray(values, dtype=np.float64)
    if not np.isfinite(numbers).all() or (numbers < 0).any():
        raise ValueError("maps hold finite numbers that are not negative")
    top = numbers.max(axis=-1)
    most = 2**bits - 1
    share = numbers / np.where(top > 0.0, top, 1.0)[..., None]
    levels = np.rint(most * share ** (1.0 / gamma)).astype(TYPES[bits])
    return {"bits": bits, "gamma": gamma, "levels": packed(levels), "tops": packed(top.astype(np.float32))}


def restored(packed_maps: dict[str, Any]) -> NDArray[np.float64]:
    """What a page reads of :func:`maps`."""
    levels, tops = (unpacked(packed_maps[name]) for name in ("levels", "tops"))
    share = (levels / (2 ** packed_maps["bits"] - 1)) ** packed_maps["gamma"]
    return np.asarray(tops[..., None] * share, dtype=np.float64)


def unpacked(entry: dict[str, Any]) -> NDArray[Any]:
    """What a page reads of :func:`packed`."""
    dtype = np.dtype(f"<{entry['type']}")
    return np.frombuffer(zlib.decompress(base64.b64decode(entry["data"])), dtype=dtype).reshape(entry["shape"])


def picture(image: NDArray[np.uint8]) -> str:
    """An image (H, W, 3) as a data URL: lossless where it is small, else JPEG, which is enough to look at."""
    buffer, whole = io.BytesIO(), Image.fromarray(image)
    if max(image.shape[:2]) <= 128:
        whole.save(buffer, "PNG", optimize=True)
        kind = "png"
    else:
        whole.save(buffer, "JPEG", quality=85)
        kind = "jpeg"
    return f"data:image/{kind};base64,{text(buffer.getvalue())}"
