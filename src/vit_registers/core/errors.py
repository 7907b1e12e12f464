"""The one exception that a user is meant to see, and how others are quoted in it."""

import errno
import os
import shutil
from pathlib import Path

# What the machine, and not the program, refuses: a full disk, a read-only folder, no permission, too many open files.
OF_THE_MACHINE = {
    errno.ENOSPC: "make room",
    errno.EDQUOT: "make room",
    errno.EROFS: "write elsewhere, or mount it so that it can be written",
    errno.EACCES: "change its permissions",
    errno.EPERM: "change its permissions",
    errno.EIO: "look after the disk",
    errno.ENAMETOOLONG: "give it a shorter name",
    errno.EMFILE: "raise `ulimit -n`",
    errno.ENFILE: "close other programs",
    errno.ENOMEM: "free memory",
    errno.ESTALE: "mount it again",
}
FULL = 1 << 20  # bytes: with less than these free, what fails while it is written fails for want of room


class InputError(Exception):
    """What a user gave is wrong: one line that names the file, the key or row, what was expected and what to do.

    The command line prints it after ``error:`` and exits with status 2 (:mod:`vit_registers.core.ending`).
    """


def reason(error: BaseException) -> str:
    """The first line of an exception's text, without its full stop; its type where it has none."""
    return next(iter(str(error).strip().splitlines()), "").rstrip(". ") or type(error).__name__


def one_line(text: str) -> str:
    """``text`` on one line that any terminal takes: what is no character of it is escaped."""
    joined = " ".join(text.split())
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in joined)


def of_the_machine(error: BaseException) -> str | None:
    """What the machine refuses, and what to do, where that is what ``error`` says; None where it is something else."""
    if isinstance(error, MemoryError) or "can't allocate memory" in str(error) or "OutOfMemory" in type(error).__name__:
        return (
            f"out of memory ({reason(error)}); free some, or lower what params keep in memory (memory_mb, batch_size)"
        )
    if not isinstance(error, OSError) or error.errno not in OF_THE_MACHINE:
        return None
    named = next((os.fsdecode(name) for name in (error.filename, error.filename2) if isinstance(name, str | bytes)), "")
    where = f"{named}: " if named else ""
    return f"{where}{os.strerror(error.errno)}; {OF_THE_MACHINE[error.errno]} and run again, what is whole is kept"


def cannot_write(path: Path, error: Exception) -> str | None:
    """Why ``path`` cannot be written, where that is for the machine to say; None where ``error`` is something else.

    Libraries report a full disk in words of their own; whether it is full is asked of the disk.
    """
    if isinstance(error, InputError):
        return None
    if isinstance(error, OSError) and error.errno in OF_THE_MACHINE:
        elsewhere = error.filename and Path(os.fsdecode(error.filename)).parent != path.parent
        return of_the_machine(error if elsewhere else OSError(error.errno, "", str(path)))
    folder = next((each for each in path.absolute().parents if each.is_dir()), None)
    if folder is not None and shutil.disk_usage(folder).free < FULL:
        return of_the_machine(OSError(errno.ENOSPC, "", str(path)))
    return None
