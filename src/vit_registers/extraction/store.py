"""Cached tensors: memory-mapped arrays in manifest order with one JSON index; half a folder never looks whole.

A writer works in ``<folder>.partial`` and records from time to time how far it is. Killed, it goes on there; finished,
it writes the index and renames the folder. All conditions of a pair of data set and model are made apart from the
pipeline's outputs, which Snakemake clears away before a killed job begins again, and are delivered together. Nothing
here needs torch, so figures and LOST read features without it.
"""

import os
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vit_registers.core.errors import InputError
from vit_registers.core.files import read_json, reserve, sha256, write_json
from vit_registers.extraction import checksums
from vit_registers.forward.arrays import Spec
from vit_registers.models.layout import TokenLayout
from vit_registers.params.shard import Shard

RECORD_SECONDS = 10.0  # between records of a writer: what a kill may lose; a record waits for the disk
WHOLE = "whole"  # of the folder of conditions that are made, or joined, as a whole


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


def unfinished_folder(root: Path, dataset: str, model: str, ablated: bool) -> Path:
    """Folder in which the conditions of a pair are made, by one job or by shards."""
    return root / "unfinished" / ("ablated" if ablated else "baseline") / dataset / model


def stamp(root: Path, dataset: str, model: str, ablated: bool, shard: Shard) -> Path:
    """File that says that a shard has passed its part, under which params, and with which index of every condition."""
    return unfinished_folder(root, dataset, model, ablated) / f"{shard}.json"


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
    """Writes one folder batch by batch; batches are numbered, and :attr:`done` of them are written.

    Every ``RECORD_SECONDS`` the arrays are flushed, then the batches counted on disk. A killed writer goes on from the
    last record: the batches since then are written again, to the same rows and with the same bytes.
    """

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
            self._count()
        self.arrays = {name: np.lib.format.open_memmap(self._path(name), "r+") for name in specs}
        self.recorded = time.monotonic()

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

    def _count(self) -> None:
        write_json(self.partial / "progress.json", {"key": self.key, "done": self.done})

    def write(self, values: Mapping[str, NDArray[Any]], rows: Mapping[str, NDArray[np.int64]]) -> None:
        """Put a batch at its rows; make it and those before it safe if the last record is long ago."""
        for name, value in values.items():
            self.arrays[name][rows[self.specs[name].rows]] = value
        self.done += 1
        if time.monotonic() - self.recorded >= RECORD_SECONDS:
            self.record()

    def record(self) -> None:
        """Flush all arrays, then count the batches: never one that is not on disk."""
        for array in self.arrays.values():
            array.flush()
        self._count()
        self.recorded = time.monotonic()

    def finish(self, index: Mapping[str, Any]) -> None:
        """Write the index and give the folder its name."""
        self.record()
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
        move(self.partial, self.folder)


def move(made: Path, folder: Path) -> None:
    """Put ``made`` in the place of ``folder``, of which nothing is left."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    os.replace(made, folder)


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


def linked(folder: Path, to: Path, key: str) -> bool:
    """Whether ``to`` is complete under ``key``, after it was made of links to ``folder`` if that is."""
    if is_complete(to, key):
        return True
    if not is_complete(folder, key):
        return False
    temporary = to.with_name(f"{to.name}.linked")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        for name in ["index.json", *(f"{array}.npy" for array in read_json(folder / "index.json").get("arrays", {}))]:
            os.link(folder / name, temporary / name)
    except OSError:  # a file system without links: then the images pass again
        shutil.rmtree(temporary)
        return False
    move(temporary, to)
    return True


def deliver(root: Path, dataset: str, model: str, conditions: Sequence[str], ablated: bool) -> None:
    """Put the conditions of a pair that were made in their places, and list them all, each with a checksum.

    Folders of other conditions are pruned, and what an older run left unfinished. Whoever calls holds the lock of the
    pair.
    """
    unfinished, kind = unfinished_folder(root, dataset, model, ablated), "ablated" if ablated else "baseline"
    indices = {}
    for name in conditions:
        folder = condition_folder(root, dataset, model, name)
        if (unfinished / WHOLE / name).is_dir():
            move(unfinished / WHOLE / name, folder)
        indices[name] = sha256(folder / "index.json")
    if ablated:
        prune(root / kind / dataset / model, conditions)
    for child in sorted(unfinished.iterdir()) if unfinished.is_dir() else []:
        if child.is_dir():
            shutil.rmtree(child)
    write_json(root / kind / dataset / f"{model}.json", {"conditions": indices})


def prune(parent: Path, keep: Sequence[str]) -> None:
    """Delete condition folders of an older study, and what it left half written once all of ``keep`` are whole.

    DVC would version them, and nothing would ever read them.
    """
    for child in sorted(parent.iterdir()) if parent.is_dir() else []:
        if child.is_dir() and child.name not in keep:
            shutil.rmtree(child)
