"""Cached tensors: memory-mapped arrays in manifest order with one JSON index; half a folder never looks whole.

A writer works in ``<folder>.partial`` and records after every batch how far it is. Killed, it goes on there; finished,
it writes the index and renames the folder. Nothing here needs torch, so figures and LOST read features without it.
"""

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vit_registers.core.errors import InputError
from vit_registers.core.files import read_json, reserve, write_json
from vit_registers.extraction import checksums
from vit_registers.forward.arrays import Spec
from vit_registers.models.layout import TokenLayout


def condition_folder(root: Path, dataset: str, model: str, condition: str) -> Path:
    """Where the features of a condition are: DVC versions baselines and ablations as separate outputs."""
    if condition == "baseline":
        return root / "baseline" / dataset / model
    return root / "ablated" / dataset / model / condition


def lock_folder(root: Path, dataset: str, model: str, ablated: bool) -> Path:
    """Folder whose lock a process holds while it writes a pair's baseline or its ablations.

    It is none of those that are replaced or pruned, and each model has its own: models are extracted side by side.
    """
    return root / ("ablated" if ablated else "baseline") / dataset / f".{model}"


@dataclass(frozen=True)
class Features:
    """A finished folder, read only."""

    folder: Path
    index: dict[str, Any]

    @classmethod
    def open(cls, folder: Path | str) -> "Features":
        """Open a folder that a writer finished; :class:`InputError` where there is none or an array is gone."""
        folder = Path(folder)
        features = cls(folder, read_json(folder / "index.json", "status", "key"))
        for name in features.index.get("arrays", {}):
            if not (folder / f"{name}.npy").is_file():
                raise InputError(f"{folder / name}.npy: missing; {checksums.remedy(folder)}")
        return features

    @property
    def status(self) -> str:
        """``complete``, or ``not applicable``: then :attr:`reason` says why and there are no arrays."""
        return str(self.index["status"])

    @property
    def reason(self) -> str:
        """Why the condition is not applicable."""
        return str(self.index.get("reason", ""))

    @property
    def layout(self) -> TokenLayout:
        """Token layout in force, appended tokens included."""
        return TokenLayout.from_json(self.index["layout"])

    @property
    def patch(self) -> tuple[int, int]:
        """Height and width of a patch in input pixels."""
        height, width = self.index["patch"]
        return int(height), int(width)

    def array(self, name: str) -> NDArray[Any]:
        """A memory-mapped array; rows as the index says."""
        if name not in self.index["arrays"]:
            raise InputError(f"{self.folder}: holds no array '{name}'; it has {', '.join(self.index['arrays'])}")
        return checksums.opened(self.folder, name, self.index["arrays"][name])

    def native(self, name: str, image: int) -> NDArray[Any]:
        """Rows of a ``native`` array that belong to the dense image number ``image``: (h, w, d)."""
        height, width = (int(side) for side in self.array("native_grid")[image])
        start = int(self.array("native_start")[image])
        return np.asarray(self.array(name)[start : start + height * width]).reshape(height, width, -1)  # type: ignore[no-any-return]

    @property
    def rows(self) -> NDArray[np.int64]:
        """Manifest rows, ascending, of the arrays with a row for every image: all, or where the condition was passed
        for frozen heads only those outside split ``train``.
        """
        arrays = self.index["arrays"]
        if "rows" in arrays:
            return np.asarray(self.array("rows"))
        name = next((name for name, spec in arrays.items() if spec["rows"] == "all"), None)
        if name is None:
            raise InputError(f"{self.folder}: holds no array with a row per image; it has {', '.join(arrays)}")
        return np.arange(len(self.array(name)))

    def places(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Where manifest ``rows`` are in the arrays with a row per image; :class:`InputError` for one that is not."""
        missing = np.setdiff1d(rows, self.rows)
        if len(missing):
            raise InputError(
                f"{self.folder}: {len(missing)} of {len(rows)} images were not passed, the first in manifest row "
                f"{missing[0]}; to fit heads on it take the condition out of extraction.frozen_only, and let its "
                "run say heads: refitted"
            )
        return np.searchsorted(self.rows, rows)

    @property
    def dense_rows(self) -> NDArray[np.int64]:
        """Manifest rows of the arrays whose rows are ``dense``."""
        return np.asarray(self.array("dense_rows"))


class Writer:
    """Writes one folder batch by batch; batches are numbered, and :attr:`done` of them are safe on disk."""

    def __init__(self, folder: Path, key: str, specs: Mapping[str, Spec], counts: Mapping[str, int]) -> None:
        """``counts``: how many rows of each kind there are; a partial folder of another ``key`` is dropped."""
        self.folder, self.key, self.specs = folder, key, specs
        self.partial = folder.with_name(f"{folder.name}.partial")
        progress = self.partial / "progress.json"
        self.done = 0
        done = self._recorded(progress)
        if done is not None:
            self.done = done
            _sweep(self.partial)
        else:
            shutil.rmtree(self.partial, ignore_errors=True)
            self.partial.mkdir(parents=True)
            for name, spec in specs.items():
                shape = (counts[spec.rows], *spec.shape)
                np.lib.format.open_memmap(self._path(name), "w+", np.dtype(spec.dtype), shape).flush()
                reserve(self._path(name))
            self._record()
        self.arrays = {name: np.lib.format.open_memmap(self._path(name), "r+") for name in specs}

    def _path(self, name: str) -> Path:
        return self.partial / f"{name}.npy"

    def _recorded(self, progress: Path) -> int | None:
        """How many batches of the same are safe in a partial folder; None where it is another or damaged: left over."""
        try:
            found = read_json(progress, "key", "done")
            whole = all(
                np.load(self._path(name), mmap_mode="r").dtype == spec.dtype for name, spec in self.specs.items()
            )
            return int(found["done"]) if whole and found["key"] == self.key else None
        except (InputError, OSError, ValueError, TypeError):
            return None

    def _record(self) -> None:
        write_json(self.partial / "progress.json", {"key": self.key, "done": self.done})

    def write(self, values: Mapping[str, NDArray[Any]], rows: Mapping[str, NDArray[np.int64]]) -> None:
        """Put a batch at its rows, flush, then count it: a kill in between only repeats the batch."""
        for name, value in values.items():
            array = self.arrays[name]
            array[rows[self.specs[name].rows]] = value
            array.flush()
        self.done += 1
        self._record()

    def finish(self, index: Mapping[str, Any]) -> None:
        """Write the index and give the folder its name."""
        self.arrays.clear()
        arrays = {
            name: {
                "shape": list(spec.shape),
                "dtype": spec.dtype,
                "rows": spec.rows,
                "unit": spec.unit,
                "what": spec.what,
                "crc32": checksums.of(self._path(name)),
            }
            for name, spec in self.specs.items()
        }
        write_json(self.partial / "index.json", {**index, "key": self.key, "status": "complete", "arrays": arrays})
        (self.partial / "progress.json").unlink(missing_ok=True)
        shutil.rmtree(self.folder, ignore_errors=True)
        os.replace(self.partial, self.folder)


def _sweep(folder: Path) -> None:
    """Delete what a killed process left of :func:`files.replacing`; whoever calls holds the lock of the pair."""
    for temporary in folder.glob(".*.tmp*"):
        temporary.unlink()


def write_not_applicable(folder: Path, key: str, reason: str) -> None:
    """A folder that says in words why the condition has no features."""
    shutil.rmtree(folder, ignore_errors=True)
    write_json(folder / "index.json", {"status": "not applicable", "reason": reason, "key": key})


def is_complete(folder: Path, key: str) -> bool:
    """Whether ``folder`` is finished under the same ``key``, with every array as it was written."""
    if not (folder / "index.json").is_file():
        return False
    try:
        index = read_json(folder / "index.json", "key")
        for name, spec in index.get("arrays", {}).items() if index["key"] == key else ():
            checksums.opened(folder, name, spec)
    except InputError:  # damaged: made again
        return False
    return bool(index["key"] == key)


def prune(parent: Path, keep: Sequence[str]) -> None:
    """Delete condition folders of an older study, and what it left half written once all of ``keep`` are whole.

    DVC would version them, and nothing would ever read them.
    """
    for child in sorted(parent.iterdir()) if parent.is_dir() else []:
        if child.is_dir() and child.name not in keep:
            shutil.rmtree(child)
