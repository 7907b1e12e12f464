"""Checksums beside what steps write: a file that was cut short or edited since is refused by the step that reads it.

The checksum of ``rows.csv`` is in ``.rows.csv.sha256``, in the same folder, so that it goes wherever the folder goes. A
file without one is taken as it is: it is a user's own, or somebody deleted the checksum to say so.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from vit_registers.core.doors import shown
from vit_registers.core.errors import InputError
from vit_registers.core.files import sha256, write_text


def place(path: Path) -> Path:
    """Where the checksum of a file is."""
    return path.with_name(f".{path.name}.sha256")


@contextmanager
def renewed(paths: Iterable[Path]) -> Iterator[None]:
    """Write files within, and seal them then. Who is killed in between leaves none that is wrong.

    Where writing fails, files that are as they were have their checksums again.
    """
    paths = list(paths)
    before = {path: place(path).read_bytes() for path in paths if place(path).is_file()}
    lift(paths)
    try:
        yield
    except BaseException:
        seal(path for path, sealed in before.items() if path.is_file() and sealed == _line(path))
        raise
    seal(paths)


def lift(paths: Iterable[Path]) -> None:
    """Take checksums away."""
    for path in paths:
        place(path).unlink(missing_ok=True)


def seal(paths: Iterable[Path]) -> None:
    """Record the checksums of files that are whole now."""
    for path in paths:
        if path.is_file():
            write_text(place(path), _line(path).decode())


def _line(path: Path) -> bytes:
    return f"{sha256(path)}\n".encode()


def check(paths: Iterable[Path]) -> None:
    """:class:`InputError` for the first file that is not as it was sealed."""
    for path in paths:
        if path.is_file() and place(path).is_file() and place(path).read_bytes() != _line(path):
            raise InputError(
                f"{shown(path)}: not as it was written (its checksum differs from {place(path).name}): cut short, or "
                "edited; delete it and run again, or delete the checksum to take it as it is"
            )
