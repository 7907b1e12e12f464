"""Rows of what detection really wrote: a model with known register neurons, and one without, on two data sets."""

import pytest
from safetensors.torch import load_file

from helpers import by_hand, detections
from vit_registers.core import table
from vit_registers.views.study import select


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return by_hand.make(tmp_path_factory.mktemp("made"), "one", "two")


def rows(made, model, *datasets, **settings):
    """Rows of the measure, and what detection found on the last of the data sets."""
    for dataset in datasets:
        found = made.detect(model, f"registers/{dataset}", dataset, **settings)
    return detections.run(made.root, model, list(datasets)).rows.frame(), found


def whole(frame):
    """Rows of no single layer, by metric."""
    return frame[frame["layer"].isna()].set_index("metric")


def test_both_data_sets_find_the_planted_neurons(made):
    frame, _ = rows(made, "planted", "one", "two")
    overlap = select(frame, metric="neuron_overlap").set_index("found_on")
    assert overlap["dataset"].to_dict() == {"one": "two", "two": "one"}
    assert overlap["value"].tolist() == [1.0, 1.0]
    assert overlap["p"].isna().all()
    assert overlap["note"].str.contains("no p").all()
    planted = select(frame, metric="neuron_planted")
    assert planted.groupby("dataset")["value"].sum().to_dict() == {"one": 2.0, "two": 2.0}
    found = planted[planted["value"] == 1.0]
    assert {(row.layer, row.item) for row in found.itertuples()} == {tuple(neuron) for neuron in by_hand.NEURONS}
    assert set(found["n"]) == {4}  # images with artifacts


def test_rows_say_what_detection_found(made):
    frame, found = rows(made, "planted", "one")
    at = whole(frame)
    for metric, key in (
        ("detected_artifact_share", "share"),
        ("detection_threshold", "threshold"),
        ("neuron_stability", "stability"),
        ("neuron_next_ratio", "next_ratio"),
        ("neuron_precision", "precision"),
        ("neuron_recall", "recall"),
        ("first_artifact_layer", "first_layer"),
        ("embedded_artifacts", "embedded"),
        ("highest_ranked_layer", "highest_layer"),
    ):
        assert at.loc[metric, "value"] == pytest.approx(found[key]), metric
    assert at.loc["artifacts_found", "value"] == 1.0
    assert at.loc["images_affected", "value"] == pytest.approx(4 / 12)
    for metric, key in (
        ("detected_artifact_share", "share_interval"),
        ("images_affected", "images_affected_interval"),
    ):
        assert at.loc[metric, ["low", "high"]].tolist() == pytest.approx(found[key])
        assert at.loc[metric, "low"] < at.loc[metric, "value"] < at.loc[metric, "high"]
    for name in ("precision", "recall", "next_ratio"):
        assert at.loc[f"neuron_{name}", ["low", "high"]].tolist() == pytest.approx(found[f"{name}_interval"])
    by_layer = select(frame, metric="artifact_share_by_layer").set_index("layer")["value"]
    assert by_layer.to_dict() == pytest.approx(dict(enumerate(found["share_by_layer"])))


@pytest.mark.parametrize(("layer", "expected"), [(-1, 2.0), (1, 1.0), (-2, 1.0)])
def test_size_and_outlier_layer_are_rows_of_every_model(made, layer, expected):
    frame, _ = rows(made, "plain", "one", outlier_layer=layer)
    weights = load_file(made.root / "models" / "plain" / "model.safetensors")
    assert whole(frame).loc["parameters", "value"] == sum(tensor.numel() for tensor in weights.values())
    assert whole(frame).loc["outlier_layer", "value"] == expected
    assert whole(frame).loc[["input_height", "input_width"], "value"].tolist() == [32.0, 32.0]


def test_every_row_says_how_many_images_it_rests_on(made):
    frame, _ = rows(made, "planted", "one", images=9)
    ranked = {"stability", "next_ratio", "precision", "recall", "rank", "score", "frequency", "planted"}
    of_neurons = frame["metric"].isin([f"neuron_{name}" for name in ranked])
    of_neurons |= frame["metric"].isin(["highest_ranked_layer", "embedded_artifacts"])
    assert set(frame["n"][of_neurons]) == {3}  # of the nine, those with artifacts
    assert set(frame["n"][~of_neurons]) == {9}


def test_no_artifacts_are_rows_with_the_reason(made):
    frame, found = rows(made, "plain", "one")
    at = whole(frame)
    assert at.loc["artifacts_found", "value"] == 0.0
    assert at.loc["detected_artifact_share", "value"] == 0.0
    assert at.loc[["artifacts_found", "neuron_rank"], "note"].tolist() == [found["reason"]] * 2
    absent = {"neuron_precision", "neuron_stability", "neuron_next_ratio", "first_artifact_layer"}
    assert not absent & set(frame["metric"])


def test_a_percentile_is_no_row_of_artifacts(made):
    frame, found = rows(made, "planted", "one", threshold_rule="percentile", threshold=90.0)
    at = whole(frame)
    for metric in ("artifacts_found", "detected_artifact_share", "images_affected"):
        assert at.loc[metric, ["value", "note"]].isna().tolist() == [True, False]
        assert at.loc[metric, "note"] == found["reason"]
    assert at.loc["detection_threshold", "value"] == found["threshold"]
    assert not {"artifact_share_by_layer", "first_artifact_layer", "neuron_precision"} & set(frame["metric"])


def test_the_same_files_give_the_same_rows(made, tmp_path):
    for name in ("once", "twice"):
        table.write(rows(made, "planted", "one", "two")[0], tmp_path / f"{name}.csv")
    assert (tmp_path / "once.csv").read_bytes() == (tmp_path / "twice.csv").read_bytes()
