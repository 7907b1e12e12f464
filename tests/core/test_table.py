"""The tidy table: metrics and axes are checked, and what is written reads back the same."""

import numpy as np
import pandas as pd
import pytest

from vit_registers.core import table
from vit_registers.core.errors import InputError
from vit_registers.core.stats import Bootstrap
from vit_registers.core.table import AXES, Metric, Rows

TOP1 = Metric("top1", "share", "share of images whose class is found", "higher", "percent")
NORM = Metric("norm", "L2 norm", "of patch tokens")


def rows(**fixed):
    return Rows("test", [TOP1, NORM], {"bias": "Float64"}, dataset="d", model="m", **fixed)


def test_a_metric_that_is_not_registered_and_an_axis_that_nobody_declares_are_refused():
    with pytest.raises(ValueError, match="'top3' is not registered"):
        rows().add("top3", 0.5, 10)
    with pytest.raises(ValueError, match="'colour' is no axis"):
        rows().add("top1", 0.5, 10, colour="red")


def test_rows_have_typed_columns_and_the_unit_of_their_metric():
    made = rows()
    made.add("norm", 3.5, 10, layer=2, bias=-0.2)
    made.add("top1", 0.5, 10, low=0.4, high=0.6, seed=1, intervention="baseline")
    made.absent(["top1", "norm"], "no artifacts found", intervention="ttr")
    frame = made.frame()
    assert {name: str(kind) for name, kind in frame.dtypes.items()} == table.columns({"bias": "Float64"})
    assert frame.loc[frame["metric"] == "norm", "unit"].unique().tolist() == ["L2 norm"]
    absent = frame[frame["value"].isna()]
    assert absent["note"].unique().tolist() == ["no artifacts found"]
    assert absent["n"].tolist() == [0, 0]


def test_a_mean_over_images_has_the_interval_of_the_bootstrap():
    values = np.random.default_rng(0).random(40)
    bootstrap = Bootstrap(40, 500, 0.9, np.random.default_rng(1))
    made = rows()
    made.mean("norm", values, bootstrap, layer=0)
    row = made.frame().iloc[0]
    assert row["value"] == values.mean()
    assert (row["low"], row["high"]) == bootstrap.interval(values)
    assert row["n"] == 40


def test_what_is_written_reads_back_the_same(tmp_path):
    made = rows()
    for layer in (3, 1, 2):
        made.add("norm", np.pi * 10.0**layer, 7, layer=layer, bias=0.1)
    made.add("top1", None, 0, note="why, with a comma")
    table.write(made.frame(), tmp_path / "rows.csv")
    pd.testing.assert_frame_equal(table.read(tmp_path / "rows.csv", {"bias": "Float64"}), made.frame())


def test_rows_are_sorted_by_axes_whatever_their_order():
    one, other = rows(), rows()
    values = [(layer, item) for layer in range(3) for item in range(3)]
    for layer, item in values:
        one.add("norm", 1.0, 1, layer=layer, item=item)
    for layer, item in reversed(values):
        other.add("norm", 1.0, 1, layer=layer, item=item)
    pd.testing.assert_frame_equal(one.frame(), other.frame())


def test_two_rows_with_the_same_axes_are_refused(tmp_path):
    made = rows()
    made.add("norm", 1.0, 1, layer=1)
    made.add("norm", 2.0, 1, layer=1)
    with pytest.raises(ValueError, match="two rows with the same axes"):
        table.write(made.frame(), tmp_path / "rows.csv")


def test_tables_with_different_axes_of_their_own_become_one(tmp_path):
    first, second = rows(), Rows("other", [NORM], {"lr": "Float64"}, dataset="d")
    first.add("norm", 1.0, 1, bias=0.5)
    second.add("norm", 2.0, 1, lr=0.1)
    for name, made in (("a", first), ("b", second)):
        table.write(made.frame(), tmp_path / name)
    whole = table.concatenate([tmp_path / "a", tmp_path / "b"], {"bias": "Float64", "lr": "Float64"})
    assert list(whole.columns) == [*AXES, "bias", "lr", *table.NUMBERS]
    assert whole["bias"].dropna().tolist() == [0.5]
    assert whole["lr"].dropna().tolist() == [0.1]


def test_a_file_that_is_not_there_or_has_unknown_axes_is_named(tmp_path):
    with pytest.raises(InputError, match="no such file; run the measures first"):
        table.read(tmp_path / "none.csv")
    made = rows()
    made.add("norm", 1.0, 1, bias=0.5)
    table.write(made.frame(), tmp_path / "rows.csv")
    with pytest.raises(InputError, match="column 'bias' is no axis"):
        table.read(tmp_path / "rows.csv")


def test_no_rows_are_a_table_too(tmp_path):
    table.write(table.concatenate([]), tmp_path / "none.csv")
    assert len(table.read(tmp_path / "none.csv")) == 0


def test_a_number_without_an_interval_needs_a_reason() -> None:
    estimated, counted = Metric("share", "share", "of something"), Metric("size", "patches", "", exact="counted")
    rows = Rows("tokens", [estimated, counted])
    rows.add("share", 0.5, 10, low=0.4, high=0.6)
    rows.add("share", 0.5, 10, note="chosen on the same images")
    rows.add("size", 3.0, 10)
    rows.add("size", 3.0, 10, low=1.0, high=5.0)
    rows.absent(["share"], "no artifacts")
    rows.check()
    assert rows.frame()["note"].dropna().tolist().count("counted") == 1
    for given in ({}, {"low": 0.4}, {"high": 0.4}):
        bad = Rows("tokens", [estimated])
        bad.add("share", 0.5, 10, **given)
        with pytest.raises(ValueError, match="'share' has neither an interval nor a note"):
            bad.check()
