"""The list of register neurons, and its overlap with what other data sets find."""

import itertools
import math

import pandas as pd
import pytest

from vit_registers.core import table as metrics
from vit_registers.core.errors import InputError
from vit_registers.core.files import write_json
from vit_registers.pipeline.configs import NeuronsStep
from vit_registers.registers import detect, neuron_overlap

K, RANKED = 3, 12


def write(folder, dataset, order, found=True, planted=()):
    """What detection leaves: neurons (layer, index) in order of their rank, among 12 that were ranked."""
    result = {"found": found, "top_k": K, "images_ranked": 50, "ranked": RANKED}
    result |= {"planted": [list(neuron) for neuron in planted]} if planted else {}
    result |= {} if found else {"reason": f"no outlier patches found on {dataset}"}
    write_json(folder / dataset / "m.json", result)
    columns = ["rank", "layer", "index", "score", "frequency_in_top_k"]
    rows = [[i, *neuron, 10.0 - i, 1.0 / (i + 1)] for i, neuron in enumerate(order)] if found else []
    pd.DataFrame(rows, columns=columns).to_csv(folder / dataset / "m.neurons.csv", index=False)


def run(folder, datasets):
    neuron_overlap.run(NeuronsStep(model="m", datasets=datasets), folder, folder / "out.csv")
    table = metrics.read(folder / "out.csv")
    assert set(table["readout"]) == {"neurons"}
    return table


A = [(1, 5), (0, 5), (2, 7), (1, 1), (0, 0), (0, 1), (2, 2)]
B = [(2, 7), (1, 5), (1, 9), (0, 5), (3, 3)]


def test_the_first_neurons_with_their_score_stability_and_truth(tmp_path):
    write(tmp_path, "a", A, planted=[(1, 5), (2, 7)])
    table = run(tmp_path, ["a"])
    for rank, (layer, index) in enumerate(A[: 2 * K]):
        at = table[table["layer"] == layer].set_index("metric")["value"]
        assert at[f"rank[{index}]"] == rank + 1
        assert at[f"score[{index}]"] == 10.0 - rank
        assert at[f"frequency[{index}]"] == pytest.approx(1 / (rank + 1))
        assert at[f"planted[{index}]"] == float((layer, index) in {(1, 5), (2, 7)})
    assert len(table) == 4 * 2 * K
    assert set(table["n"]) == {50}


def test_overlap_and_its_chance_are_those_of_all_sets_of_as_many_neurons(tmp_path):
    write(tmp_path, "a", A)
    write(tmp_path, "b", B)
    table = run(tmp_path, ["a", "b"])
    rows = table[table["metric"] == "overlap"].set_index("dataset")
    common = len(set(A[:K]) & set(B[:K]))
    drawn = [len({0, 1, 2} & set(other)) for other in itertools.combinations(range(RANKED), K)]
    assert len(drawn) == math.comb(RANKED, K)
    assert rows["value"].tolist() == [pytest.approx(common / K)] * 2
    assert rows["p"].tolist() == [pytest.approx(sum(each >= common for each in drawn) / len(drawn))] * 2
    assert rows["reference"].to_dict() == {"a": "b", "b": "a"}
    assert set(rows["n"]) == {K}


def test_ranks_on_the_other_data_set_are_its_own(tmp_path):
    write(tmp_path, "a", A)
    write(tmp_path, "b", B)
    table = run(tmp_path, ["a", "b"])
    mine = table[(table["dataset"] == "a") & (table["reference"] == "b") & table["layer"].notna()]
    there = {(int(row.layer), row.metric): row.value for row in mine.itertuples()}
    expected = {(layer, f"rank[{index}]"): (layer, index) for layer, index in A[: 2 * K]}
    assert set(there) == set(expected)
    for key, neuron in expected.items():
        if neuron in B:
            assert there[key] == B.index(neuron) + 1
        else:
            assert there[key] is pd.NA
    assert set(mine.loc[mine["value"].isna(), "note"]) == {"not among the first 5 there"}


def test_without_outliers_on_one_of_them_there_is_no_overlap_and_the_reason_is_said(tmp_path):
    write(tmp_path, "a", A)
    write(tmp_path, "b", [], found=False)
    rows = run(tmp_path, ["a", "b"])
    assert rows.loc[rows["metric"] == "overlap", "value"].isna().all()
    assert set(rows.loc[rows["value"].isna(), "note"]) == {"no outlier patches found on b"}


def test_it_reads_what_detection_writes(study, tmp_path):
    for dataset in ("one", "two"):
        out = tmp_path / dataset / "planted.json"
        detect.run(study.detect("planted"), *study.paths("planted")[:3], out, tmp_path / "x.csv")
    neuron_overlap.run(NeuronsStep(model="planted", datasets=["one", "two"]), tmp_path, tmp_path / "out.csv")
    table = metrics.read(tmp_path / "out.csv")
    rows = table[table["metric"] == "overlap"]
    assert rows["value"].tolist() == [1.0, 1.0]
    assert rows["p"].tolist() == [pytest.approx(1 / math.comb(3 * 64, 2))] * 2
    planted = table[table["metric"].str.startswith("planted")].groupby("dataset")["value"].sum()
    assert planted.tolist() == [2.0, 2.0]


def test_a_missing_detection_is_named(tmp_path):
    with pytest.raises(InputError, match=r"a/m\.json: no such file; run detection first"):
        run(tmp_path, ["a"])
