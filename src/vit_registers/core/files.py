"""Whole files or none: atomic writes, checksums, and the lock that keeps two processes out of one folder."""

import errno
import fcntl
import glob
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from vit_registers.core.doors import read_json as read_json
from vit_registers.core.errors import InputError, cannot_write


@contextmanager
def replacing(path: Path | str) -> Iterator[Path]:
    """Give a temporary name beside ``path``; rename it onto ``path`` only if the block ends without an exception.

    A killed writer cannot take its temporary file away: the next writer of the same path does. What the machine refuses
    (a full disk, a read-only folder) is an :class:`InputError`, whatever the library that writes says of it.
    """
    path = Path(path)
    temporary = unfinished(path, f".tmp{path.suffix}")
    try:
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            for left in abandoned(path, f".tmp{path.suffix}"):
                left.unlink(missing_ok=True)
            yield temporary
            os.replace(temporary, path)
    finally:
        with suppress(OSError):
            temporary.unlink()


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """What the machine refuses while ``path`` is written within is an :class:`InputError` that names it."""
    try:
        yield
    except Exception as error:
        said = cannot_write(path, error)
        if said is None:
            raise
        raise InputError(said) from error


def _name_of(process: int) -> str:
    """What tells a process from all others: its id and, where the system says it, when it started.

    Ids alone come again: the first process of every container has the same.
    """
    try:
        with open(f"/proc/{process}/stat", encoding="utf-8", errors="replace") as status:
            return f"{process}-{status.read().rpartition(')')[2].split()[19]}"
    except (OSError, IndexError):
        return str(process)


def unfinished(path: Path, suffix: str) -> Path:
    """The name beside ``path`` under which this process makes it."""
    return path.with_name(f".{path.name}.{_name_of(os.getpid())}{suffix}")


def abandoned(path: Path, suffix: str) -> list[Path]:
    """What writers of ``path`` that are dead left under such names; a living one is still at work on its own."""
    found = []
    for left in path.parent.glob(f".{glob.escape(path.name)}.*{glob.escape(suffix)}"):
        writer = left.name.removeprefix(f".{path.name}.").removesuffix(suffix)
        process = writer.partition("-")[0]
        if process.isdecimal() and not (_alive(int(process)) and writer == _name_of(int(process))):
            found.append(left)
    return found


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # somebody else's, and at work
        pass
    return True


def reserve(path: Path | str) -> None:
    """Take the room on the disk that a file of holes will need, so that a full disk is said now.

    Who writes to a hole of a memory-mapped file for which there is no room is killed by the system, without a word.
    """
    if not hasattr(os, "posix_fallocate"):  # macOS
        return
    with writing(Path(path)), open(path, "r+b") as file:
        size = os.fstat(file.fileno()).st_size
        try:
            if size:
                os.posix_fallocate(file.fileno(), 0, size)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):  # the file system cannot
                raise


def write_text(path: Path | str, text: str) -> None:
    """Write ``text`` to ``path`` atomically."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path | str, content: Any) -> None:
    """Write ``content`` as indented JSON with sorted keys, atomically: same content, same bytes."""
    write_text(path, json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n")


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
