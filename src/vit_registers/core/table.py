"""The tidy table: every measure ends in its rows; tables, figures and claims are queries on it.

Nothing is ever parsed out of a string: what a number was measured along (block, epoch, feature, head, group of tokens,
seed ...) stands in typed columns, the *axes*. What a metric is (unit, direction, format, meaning) is registered once,
as a :class:`Metric`, and a row of a metric that is not registered is refused.
"""

import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vit_registers.core.doors import door
from vit_registers.core.errors import InputError
from vit_registers.core.files import replacing

Better = Literal["higher", "lower"]
Format = Literal["percent", "whole", "fine", "number"]  # fine: with four decimals


@dataclass(frozen=True)
class Metric:
    """One kind of number.

    ``unit``: of its values ("share" of a whole that is 1, "L2 norm", "patches" ...). ``better``: the direction in which
    it improves, None where neither is better. ``format``: how it is printed, shares as ``percent``, counts ``whole``,
    small errors ``fine``. ``headline``: whether ``dvc metrics`` shows it. ``exact``: why its numbers have no interval,
    where they are none of estimates; it is the note of rows that have neither an interval nor a note.
    """

    name: str
    unit: str
    meaning: str
    better: Better | None = None
    format: Format = "number"
    headline: bool = False
    exact: str | None = None


# Axes that every table has, with the pandas type of their column. An experiment may declare further ones.
AXES: dict[str, str] = {
    "dataset": "string",
    "model": "string",
    "intervention": "string",
    "experiment": "string",
    "metric": "string",
    "feature": "string",  # what a head or a method reads: cls, patch_mean, k ...
    "head": "string",  # how it is read: refitted, frozen, knn, lost ...
    "group": "string",  # of tokens or images: outlier, normal, cls, registers ...
    "target": "string",  # of attention: the group of tokens that it goes to
    "layer": "Int64",  # block, counted from 0
    "epoch": "Int64",  # of a training, counted from 1
    "registers": "Int64",  # number of registers
    "item": "Int64",  # one of several: register (from 1), neuron
    "seed": "Int64",
    "trainings": "Int64",  # number of trainings that a number is the mean over; their draws differ, nothing else
    # A row with a reference is a difference: the value of the row's own axes less that of the reference.
    "reference_dataset": "string",
    "reference_model": "string",
    "reference_intervention": "string",
    "reference_group": "string",
}
REFERENCES = [name for name in AXES if name.startswith("reference_")]
NUMBERS: dict[str, str] = {
    "value": "Float64",
    "unit": "string",
    "n": "Int64",
    "low": "Float64",
    "high": "Float64",
    "p": "Float64",
    "p_adjusted": "Float64",  # for the number of tests in its family
    "note": "string",
}


class Resampled(Protocol):
    """What gives intervals of means over images (:class:`core.stats.Bootstrap`)."""

    def interval(self, values: NDArray[np.float64]) -> tuple[float, float]:
        """Interval of the mean of ``values`` (n,)."""


class Rows:
    """Rows in the making: metrics and axes are checked as they come.

    ``metrics`` are those that may be measured, by name; ``axes`` further axes with their pandas types; ``fixed`` the
    axes that all rows share (data set, model ...).
    """

    def __init__(
        self, experiment: str, metrics: Iterable[Metric], axes: Mapping[str, str] | None = None, **fixed: Any
    ) -> None:
        self.metrics = {metric.name: metric for metric in metrics}
        self.axes = dict(axes or {})
        self.fixed = {"experiment": experiment, **fixed}
        self.rows: list[dict[str, Any]] = []

    def add(
        self,
        metric: str,
        value: float | None,
        n: int,
        *,
        low: float | None = None,
        high: float | None = None,
        p: float | None = None,
        p_adjusted: float | None = None,
        note: str | None = None,
        **axes: Any,
    ) -> None:
        """A number of ``metric`` and what it rests on.

        ``n`` counts images unless the metric says otherwise; ``low`` and ``high`` are the interval where the number is
        an estimate, ``p`` that of a paired test where it is a difference, ``p_adjusted`` the same for the number of
        tests in its family; ``note`` says in words why a value, or the interval of one, is absent.
        """
        if metric not in self.metrics:
            raise ValueError(
                f"metric '{metric}' is not registered; those of this experiment: {', '.join(self.metrics)}"
            )
        unknown = [axis for axis in axes if axis not in AXES and axis not in self.axes]
        if unknown:
            raise ValueError(f"'{unknown[0]}' is no axis; declare it, or use one of {', '.join([*AXES, *self.axes])}")
        if note is None and (low is None or high is None):
            note = self.metrics[metric].exact
        number = {"value": value, "unit": self.metrics[metric].unit, "n": n, "low": low, "high": high, "p": p}
        number |= {"p_adjusted": p_adjusted, "note": note}
        self.rows.append({**self.fixed, "metric": metric, **axes, **number})

    def mean(self, metric: str, values: NDArray[Any], resampled: Resampled, **axes: Any) -> None:
        """The mean of what each image gave, ``values`` (n,), with its interval over images."""
        values = np.asarray(values, dtype=float)
        low, high = resampled.interval(values)
        self.add(metric, float(values.mean()), len(values), low=low, high=high, **axes)

    def absent(self, metrics: Iterable[str], reason: str, **axes: Any) -> None:
        """A row without a value for each of the ``metrics``, with the reason in words."""
        for metric in metrics:
            self.add(metric, None, 0, note=reason, **axes)

    def check(self) -> None:
        """ValueError where a number has neither an interval nor, in a note, the reason why there is none."""
        for row in self.rows:
            if row["note"] is None and (row["low"] is None or row["high"] is None):
                raise ValueError(
                    f"'{row['metric']}' has neither an interval nor a note: give low and high, or say why there are "
                    "none, in a note or for all rows of the metric by Metric(exact=...)"
                )

    def frame(self) -> pd.DataFrame:
        """The rows as a tidy table."""
        return frame(self.rows, self.axes)


