import pandas as pd
import pytest

from vit_registers.core import table as metrics
from vit_registers.core.errors import InputError
from vit_registers.core.table import Metric


def row(**changes):
    fields = {"model": "m", "dataset": "d", "intervention": "baseline", "readout": "lost", "metric": "corloc"}
    return Metric(**{**fields, "value": 0.1 + 0.2, "unit": "share", "n": 7, **changes})


def test_a_table_reads_back_as_it_was_written(tmp_path):
    table = metrics.frame([row(layer=3, low=1e-17, note="NA"), row(value=None, note="no artifacts found", seed=1)])
    metrics.write(table, tmp_path / "t.csv")
    pd.testing.assert_frame_equal(metrics.read(tmp_path / "t.csv"), table)


def test_rows_are_sorted_so_that_their_order_of_arrival_does_not_matter(tmp_path):
    rows = [row(metric=name) for name in "cab"]
    pd.testing.assert_frame_equal(metrics.frame(rows), metrics.frame(rows[::-1]))


def test_two_rows_with_one_key_are_refused_and_nothing_is_written(tmp_path):
    with pytest.raises(ValueError, match="same key"):
        metrics.write(metrics.frame([row(), row(value=1.0)]), tmp_path / "t.csv")
    assert not list(tmp_path.iterdir())


def test_tables_of_several_readouts_become_one(tmp_path):
    for name in "ba":
        metrics.write(metrics.frame([row(model=name)]), tmp_path / f"{name}.csv")
    both = metrics.concatenate([tmp_path / "b.csv", tmp_path / "a.csv"])
    assert list(both["model"]) == ["a", "b"]
    with pytest.raises(InputError, match=r"no\.csv: no such file"):
        metrics.concatenate([tmp_path / "no.csv"])
