from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from vit_registers import params
from vit_registers.core import table as metrics
from vit_registers.core.errors import InputError
from vit_registers.core.files import write_json
from vit_registers.data import prepare
from vit_registers.data.manifest import Manifest
from vit_registers.experiments.emergence import measure as training
from vit_registers.experiments.token_statistics import measure as tokens
from vit_registers.extraction import extract
from vit_registers.pipeline import configs as steps
from vit_registers.pipeline.configs import TrainingStep
from vit_registers.training import loop as train

ROOT = Path(__file__).parents[3]
STEP = TrainingStep(seed=0, model="m", statistics=params.Statistics(confidence=0.95, resamples=200))
EPOCHS, WATCHED = 3, 40


def write_model(folder, cosines=("register_cosine", "cls_register_cosine"), norms=None, top1=0.75):
    """What a training of three epochs and two blocks leaves, made up."""
    norms = norms or [[epoch, layer, 10.0 * epoch + layer, 20.0, 30.0, 0.01] for epoch in (1, 2, 3) for layer in (0, 1)]
    names = ["epoch", "layer", "norm_median", "norm_p99", "norm_max", "share_above"]
    pd.DataFrame(norms, columns=names).to_csv(folder / "norms.csv", index=False)
    losses = [[step, 0.1, float(step)] for step in range(12)]
    pd.DataFrame(losses, columns=["step", "lr", "loss"]).to_csv(folder / "training.csv", index=False)
    card = {"dataset": "shapes", "monitored": WATCHED, "test_top1": top1, "tested": 200}
    write_json(folder / "model.json", {"parameters": 1234, "training": card})
    rng = np.random.default_rng(0)
    attention = {name: rng.random((EPOCHS, WATCHED), dtype=np.float32) for name in cosines}
    attention["maps"] = rng.random((EPOCHS, 2, 3, 4, 4), dtype=np.float32)
    attention["focus"] = rng.random((EPOCHS, 3, 4, 4), dtype=np.float32)
    attention["images"] = rng.integers(256, size=(2, 32, 32, 3), dtype=np.uint8)
    np.savez(folder / "attention.npz", **attention)
    return attention


def test_epochs_stand_where_conditions_do(tmp_path):
    write_model(tmp_path)
    training.run(STEP, tmp_path, tmp_path / "out")
    table = metrics.read(tmp_path / "out/m.csv")
    assert set(table["readout"]) == {"training", "emergence"}
    table = table[table["readout"] == "training"]
    of = table.set_index(["intervention", "metric", "layer"])["value"]
    assert of["epoch 2", "norm_median", 1] == 21.0
    assert of["epoch 3", "share_above", 0] == 0.01
    loss = table[table["metric"] == "loss"].set_index("intervention")
    assert loss["value"].to_dict() == {"epoch 1": 1.5, "epoch 2": 5.5, "epoch 3": 9.5}  # four steps each
    assert set(table["n"][table["metric"] != "loss"]) == {WATCHED}


def test_cosines_are_means_over_the_watched_images_with_their_interval(tmp_path):
    attention = write_model(tmp_path)
    training.run(STEP, tmp_path, tmp_path / "out")
    table = metrics.read(tmp_path / "out/m.csv").set_index(["metric", "intervention"])
    for metric in training.COSINES:
        for epoch, values in enumerate(attention[metric]):
            row = table.loc[metric, f"epoch {epoch + 1}"]
            assert row["value"] == pytest.approx(sum(map(float, values)) / WATCHED)
            assert row["low"] < row["value"] < row["high"]
            assert (row["layer"], row["unit"]) == (1, "cosine")


def test_a_model_without_two_registers_has_no_row_about_pairs_of_them(tmp_path):
    write_model(tmp_path, ("cls_register_cosine",))
    training.run(STEP, tmp_path, tmp_path / "out")
    table = metrics.read(tmp_path / "out/m.csv")
    found = set(table["metric"][table["readout"] == "training"])
    assert found == {*training.UNITS, "loss", "cls_register_cosine"}


def test_most_patches_above_three_medians_are_found_wherever_they_stood(tmp_path):
    """Against a walk over all epochs and blocks, ties included: the first epoch and block count."""
    rng = np.random.default_rng(1)
    for draw in range(50):
        folder = tmp_path / str(draw)
        folder.mkdir()
        shares, medians = rng.integers(3, size=(EPOCHS, 2)) / 100, rng.integers(1, 4, size=(EPOCHS, 2)) * 1.0
        norms = [[e + 1, b, medians[e, b], 9.0, 12.0, shares[e, b]] for e in range(EPOCHS) for b in (0, 1)]
        write_model(folder, norms=norms)
        training.run(STEP, folder, folder / "out")
        table = metrics.read(folder / "out/m.csv")
        assert set(table["intervention"][table["readout"] == "emergence"]) == {"training"}
        of = table[table["readout"] == "emergence"].set_index("metric")
        for metric, values in (("share_above_most", shares), ("ratio_most", 12.0 / medians)):
            most, where = -1.0, (0, 0)
            for epoch in range(EPOCHS):
                for block in (0, 1):
                    if values[epoch, block] > most:
                        most, where = values[epoch, block], (epoch + 1, block)
            assert of.loc[metric, "value"] == pytest.approx(most)
            assert (of.loc[f"{metric}_epoch", "value"], of.loc[metric, "layer"]) == where
        assert of.loc["share_last", "value"] == max(shares[-1])
        assert (of.loc["parameters", "value"], of.loc["epochs", "value"]) == (1234, EPOCHS)


