"""Checksums of cached arrays: bytes that were flipped, cut or zeroed since are found, and not averaged.

The CRC-32 of every array's file stands in the index, from when the folder was finished; a process compares it when it
opens the array for the first time.
"""

import zlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vit_registers.core.doors import door
from vit_registers.core.errors import InputError

Array = NDArray[Any]


def of(path: Path) -> int:
    """CRC-32 of the bytes of a file, which is mapped and not copied."""
    return zlib.crc32(np.memmap(path, dtype=np.uint8, mode="r").data)


def remedy(folder: Path) -> str:
    """How the features of a condition, in ``folder``, are made again."""
    parts = folder.parts
    ablated = "ablated" in parts[-4:-2]
    whole = folder.parent if ablated else folder
    step = "ablate" if ablated else "extract"
    return (
        f"delete {whole.with_name(whole.name + '.json')} and run again, or "
        f"`vit-registers {step} --dataset {whole.parent.name} --model {whole.name}`"
    )


def opened(folder: Path, name: str, spec: Mapping[str, Any]) -> Array:
    """The array called ``name`` in ``folder``, memory-mapped; :class:`InputError` where it is not as ``spec`` says.

    That is its entry in the index: ``shape`` of a row, ``dtype``, and ``crc32`` where it was recorded.
    """
    path = folder / f"{name}.npy"
    with door(path, "an array of NumPy", remedy(folder)):
        array: Array = np.load(path, mmap_mode="r", allow_pickle=False)
        if list(array.shape[1:]) != list(spec["shape"]) or array.dtype != np.dtype(spec["dtype"]):
            raise ValueError(
                f"{array.dtype} of {list(array.shape[1:])} a row where the index has {spec['dtype']} of {spec['shape']}"
            )
        status = path.stat()
        _compare(path, spec.get("crc32"), status.st_mtime_ns, status.st_size, status.st_ino)
    return array


@cache
def _compare(path: Path, expected: int | None, *version: int) -> None:
    """Refuse other bytes than were written; once in a process for each ``version`` of a file."""
    if expected is not None and of(path) != expected:
        raise InputError(f"{path}: not as it was written (its checksum differs); {remedy(path.parent)}")
