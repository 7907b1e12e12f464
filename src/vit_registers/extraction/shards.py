"""Which part of a pass is whose: the batches of a shard, and the rows that it writes.

The batches are those of one job that passes everything, dealt out in contiguous parts of every phase. So images pass in
the same company, tokens that an intervention takes from others of the batch are the same, and sums are rounded alike:
what all shards write together is byte for byte what one job writes.

Every shard has a folder of its own, with arrays of the full shape, written at its rows; of the rest a file system
stores nothing (files are sparse). One folder for all would spare the copying when they are joined, and rows of two
shards are never the same. But they share pages, and a client of a network file system (NFS) may write back whole pages
of a memory map, and with them what it read there before another shard wrote.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vit_registers.core.errors import InputError
from vit_registers.core.files import digest, read_json, replacing, write_json
from vit_registers.params.shard import Shard
from vit_registers.pipeline.configs import ExtractConfig, tracked

if TYPE_CHECKING:
    from vit_registers.extraction.plan import Phase, Plan

Ranges = NDArray[np.int64]  # (n, 2): first row, and the one behind the last
ROWS = "rows.npz"  # beside the arrays of a shard: which rows of each it has written


def parts(phases: Iterable[Phase], shard: Shard) -> Iterator[tuple[Phase, list[NDArray[np.int64]]]]:
    """Every phase with the batches of it that a shard passes, in the order of the unsharded pass.

    A phase that does not divide evenly gives some shards a batch more than others. They take turns from phase to
    phase, or all of many small phases would be those of the same shard.
    """
    turn = 0
    for phase in phases:
        batches = phase.batches
        each, more = divmod(len(batches), shard.of)
        sizes = [each + ((other - turn) % shard.of < more) for other in range(shard.of)]
        start = sum(sizes[: shard.number - 1])
        yield phase, batches[start : start + sizes[shard.number - 1]]
        turn += more


def ranges(rows: NDArray[np.int64]) -> Ranges:
    """Different rows as ascending ranges."""
    ordered = np.sort(rows)
    first = np.ones(len(ordered), dtype=bool)
    first[1:] = np.diff(ordered) != 1
    last = np.roll(first, -1)  # the row behind which a range begins, and the last of all, as the first row begins one
    return np.stack([ordered[first], ordered[last] + 1], axis=1)


def rows(plan: Plan, shard: Shard) -> dict[str, Ranges]:
    """Rows of each array that a shard writes."""
    specs = plan.specs()
    found: dict[str, list[NDArray[np.int64]]] = {name: [np.arange(0)] for name in specs}
    for phase, batches in parts(plan.phases(), shard):
        read: dict[str, Any] = dict.fromkeys(name for reader in phase.readers() for name in reader.specs())
        for batch in batches:
            arrays, places = phase.placed(batch, read)
            for name in arrays:
                found[name].append(places[specs[name].rows])
    return {name: ranges(np.concatenate(each)) for name, each in found.items()}


def write_rows(folder: Path, written: Mapping[str, Ranges]) -> None:
    """Keep beside the arrays of a shard which rows of each it has written."""
    arrays: dict[str, Any] = dict(written)
    with replacing(folder / ROWS) as temporary:
        np.savez(temporary, **arrays)


def read_rows(folder: Path) -> dict[str, Ranges]:
    """What :func:`write_rows` kept."""
    with np.load(folder / ROWS) as kept:
        return dict(kept)


def write_stamp(path: Path, cfg: ExtractConfig, indices: Mapping[str, Path]) -> None:
    """Say that a shard has passed its part: under which params, and with which index of every condition."""
    write_json(path, {"params": _params(cfg), "indices": {name: of_index(index) for name, index in indices.items()}})


def of_index(path: Path) -> str:
    """Digest of what an index says of a pass: without the checksums of its arrays, which each shard has its own of."""
    index = read_json(path)
    arrays = {
        name: {key: value for key, value in spec.items() if key != "crc32"}
        for name, spec in index.get("arrays", {}).items()
    }
    return digest([{**index, "arrays": arrays}])


def read_stamps(paths: Mapping[Shard, Path], cfg: ExtractConfig, command: str) -> dict[str, str]:
    """Checksum of the index of every condition, on which all shards agree.

    :class:`InputError` for a shard that is missing, was made under other params, or on a plan of its own, with the
    ``command`` that makes it.
    """
    found: dict[str, str] = {}
    for shard, path in paths.items():
        again = f"run `{command} --shard {shard}`"
        if not path.is_file():
            raise InputError(f"{path}: no such file: shard {shard} has not passed; {again}")
        stamp = read_json(path)
        if stamp["params"] != _params(cfg):
            raise InputError(f"{path}: shard {shard} was made under other params; {again}")
        if stamp["indices"] != (found or stamp["indices"]):
            raise InputError(
                f"{path}: shard {shard} is of another model, data or code than those before it; {again}, or delete "
                f"{path.parent} and run them all"
            )
        found = stamp["indices"]
    return found


def _params(cfg: ExtractConfig) -> str:
    """Digest of what all shards have in common."""
    return digest({name: value for name, value in tracked(cfg).items() if name != "shard"})
