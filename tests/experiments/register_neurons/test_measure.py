"""What detection found as rows, and the overlap of its neurons with what other data sets find."""

import pandas as pd
import pytest

from helpers.detections import IMAGES, LIMIT, PARAMETERS, K, run, write
from vit_registers.core.errors import InputError
from vit_registers.views.study import select

A = [(1, 5), (0, 5), (2, 7), (1, 1), (0, 0), (0, 1), (2, 2)]
B = [(2, 7), (1, 5), (1, 9), (0, 5), (3, 3)]


def rows(root, datasets):
    return run(root, "m", datasets).rows.frame()


def test_artifacts_are_reported_as_detection_found_them(tmp_path):
    write(tmp_path, "a", "m", A, planted=[(1, 5), (2, 7)])
    table = rows(tmp_path, ["a"])
    assert set(table["intervention"]) == {"baseline"}
    whole = table[table["layer"].isna()].set_index("metric")
    expected = {
        "artifacts_found": (1.0, IMAGES),
        "detection_threshold": (LIMIT, IMAGES),
        "detected_artifact_share": (0.034, IMAGES),
        "images_affected": (48 / IMAGES, IMAGES),
        "outlier_layer": (1.0, IMAGES),
        "first_artifact_layer": (1.0, IMAGES),
        "input_height": (64.0, IMAGES),
        "input_width": (48.0, IMAGES),
        "embedded_artifacts": (0.25, 48),
        "highest_ranked_layer": (2.0, 50),
        "parameters": (PARAMETERS, IMAGES),
        "neuron_stability": (0.9, 50),
        "neuron_next_ratio": (4.5, 50),
        "neuron_precision": (2 / 3, 50),
        "neuron_recall": (1.0, 50),
    }
    assert {name: (row["value"], row["n"]) for name, row in whole.iterrows()} == expected
    assert whole.loc["detected_artifact_share", ["low", "high"]].tolist() == [0.9 * 0.034, 1.1 * 0.034]
    assert whole.loc["images_affected", ["low", "high"]].tolist() == [0.7, 0.9]
    assert whole.loc["neuron_recall", ["low", "high"]].tolist() == [0.2, 1.0]
    assert whole.loc["neuron_stability", ["low", "high"]].isna().all()
    by_layer = select(table, metric="artifact_share_by_layer")
    assert by_layer[["layer", "value"]].to_numpy().tolist() == [[0, 0.0], [1, 0.034], [2, 0.034]]


def test_to_find_none_is_a_result(tmp_path):
    write(tmp_path, "a", "m", [])
    table = rows(tmp_path, ["a"])
    found = table[table["layer"].isna()].set_index("metric")
    assert found.loc["artifacts_found", "value"] == 0.0
    assert found.loc["artifacts_found", "note"] == "no artifacts found on a: 0.00% are not enough"
    assert found.loc["neuron_rank", "note"] == "no artifacts found on a: 0.00% are not enough"
    assert pd.isna(found.loc["neuron_rank", "value"])
    assert not {"first_artifact_layer", "neuron_stability", "neuron_recall"} & set(found.index)


def test_the_first_neurons_with_their_score_stability_and_truth(tmp_path):
    write(tmp_path, "a", "m", A, planted=[(1, 5), (2, 7)])
    table = rows(tmp_path, ["a"])
    table = table[table["item"].notna()]
    for rank, (layer, index) in enumerate(A[: 2 * K]):
        at = select(table, layer=layer, item=index).set_index("metric")["value"]
        assert at.to_dict() == {
            "neuron_rank": rank + 1,
            "neuron_score": 10.0 - rank,
            "neuron_frequency": pytest.approx(1 / (rank + 1)),
            "neuron_planted": float((layer, index) in {(1, 5), (2, 7)}),
        }
    assert len(table) == 4 * 2 * K
    assert set(table["n"]) == {50}


def test_overlap_is_the_share_of_common_neurons_without_a_p(tmp_path):
    write(tmp_path, "a", "m", A)
    write(tmp_path, "b", "m", B)
    overlap = select(rows(tmp_path, ["a", "b"]), metric="neuron_overlap").set_index("found_on")
    common = len(set(A[:K]) & set(B[:K]))
    assert overlap["value"].tolist() == [pytest.approx(common / K)] * 2
    assert overlap["p"].isna().all()
    assert overlap["dataset"].to_dict() == {"a": "b", "b": "a"}
    assert set(overlap["n"]) == {K}


def test_ranks_on_the_other_data_set_are_its_own(tmp_path):
    write(tmp_path, "a", "m", A)
    write(tmp_path, "b", "m", B)
    there = select(rows(tmp_path, ["a", "b"]), metric="neuron_rank", dataset="b", found_on="a")
    found = {(int(row.layer), int(row.item)): row.value for row in there.itertuples()}
    assert set(found) == set(A[: 2 * K])
    for neuron, rank in found.items():
        if neuron in B:
            assert rank == B.index(neuron) + 1
        else:
            assert rank is pd.NA
    assert set(there.loc[there["value"].isna(), "note"]) == {"not among the first 5 there"}


def test_without_artifacts_on_one_of_them_there_is_no_overlap_and_the_reason_is_said(tmp_path):
    write(tmp_path, "a", "m", A)
    write(tmp_path, "b", "m", [])
    overlap = select(rows(tmp_path, ["a", "b"]), metric="neuron_overlap")
    assert overlap["value"].isna().all()
    assert set(overlap["note"]) == {"no artifacts found on b: 0.00% are not enough"}


def test_a_missing_detection_is_named(tmp_path):
    write(tmp_path, "a", "m", A)
    with pytest.raises(InputError, match=r"b/m\.json: no such file; run detection first"):
        rows(tmp_path, ["a", "b"])


def test_rows_can_be_written(tmp_path):
    """Nothing is measured twice at the same axes."""
    write(tmp_path, "a", "m", A, planted=[(1, 5)])
    write(tmp_path, "b", "m", B)
    job = run(tmp_path, "m", ["a", "b"])
    job.write(images=False, arrays=False)
    assert (job.out / "rows.csv").is_file()
