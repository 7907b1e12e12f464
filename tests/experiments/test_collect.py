import pytest

from vit_registers.core import table as metrics
from vit_registers.core.errors import InputError
from vit_registers.core.files import read_json
from vit_registers.core.table import Metric
from vit_registers.experiments import collect


def row(**changes):
    fields = {"model": "m", "dataset": "d", "intervention": "baseline", "readout": "lost", "metric": "corloc"}
    return Metric(**{**fields, "value": 0.5, "unit": "fraction", "n": 10, **changes})


@pytest.fixture
def tables(tmp_path):
    rows = {
        "lost": [
            row(),
            row(intervention="ttr-4", value=None, n=0, note="no artifacts found"),
            row(metric="corloc_difference", value=-0.25, reference="m/append-4"),
            row(metric="corloc_random_box", value=0.02),
        ],
        "probe": [
            row(readout="probe[cls]", metric="top1", seed=0, value=0.8),
            row(readout="probe[cls]", metric="top1", seed=1, value=0.9),
        ],
        "tokens": [row(readout="norms", metric="artifact_share", layer=layer, value=0.1) for layer in range(3)],
        "detection": [row(readout="detection", metric="artifact_share", value=0.03, model="other")],
    }
    for name, table in rows.items():
        metrics.write(metrics.frame(table), tmp_path / f"{name}.csv")
    return [tmp_path / f"{name}.csv" for name in rows]


def test_every_row_arrives_once_whatever_the_order(tables, tmp_path):
    for name, order in (("a", tables), ("b", tables[::-1])):
        collect.run(order, tmp_path / f"{name}.csv", None)
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()
    assert len(metrics.read(tmp_path / "a.csv")) == 10


def test_headlines_are_means_over_seeds_without_layers_and_without_what_is_absent(tables, tmp_path):
    collect.run(tables, tmp_path / "all.csv", tmp_path / "summary.json")
    assert read_json(tmp_path / "summary.json") == {
        "d": {
            "m": {
                "baseline": {
                    "lost corloc": 0.5,
                    "lost corloc_difference to m/append-4": -0.25,
                    "probe[cls] top1": 0.85,
                }
            },
            "other": {"baseline": {"detection artifact_share": 0.03}},
        }
    }


def test_the_same_row_from_two_tables_is_refused(tables, tmp_path):
    with pytest.raises(ValueError, match="same key"):
        collect.run([tables[0], tables[0]], tmp_path / "all.csv", None)
    assert not (tmp_path / "all.csv").exists()


def test_a_missing_table_is_named(tables, tmp_path):
    with pytest.raises(InputError, match=r"no\.csv: no such file"):
        collect.run([*tables, tmp_path / "no.csv"], tmp_path / "all.csv", None)
