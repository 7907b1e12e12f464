"""Checksums beside what steps write: a file that was cut short or edited since is refused by the step that reads it.

The checksum of ``rows.csv`` is in ``.rows.csv.sha256``, in the same folder, so that it goes wherever the folder goes. A
file without one is taken as it is: it is a user's own, or somebody deleted the checksum to say so.
"""

from collections.abc import Iterable
from pathlib import Path

from vit_registers.core.doors import shown
from vit_registers.core.errors import InputError
from vit_registers.core.files import sha256, write_text


def place(path: Path) -> Path:
    """Where the checksum of a file is."""
    return path.with_name(f".{path.name}.sha256")


def lift(paths: Iterable[Path]) -> None:
    """Take checksums away, before the files are written again."""
    for path in paths:
        place(path).unlink(missing_ok=True)


def seal(paths: Iterable[Path]) -> None:
    """Record the checksums of files that are whole now."""
    for path in paths:
        if path.is_file():
            write_text(place(path), sha256(path) + "\n")


def check(paths: Iterable[Path], remedy: str = "delete it and run again") -> None:
    """:class:`InputError` for the first file that is not as it was sealed; ``remedy``: what to do then."""
    for path in paths:
        if path.is_file() and place(path).is_file() and place(path).read_bytes() != (sha256(path) + "\n").encode():
            raise InputError(
                f"{shown(path)}: not as it was written (its checksum differs from {place(path).name}): cut short, or "
                f"edited; {remedy}, or delete the checksum to take it as it is"
            )
