"""The step that joins what shards wrote into the one folder of each condition.

It copies array by array, through memory maps, into the arrays of the first shard, and deletes each copy as soon as the
joined array is on disk: never more than one array is stored twice. Killed, it goes on with the array that it was at.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vit_registers.core.errors import InputError
from vit_registers.core.files import exclusive, read_json, write_json
from vit_registers.extraction import checksums, shards, store
from vit_registers.extraction.shards import Ranges
from vit_registers.params.shard import Shard
from vit_registers.params.shard import shards as parts_of
from vit_registers.pipeline.configs import ExtractConfig

JOINED = "joined.json"  # in the folder of the first shard: arrays that hold the rows of all
CHUNK = 1 << 26  # bytes that are copied at a time


def run(cfg: ExtractConfig, out: Path, ablated: bool) -> None:
    """Write the condition folders below ``out`` (results/features) from those of all shards of a pair.

    The step needs neither the model nor the images. :class:`InputError` for a shard that is missing or of another plan.
    """
    pair = (out, cfg.dataset, cfg.model)
    unfinished, wanted = store.unfinished_folder(*pair, ablated), parts_of(cfg.extraction.shards)
    command = f"vit-registers {'ablate' if ablated else 'extract'}-shard --dataset {cfg.dataset} --model {cfg.model}"
    with exclusive(store.lock_folder(*pair, ablated)):
        stamps = {shard: store.stamp(*pair, ablated, shard) for shard in wanted}
        indices = shards.read_stamps(stamps, cfg, command)
        for name in cfg.interventions:
            whole = unfinished / store.WHOLE / name
            if not any(_is(folder, indices[name]) for folder in (whole, store.condition_folder(*pair, name))):
                folders = {shard: unfinished / str(shard) / name for shard in wanted}
                _check(folders, indices[name], command)
                join(list(folders.values()))
                _seal(folders[wanted[0]])
                store.move(folders[wanted[0]], whole)
            for left in (shards.ROWS, JOINED):
                (whole / left).unlink(missing_ok=True)
        store.deliver(*pair, list(cfg.interventions), ablated)


def _seal(folder: Path) -> None:
    """Put the checksums of the joined arrays in the index, where those of the first shard's own stood."""
    index = read_json(folder / "index.json")
    for name, spec in index.get("arrays", {}).items():
        spec["crc32"] = checksums.of(folder / f"{name}.npy")
    write_json(folder / "index.json", index)


def _is(folder: Path, index: str) -> bool:
    """Whether a folder has the index with this checksum."""
    return (folder / "index.json").is_file() and shards.of_index(folder / "index.json") == index


def _check(folders: Mapping[Shard, Path], index: str, command: str) -> None:
    """Refuse a shard that has no folder, or that of another pass."""
    for shard, folder in folders.items():
        if not _is(folder, index):
            raise InputError(f"{folder}: not what shard {shard} wrote; run `{command} --shard {shard}`")


def join(folders: Sequence[Path]) -> None:
    """Copy the rows that other shards wrote into the arrays of the first; of the others' nothing is left."""
    first, *others = folders
    arrays = read_json(first / "index.json").get("arrays", {})  # a condition that does not apply has none
    joined = read_json(first / JOINED)["arrays"] if (first / JOINED).is_file() else []
    written = {folder: shards.read_rows(folder) for folder in folders} if arrays else {}
    for name in arrays:
        if name not in joined:
            _join(name, {folder: rows[name] for folder, rows in written.items()}, first)
            joined.append(name)
            write_json(first / JOINED, {"arrays": joined})
        for folder in others:
            (folder / f"{name}.npy").unlink(missing_ok=True)


def _join(name: str, written: Mapping[Path, Ranges], first: Path) -> None:
    """Join one array."""
    target = _opened(first / f"{name}.npy", "r+")
    if not covers(list(written.values()), len(target)):
        raise InputError(f"{first}: the shards do not make up array '{name}'; delete {first.parents[1]} and run again")
    for folder, rows in written.items():
        if folder != first:
            copy(_opened(folder / f"{name}.npy", "r"), target, rows)
    target.flush()


def _opened(path: Path, mode: Any) -> np.memmap[Any, Any]:
    if not path.is_file():
        raise InputError(f"{path}: missing; delete {path.with_name('index.json')} and run its shard again")
    return np.lib.format.open_memmap(path, mode)


def covers(written: Sequence[Ranges], count: int) -> bool:
    """Whether ranges hold every one of ``count`` rows once."""
    every = np.concatenate(list(written))
    every = every[every[:, 0].argsort(kind="stable")]
    bounds = np.concatenate([[0], every[:, 1]]), np.concatenate([every[:, 0], [count]])
    return bool((bounds[0] == bounds[1]).all())


def copy(source: NDArray[Any], target: NDArray[Any], rows: Ranges) -> None:
    """Copy ranges of rows, at most so many at a time that memory does not grow with the data."""
    source, target = np.asarray(source), np.asarray(target)  # plain views: a memory map's own slices are slow
    step = max(1, CHUNK // max(1, source[:1].nbytes))
    for start, stop in rows.tolist():
        for at in range(start, stop, step):
            target[at : min(at + step, stop)] = source[at : min(at + step, stop)]