def columns(axes: Mapping[str, str] | None = None) -> dict[str, str]:
    """All columns of a table with further ``axes``, with their pandas types."""
    return {**AXES, **(axes or {}), **NUMBERS}


def frame(rows: Iterable[Mapping[str, Any]], axes: Mapping[str, str] | None = None) -> pd.DataFrame:
    """Rows as a data frame with the columns and types of the tidy table, sorted by its axes."""
    types = columns(axes)
    return _sorted(pd.DataFrame(list(rows), columns=list(types)).astype(types), axes)


def _sorted(table: pd.DataFrame, axes: Mapping[str, str] | None) -> pd.DataFrame:
    return table.sort_values([*AXES, *(axes or {})], kind="stable", ignore_index=True)


def write(table: pd.DataFrame, path: Path | str) -> None:
    """Write the tidy table as CSV; floats keep the shortest text that reads back as the same number."""
    key = [column for column in table.columns if column not in NUMBERS]
    duplicated = table[table.duplicated(key, keep=False)]
    if len(duplicated):
        raise ValueError(f"two rows with the same axes in {path}: {duplicated.iloc[0][key].dropna().to_dict()}")
    with replacing(path) as temporary:
        table.to_csv(temporary, index=False)


def read(path: Path | str, axes: Mapping[str, str] | None = None) -> pd.DataFrame:
    """Read a table that :func:`write` wrote; further ``axes`` that it lacks are columns without values.

    :class:`InputError` where it is damaged: no CSV, columns that are no axes, text in place of a number, a row twice.
    """
    types, again = columns(axes), "delete it and run again"
    with door(path, "a tidy table", again, "run the measures first"), warnings.catch_warnings():
        warnings.simplefilter("error", pd.errors.ParserWarning)  # of fields that no column is for
        table = pd.read_csv(path, dtype=types, keep_default_na=False, na_values=[""], index_col=False)
    unknown = [column for column in table.columns if column not in types]
    if unknown:
        raise InputError(f"{path}: column '{unknown[0]}' is no axis that an experiment declares; measure again")
    absent = [column for column in ("metric", *NUMBERS) if column not in table.columns]
    if absent:
        raise InputError(f"{path}: not a tidy table (no column '{absent[0]}'); {again}")
    if (nameless := table["metric"].isna()).any():
        raise InputError(f"{path}: row {int(nameless.to_numpy().argmax()) + 1} is of no metric; {again}")
    key = [column for column in table.columns if column not in NUMBERS]
    if (twice := table.duplicated(key)).any():
        raise InputError(f"{path}: row {int(twice.to_numpy().argmax()) + 1} has the axes of another; {again}")
    return table.reindex(columns=list(types)).astype(types)


def concatenate(paths: Iterable[Path | str], axes: Mapping[str, str] | None = None) -> pd.DataFrame:
    """Several tables as one, sorted by its axes."""
    tables = [read(path, axes) for path in paths] or [frame([], axes)]
    return _sorted(pd.concat(tables).astype(columns(axes)), axes)