def test_a_training_with_labels_tells_its_accuracy_and_one_without_does_not(tmp_path):
    write_model(tmp_path)
    training.run(STEP, tmp_path, tmp_path / "out")
    row = metrics.read(tmp_path / "out/m.csv").set_index("metric").loc["top1"]
    assert (row["value"], row["n"]) == (0.75, 200)
    assert row["low"] < 0.75 < row["high"]
    write_model(tmp_path, top1=None)
    training.run(STEP, tmp_path, tmp_path / "out")
    assert "top1" not in set(metrics.read(tmp_path / "out/m.csv")["metric"])


def test_maps_are_handed_on_as_they_were_kept(tmp_path):
    attention = write_model(tmp_path)
    for out in ("first", "second"):
        training.run(STEP, tmp_path, tmp_path / out)
    with np.load(tmp_path / "first/m.maps.npz") as maps:
        assert set(maps.files) == {"images", "maps", "focus"}
        for name in maps.files:
            np.testing.assert_array_equal(maps[name], attention[name])
    first, second = ((tmp_path / out / "m.maps.npz").read_bytes() for out in ("first", "second"))
    assert first == second


@pytest.mark.parametrize("name", ["norms.csv", "training.csv", "attention.npz"])
def test_a_model_that_lacks_what_was_watched_is_refused(tmp_path, name):
    write_model(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(InputError, match=rf"{name}: no such file; train the model again"):
        training.run(STEP, tmp_path, tmp_path / "out")


def test_the_last_epoch_is_what_the_tokens_readout_measures_of_the_finished_model(tmp_path):
    """On the same images, through another pass, another tap and half precision."""
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
        "linear_evaluation": None,
        "study": {
            "runs": [{"dataset": "shapes", "models": ["vit-r3"], "interventions": []}],
            "detections": [],
            "comparisons": [],
        },
    }
    study = params.parse(params.overlay(params.read_yaml(ROOT / "params.yaml"), change))
    data, model, features = tmp_path / "data", tmp_path / "model", tmp_path / "features"
    prepare.run(steps.prepare(study, "shapes"), data)
    train.run(steps.model(study, "vit-r3"), data, model)
    extract.run(steps.extract(study, "shapes", "vit-r3", ablated=False), data, model, features, None)
    write_json(tmp_path / "registers.json", {"found": False, "threshold": 1e9})
    cfg = steps.tokens(study, "shapes", "vit-r3")
    tokens.run(cfg, data, features, tmp_path / "registers.json", tmp_path / "tokens")
    training.run(steps.training(study, "vit-r3"), model, tmp_path / "training")
    watched, measured = (metrics.read(tmp_path / name / "vit-r3.csv") for name in ("training", "tokens"))
    watched = watched[watched["intervention"] == "epoch 2"].set_index("metric")
    baseline = measured[measured["intervention"] == "baseline"]
    last = baseline[baseline["layer"] == 1].set_index("metric")
    for metric in training.COSINES:
        for column in ("value", "low", "high"):
            assert watched.loc[metric, column] == pytest.approx(last.loc[metric, column], abs=2e-4)
        assert watched.loc[metric, "n"] == last.loc[metric, "n"] == 30
    with np.load(tmp_path / "training/vit-r3.maps.npz") as mine, np.load(tmp_path / "tokens/vit-r3.maps.npz") as theirs:
        np.testing.assert_allclose(mine["focus"][-1], theirs["baseline/focus"], rtol=2e-3)
    slots = baseline[baseline["readout"] == "slots"].set_index("metric")
    manifest = Manifest.load(data)  # the model sees its images whole, at their own size
    inside = np.zeros((30, 32, 32))
    for image, row in enumerate(manifest.rows("test")[:30]):
        for x0, y0, x1, y1 in np.stack(manifest.table["boxes"].iloc[row]).astype(int):
            inside[image, y0:y1, x0:x1] = 1
    assert slots.loc["object_area", "value"] == pytest.approx(inside.mean())
    assert slots["n"].tolist() == [30] * len(slots)
    assert slots["layer"].isna().all()
    named = {"object_area", "object_spread", "object_spread_next_image", "winning"}
    assert set(slots.index) == named | {f"object_attention[{token}]" for token in ("cls", "1", "2", "3")}
    assert (slots["low"] <= slots["value"]).all()
    assert (slots["value"] <= slots["high"]).all()
