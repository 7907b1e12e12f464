"""CSV files that name images: read as text, or refused with file and row."""

from pathlib import Path

import pandas as pd

from vit_registers.core.errors import InputError


def read(path: Path, needed: list[str], filled: list[str], missing: str) -> pd.DataFrame:
    """The file as text.

    :class:`InputError` where there is none (which goes on with ``missing``: what to do), where one of the columns
    ``needed`` is not there, or one of those ``filled`` has an empty field. Rows are counted from 1 below the header.
    """
    try:
        given = pd.read_csv(path, dtype=str, keep_default_na=False)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; {missing}") from None
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not a CSV file with a header ({error})") from None
    for column in needed:
        if column not in given.columns:
            raise InputError(f"{path}: no column '{column}'; its columns are {', '.join(given.columns)}")
    for column in filled:
        blank = given.index[given[column].str.strip() == ""]
        if len(blank):
            raise InputError(f"{path}: row {blank[0] + 1}: '{column}' is empty; fill it in or drop the row")
    return given


def existing(files: pd.Series, root: Path, table: Path) -> None:
    """Refuse the first row of ``table`` whose image, ``files`` relative to ``root``, is not there."""
    for row, file in enumerate(files, start=1):
        if not (root / file).is_file():
            raise InputError(f"{table}: row {row}: no image '{file}' in {root}; restore it or drop the row")
