"""A few images of each split, for a first look at a study (``limit`` of params)."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import numpy as np
import pandas as pd

from vit_registers.core.errors import InputError

_LIMIT: ContextVar[int | None] = ContextVar("limit", default=None)


@contextmanager
def limited(limit: int | None) -> Iterator[None]:
    """Within, the check of a manifest keeps and reads at most ``limit`` images of each split; null: all.

    No kind of data set has to know of it: what it lists is cut before its images are read.
    """
    token = _LIMIT.set(limit)
    try:
        yield
    finally:
        _LIMIT.reset(token)


def taken(table: pd.DataFrame, labelled: bool, source: str) -> pd.DataFrame:
    """The rows of a manifest's ``table`` that the limit in force keeps, in their order; all where there is none.

    Without labels they are the first ones of each split. With labels they are of the first ``limit`` // 2 classes that
    have two training images and a test image, taken from these classes in turn: a probe can then be trained, validated
    on another image and tested.
    """
    limit = _LIMIT.get()
    if limit is None:
        return table
    if not labelled:
        return table[table.groupby("split").cumcount() < limit].reset_index(drop=True)
    train, test = (table["label"][table["split"] == split].value_counts() for split in ("train", "test"))
    usable = sorted(set(train.index[train >= 2]) & set(test.index))[: limit // 2]
    if len(usable) < 2:
        raise InputError(
            f"{source}: fewer than two classes have two training images and a test image, as a limit of {limit} wants; "
            "leave the limit out"
        )
    own = table[table["label"].isin(usable)]
    turn = own.groupby(["split", "label"]).cumcount().sort_values(kind="stable").index  # all first ones, all second ...
    rows = turn[own.loc[turn].groupby("split").cumcount() < limit]
    return table.loc[np.sort(rows)].reset_index(drop=True)
