"""The door by which files come in: what a library makes of a damaged or hostile one becomes one line that names it.

A file is opened only if it is one: a folder is none, and who opens a pipe waits for ever. Whatever reading it raises,
in whichever library, is an :class:`InputError` that names the file, what it should be, and what to do.
"""

import json
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vit_registers.core.errors import InputError, of_the_machine, one_line, reason

AGAIN = "delete it and run again"  # the remedy of what a step has written
FIRST = "run the step that makes it first"


@contextmanager
def door(
    path: Path | str, what: str, damaged: str = AGAIN, missing: str | None = None, noun: str = "file"
) -> Iterator[Path]:
    """Read ``path`` within, which has to be ``what`` ("a PNG"); else an :class:`InputError` names it.

    It ends in what to do: ``damaged`` where the file is not what it should be, ``missing`` where there is none; what
    that is called is a ``noun``.
    """
    _refuse_what_is_no_file(path, what, damaged, f"no such {noun}; {missing or damaged}")
    try:
        yield Path(path)
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"{shown(path)}: {_why(error, what)}; {damaged}") from error


def shown(path: Path | str) -> str:
    """A path as messages name it, whatever bytes it is made of."""
    return one_line(str(path)) if str(path).isprintable() else repr(str(path))


def is_text(name: str) -> bool:
    """Whether a name can be written down: those of files are bytes, and need not be UTF-8."""
    return not any("\ud800" <= each <= "\udfff" or each < " " for each in name)


def _refuse_what_is_no_file(path: Path | str, what: str, damaged: str, missing: str) -> None:
    try:
        mode = os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(f"{shown(path)}: {missing}") from None
    except (OSError, ValueError) as error:
        why = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else reason(error)
        raise InputError(f"{shown(path)}: cannot be read ({why}); {damaged}") from None
    if stat.S_ISDIR(mode):
        raise InputError(f"{shown(path)}: is a folder, expected {what}; {damaged}")
    if not stat.S_ISREG(mode):
        raise InputError(f"{shown(path)}: is no file but a pipe, a socket or a device, expected {what}; {damaged}")


def _why(error: Exception, what: str) -> str:
    """What is wrong with a file, in words."""
    match error:
        case UnicodeEncodeError():
            return f"not {what}: half of a character (a lone surrogate)"
        case UnicodeDecodeError():
            return f"not {what}: no text in UTF-8 at byte {error.start + 1}"
        case RecursionError():
            return f"not {what}: nested too deeply"
        case MemoryError():
            return f"not {what}: it asks for more memory than there is"
        case OSError() if of_the_machine(error):
            return f"cannot be read ({os.strerror(error.errno or 0)})"
    return f"not {what} ({one_line(reason(error))})"


def read_text(
    path: Path | str,
    what: str = "a text file",
    damaged: str = AGAIN,
    missing: str | None = None,
    noun: str = "file",
) -> str:
    """A text in UTF-8, a byte order mark taken off; a NUL byte is refused with its line."""
    with door(path, what, damaged, missing, noun) as file:
        text = file.read_bytes().decode("utf-8-sig")
        if "\0" in text:
            raise ValueError(f"a NUL byte in line {text.count(chr(10), 0, text.index(chr(0))) + 1}")
        return text.replace("\r\n", "\n").replace("\r", "\n")


def read_json(
    path: Path | str,
    *keys: str,
    damaged: str = AGAIN,
    missing: str = FIRST,
    hook: Callable[[dict[str, Any]], Any] | None = None,
    noun: str = "file",
) -> Any:
    """The content of a JSON file; with ``keys``, an object that has them. ``hook``: json's ``object_hook``."""
    with door(path, "valid JSON", damaged, missing, noun):
        text = read_text(path, "valid JSON", damaged, missing, noun)
        content = json.loads(text, object_hook=hook)
        if "\\ud" in text.lower():  # halves of characters, which are no text and cannot be written down
            json.dumps(content, ensure_ascii=False).encode()
    if keys and not isinstance(content, dict):
        raise InputError(f"{shown(path)}: expected an object with '{keys[0]}'; {damaged}")
    absent = [key for key in keys if key not in content]
    if absent:
        raise InputError(f"{shown(path)}: lacks '{absent[0]}'; {damaged}")
    return content


def read_arrays(path: Path | str, damaged: str = AGAIN, missing: str = FIRST) -> dict[str, Any]:
    """All arrays of an .npz file by name; pickled objects are refused."""
    import numpy as np

    with door(path, "arrays of NumPy", damaged, missing), np.load(path, allow_pickle=False) as content:
        return {name: content[name] for name in content.files}


def read_table(path: Path | str, *columns: str, damaged: str = AGAIN, missing: str = FIRST) -> Any:
    """A table in Parquet or CSV, by its name, as a data frame that has some ``columns``."""
    import pandas as pd

    what = "a table in Parquet" if str(path).endswith(".parquet") else "a table in CSV"
    with door(path, what, damaged, missing):
        table = pd.read_parquet(path) if str(path).endswith(".parquet") else pd.read_csv(path)
    absent = [column for column in columns if column not in table.columns]
    if absent:
        raise InputError(f"{shown(path)}: not the table that was written (no column '{absent[0]}'); {damaged}")
    return table
