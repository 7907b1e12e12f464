"""Whole files or none: atomic writes, checksums, and the lock that keeps two processes out of one folder."""

import fcntl
import glob
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vit_registers.core.errors import InputError


@contextmanager
def replacing(path: Path | str) -> Iterator[Path]:
    """Give a temporary name beside ``path``; rename it onto ``path`` only if the block ends without an exception.

    A killed writer cannot take its temporary file away: the next writer of the same path does.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp{path.suffix}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _remove_abandoned(path: Path) -> None:
    """Remove the temporary files of ``path`` whose writers are dead; a living one is still at work on its own."""
    for left in path.parent.glob(f".{glob.escape(path.name)}.*.tmp{glob.escape(path.suffix)}"):
        writer = left.name.removeprefix(f".{path.name}.").split(".")[0]
        if writer.isdecimal() and not _alive(int(writer)):
            left.unlink(missing_ok=True)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's, and at work
        pass
    return True


def write_text(path: Path | str, text: str) -> None:
    """Write ``text`` to ``path`` atomically."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path | str, content: Any) -> None:
    """Write ``content`` as indented JSON with sorted keys, atomically: same content, same bytes."""
    write_text(path, json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n")


def read_json(path: Path | str) -> Any:
    """Read JSON, or raise :class:`InputError` naming the file."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; run the step that makes it first") from None
    except json.JSONDecodeError as error:
        raise InputError(f"{path}: not valid JSON ({error}); delete it and run again") from None


def sha256(path: Path | str) -> str:
    """Hex SHA-256 of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def canonical(content: Any) -> str:
    """One JSON string per content, whatever the order of its keys: what Snakemake compares and what is hashed."""
    return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def digest(content: Any) -> str:
    """Hex SHA-256 of :func:`canonical`."""
    return hashlib.sha256(canonical(content).encode()).hexdigest()


@contextmanager
def exclusive(folder: Path | str) -> Iterator[None]:
    """Hold ``folder`` alone; wait while another process holds it.

    A step that outlives its killed orchestrator may still be writing when the next run starts the same step: the
    second waits, then finds the work done. The kernel drops the lock with the process, however it ends.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
