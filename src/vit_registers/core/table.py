"""The tidy table: every readout ends in these rows; tables, figures and claims are views of it."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd

from vit_registers.core.errors import InputError
from vit_registers.core.files import replacing


@dataclass(frozen=True)
class Metric:
    """One measured number.

    ``n`` is what the estimate rests on (images, unless the unit says otherwise); ``low`` and ``high`` are the 95 %
    interval where it is an estimate. A difference names what it was compared with in ``reference``
    (``model/intervention``) and carries the paired test's ``p``. ``note`` says in words why a value is absent.
    """

    model: str
    dataset: str
    intervention: str
    readout: str
    metric: str
    value: float | None
    unit: str
    n: int
    layer: int | None = None
    seed: int | None = None
    low: float | None = None
    high: float | None = None
    reference: str | None = None
    p: float | None = None
    note: str | None = None


KEY = ["dataset", "model", "intervention", "readout", "metric", "reference", "layer", "seed"]
COLUMNS = [*KEY, "value", "unit", "n", "low", "high", "p", "note"]
_DTYPES = {
    **dict.fromkeys(["dataset", "model", "intervention", "readout", "metric", "reference", "unit", "note"], "string"),
    **dict.fromkeys(["layer", "seed", "n"], "Int64"),
    **dict.fromkeys(["value", "low", "high", "p"], "Float64"),
}


def frame(rows: Iterable[Metric]) -> pd.DataFrame:
    """Rows as a data frame with the columns and dtypes of the tidy table, sorted by its key."""
    table = pd.DataFrame([asdict(row) for row in rows], columns=COLUMNS).astype(_DTYPES)
    return table.sort_values(KEY, kind="stable", ignore_index=True)


def write(table: pd.DataFrame, path: Path | str) -> None:
    """Write the tidy table as CSV; floats keep the shortest text that reads back as the same number."""
    duplicated = table[table.duplicated(KEY, keep=False)]
    if len(duplicated):
        raise ValueError(f"two rows with the same key in {path}: {duplicated.iloc[0][KEY].to_dict()}")
    with replacing(path) as temporary:
        table[COLUMNS].to_csv(temporary, index=False)


def read(path: Path | str) -> pd.DataFrame:
    """Read a table that :func:`write` wrote."""
    try:
        return pd.read_csv(path, dtype=_DTYPES, keep_default_na=False, na_values=[""])[COLUMNS]
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; run the readouts first") from None


def concatenate(paths: Iterable[Path | str]) -> pd.DataFrame:
    """The tables of several readouts as one, sorted by key."""
    tables = [read(path) for path in paths] or [frame([])]
    return pd.concat(tables).astype(_DTYPES).sort_values(KEY, kind="stable", ignore_index=True)
