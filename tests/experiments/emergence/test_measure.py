"""Rows of what a training left, against walks over the files."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from helpers.measuring import job_of, written
from vit_registers.core import table
from vit_registers.core.errors import InputError
from vit_registers.core.files import write_json
from vit_registers.core.stats import bootstrap
from vit_registers.data.manifest import Manifest
from vit_registers.experiments.emergence import measure
from vit_registers.experiments.emergence.params import Config
from vit_registers.params import reading
from vit_registers.params.statistics import Statistics
from vit_registers.pipeline import experiment, steps
from vit_registers.pipeline.paths import Paths

ROOT = Path(__file__).parents[3]
CONFIG = Config(seed=0, model="m", statistics=Statistics(confidence=0.95, resamples=200))
EPOCHS, MONITORED = 3, 40
ONCE = {"training_share_above_last", "training_parameters", "training_epochs", "training_top1"}
PEAKS = {"training_share_above_peak", "training_norm_ratio_peak"}


def write_model(folder, cosines=measure.COSINES, norms=None, top1=0.75):
    """What a training of three epochs and two blocks leaves, made up."""
    folder.mkdir(parents=True, exist_ok=True)
    norms = norms or [[epoch, layer, 10.0 * epoch + layer, 20.0, 30.0, 0.01] for epoch in (1, 2, 3) for layer in (0, 1)]
    names = ["epoch", "layer", "norm_median", "norm_p99", "norm_max", "share_above"]
    pd.DataFrame(norms, columns=names).to_csv(folder / "norms.csv", index=False)
    losses = [[step, 0.1, float(step)] for step in range(12)]
    pd.DataFrame(losses, columns=["step", "lr", "loss"]).to_csv(folder / "training.csv", index=False)
    training = {"dataset": "shapes", "monitored": MONITORED, "test_top1": top1, "tested": 200}
    write_json(folder / "model.json", {"parameters": 1234, "training": training})
    rng = np.random.default_rng(0)
    attention = {name: rng.random((EPOCHS, MONITORED), dtype=np.float32) for name in cosines}
    attention["maps"] = rng.random((EPOCHS, 2, 3, 4, 4), dtype=np.float32)
    attention |= {name: rng.random((EPOCHS, 2, MONITORED), dtype=np.float32) for name in measure.MEANS}
    attention["focus"] = rng.random((EPOCHS, 3, 4, 4), dtype=np.float32)
    attention["images"] = rng.integers(256, size=(2, 32, 32, 3), dtype=np.uint8)
    np.savez(folder / "attention.npz", **attention)
    return attention


def run(root, out="out"):
    job = job_of("emergence", root, out, model="m")
    measure.run(CONFIG, job)
    return written(job, "emergence")


def test_epochs_and_blocks_are_axes(tmp_path):
    write_model(tmp_path / "model")
    rows = run(tmp_path)
    assert set(rows["dataset"]) == {"shapes"}
    assert rows["intervention"].isna().all()
    of = rows.set_index(["metric", "epoch", "layer"])["value"]
    assert of["training_norm_median", 2, 1] == 21.0
    assert of["training_share_above", 3, 0] == 0.01
    loss = rows[rows["metric"] == "training_loss"]
    assert loss.set_index("epoch")["value"].to_dict() == {1: 1.5, 2: 5.5, 3: 9.5}
    assert loss["n"].tolist() == [4, 4, 4]  # steps
    assert set(rows["n"][~rows["metric"].isin(["training_loss", "training_top1"])]) == {MONITORED}
    assert rows.loc[rows["metric"].isin(ONCE), ["epoch", "layer"]].isna().all(axis=None)
    assert rows.loc[rows["metric"].isin(PEAKS), ["epoch", "layer"]].notna().all(axis=None)


def test_means_over_images_have_the_interval_of_what_images_gave_and_quantiles_a_reason(tmp_path):
    attention = write_model(tmp_path / "model")
    rows = run(tmp_path).set_index(["metric", "epoch", "layer"])
    resampled = bootstrap(0, CONFIG.statistics, "shapes", MONITORED)
    for name in measure.MEANS:
        for epoch, layer in ((1, 0), (3, 1)):
            row = rows.loc[(f"training_{name}", epoch, layer)]
            expected = resampled.interval(attention[name][epoch - 1, layer].astype(float))
            assert (row["low"], row["high"]) == pytest.approx(expected)
    for name in ("training_norm_median", "training_norm_p99"):
        assert rows.loc[(name, 2, 1), "low"] is pd.NA
        assert "quantile" in rows.loc[(name, 2, 1), "note"]


def test_cosines_are_means_over_the_monitored_images_with_their_interval(tmp_path):
    attention = write_model(tmp_path / "model")
    rows = run(tmp_path).set_index(["metric", "epoch"])
    for name in measure.COSINES:
        for epoch, values in enumerate(attention[name], start=1):
            row = rows.loc[(f"training_{name}", epoch)]
            assert row["value"] == pytest.approx(sum(map(float, values)) / MONITORED)
            assert row["low"] < row["value"] < row["high"]
            assert (row["layer"], row["unit"]) == (1, "cosine")


def test_a_model_without_two_registers_has_no_row_about_pairs_of_them(tmp_path):
    write_model(tmp_path / "model", ("cls_register_cosine",))
    assert "training_register_cosine" not in set(run(tmp_path)["metric"])


@pytest.mark.slow
def test_most_patches_above_three_medians_are_found_wherever_they_stood(tmp_path):
    """Against a walk over all epochs and blocks, ties included: the first epoch and block count."""
    rng = np.random.default_rng(1)
    for draw in range(50):
        shares, medians = rng.integers(3, size=(EPOCHS, 2)) / 100, rng.integers(1, 4, size=(EPOCHS, 2)) * 1.0
        norms = [[e + 1, b, medians[e, b], 9.0, 12.0, shares[e, b]] for e in range(EPOCHS) for b in (0, 1)]
        write_model(tmp_path / str(draw) / "model", norms=norms)
        of = run(tmp_path / str(draw)).set_index("metric")
        for metric, values in (("training_share_above_peak", shares), ("training_norm_ratio_peak", 12.0 / medians)):
            most, where = -1.0, (0, 0)
            for epoch in range(EPOCHS):
                for block in (0, 1):
                    if values[epoch, block] > most:
                        most, where = values[epoch, block], (epoch + 1, block)
            assert of.loc[metric, "value"] == pytest.approx(most)
            assert (of.loc[metric, "epoch"], of.loc[metric, "layer"]) == where
        assert of.loc["training_share_above_last", "value"] == max(shares[-1])
        assert of.loc["training_parameters", "value"] == 1234
        assert of.loc["training_epochs", "value"] == EPOCHS


def test_a_training_with_labels_has_an_accuracy_and_one_without_has_none(tmp_path):
    write_model(tmp_path / "model")
    row = run(tmp_path).set_index("metric").loc["training_top1"]
    assert (row["value"], row["n"]) == (0.75, 200)
    assert row["low"] < 0.75 < row["high"]
    write_model(tmp_path / "model", top1=None)
    assert "training_top1" not in set(run(tmp_path)["metric"])


def test_maps_are_handed_on_as_they_were_kept(tmp_path):
    attention = write_model(tmp_path / "model")
    for out in ("first", "second"):
        run(tmp_path, out)
    with np.load(tmp_path / "first/arrays.npz") as maps:
        assert set(maps.files) == {"images", "maps", "focus"}
        for name in maps.files:
            np.testing.assert_array_equal(maps[name], attention[name])
    first, second = ((tmp_path / out / "arrays.npz").read_bytes() for out in ("first", "second"))
    assert first == second


@pytest.mark.parametrize("name", ["norms.csv", "training.csv", "attention.npz"])
def test_a_model_that_lacks_what_was_monitored_is_refused(tmp_path, name):
    write_model(tmp_path / "model")
    (tmp_path / "model" / name).unlink()
    with pytest.raises(InputError, match=rf"{name}: no such file; train the model again"):
        run(tmp_path)


def test_only_trained_models_have_a_job():
    models = {"a": SimpleNamespace(step="train"), "b": SimpleNamespace(step="fetch")}
    where = experiment.measures()["emergence"][1].where
    assert [name for name in models if where(SimpleNamespace(models=models), name)] == ["a"]


@pytest.mark.slow
def test_the_last_epoch_is_what_token_statistics_measure_of_the_finished_model(tmp_path):
    """On the same images, through another pass, another tap and half precision."""
    measured = ("token_statistics", "emergence")
    change = {
        "datasets": {"shapes": {"train": 100, "test": 40, "size": 32}},
        "models": {"vit-r3": {"kind": "trained", "dataset": "shapes", "recipe": "small", "registers": 3}},
        "recipes": {
            "small": {
                "architecture": {"image_size": 32, "width": 16, "depth": 2},
                "epochs": 2,
                "monitored_images": 30,
            }
        },
        "extraction": {"dense_images": 30, "cls_blocks": 1},
        "detection": {"images": 30},
        "study": {
            "name": "last-epoch",
            "runs": [{"dataset": "shapes", "models": ["vit-r3"], "interventions": []}],
            "detections": [],
            "comparisons": [],
        },
    }
    content = reading.read_yaml(ROOT / "params.yaml")
    content["experiments"] = {name: {} for name in measured}
    params = reading.parse(reading.overlay(content, change))
    at = Paths("last-epoch", tmp_path)
    for name in ("prepare", "train", "extract", "detect", *measured):
        step = steps.steps()[name]
        for axes in step.jobs(params):
            step.execute(step.config(params, **axes), at)
    where = {"token_statistics": ("shapes", "vit-r3"), "emergence": ("vit-r3",)}
    folders = {name: at.measure(name, *axes) for name, axes in where.items()}
    tables = {name: table.read(folder / "rows.csv", experiment.axes()) for name, folder in folders.items()}
    monitored = tables["emergence"][tables["emergence"]["epoch"] == 2].set_index("metric")
    baseline = tables["token_statistics"]
    baseline = baseline[baseline["intervention"] == "baseline"]
    last = baseline[baseline["layer"] == 1].set_index("metric")
    for name in measure.COSINES:
        mine, theirs = monitored.loc[f"training_{name}"], last.loc[name]
        assert mine[["value", "low", "high"]].tolist() == pytest.approx(
            theirs[["value", "low", "high"]].tolist(), abs=2e-4
        )
        assert mine["n"] == theirs["n"] == 30
    with (
        np.load(folders["emergence"] / "arrays.npz") as mine,
        np.load(folders["token_statistics"] / "arrays.npz") as all_,
    ):
        np.testing.assert_allclose(mine["focus"][-1], all_["baseline/focus"], rtol=2e-3)
    manifest = Manifest.load(at.dataset("shapes"))  # the model sees its images whole, at their own size
    inside = np.zeros((30, 32, 32))
    for image, row in enumerate(manifest.rows("test")[:30]):
        for x0, y0, x1, y1 in np.stack(manifest.table["boxes"].iloc[row]).astype(int):
            inside[image, y0:y1, x0:x1] = 1
    area = baseline[baseline["metric"] == "object_area"].iloc[0]
    assert (area["value"], area["n"]) == (pytest.approx(inside.mean()), 30)
