"""CSV files that name images: read as text, or refused with file and row."""

import csv
import io
from collections import Counter
from pathlib import Path

import pandas as pd

from vit_registers.core.doors import door, read_text
from vit_registers.core.errors import InputError

WHAT = "a CSV file with a header"


def read(path: Path, needed: list[str], filled: list[str], missing: str) -> pd.DataFrame:
    """The file as text.

    :class:`InputError` where there is none (which goes on with ``missing``: what to do), where one of the columns
    ``needed`` is not there, or one of those ``filled`` has an empty field or spaces around it. Rows are counted from 1
    below the header; empty lines are none.
    """
    text = read_text(path, WHAT, "correct it", missing)
    with door(path, WHAT, "correct it", missing):
        header, *rows = [fields for fields in csv.reader(io.StringIO(text), strict=True) if fields] or [[]]
    if not header:
        raise InputError(f"{path}: not {WHAT}: it is empty; correct it")
    twice = [column for column, times in Counter(header).items() if times > 1]
    if twice:
        raise InputError(f"{path}: column '{twice[0]}' is there twice; keep one")
    for row, fields in enumerate(rows, start=1):
        if len(fields) != len(header):
            raise InputError(
                f"{path}: not {WHAT}: row {row} has {len(fields)} fields where the header has {len(header)}; correct it"
            )
    given = pd.DataFrame(rows, columns=pd.Index(header), dtype=str)
    for column in needed:
        if column not in given.columns:
            raise InputError(f"{path}: no column '{column}'; its columns are {', '.join(given.columns)}")
    for column in filled:
        stripped = given[column].str.strip()
        blank, spaced = given.index[stripped == ""], given.index[stripped != given[column]]
        if len(blank):
            raise InputError(f"{path}: row {blank[0] + 1}: '{column}' is empty; fill it in or drop the row")
        if len(spaced):
            value = given[column].iloc[spaced[0]]
            raise InputError(f"{path}: row {spaced[0] + 1}: '{column}' is {value!r}; take the spaces around it away")
    return given


def existing(files: pd.Series, root: Path, table: Path) -> None:
    """Refuse the first row of ``table`` whose image, ``files`` relative to ``root``, is not there."""
    for row, file in enumerate(files, start=1):
        if not (root / file).is_file():
            raise InputError(f"{table}: row {row}: no image '{file}' in {root}; restore it or drop the row")
