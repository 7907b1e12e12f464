"""The own head and the patches of a planted model, on features that are made to have known answers."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from helpers.measuring import job_of, written
from vit_registers.core.files import write_json
from vit_registers.data import manifest
from vit_registers.experiments.needed_registers import measure
from vit_registers.experiments.needed_registers.params import Config, asked
from vit_registers.extraction import store
from vit_registers.models.layout import TokenLayout
from vit_registers.params import reading
from vit_registers.params.statistics import Statistics

IMAGES, DENSE, PATCHES, WIDTH = 12, 6, 4, 5
TEST = np.arange(4, 12)
DENSE_ROWS = np.arange(5, 5 + DENSE)
LABELS = np.arange(IMAGES) % 3
PLACES = np.zeros((DENSE, PATCHES), dtype=bool)
PLACES[[0, 0, 2, 4], [1, 3, 0, 2]] = True
NORM = 40.0  # of what neurons write


def logits(wrong):
    """One-hot logits of the labels, those of the images ``wrong`` of another class; only test images were passed."""
    named = np.where(np.isin(np.arange(IMAGES), wrong), (LABELS + 1) % 3, LABELS)
    return np.eye(3, dtype=np.float32)[named][TEST]


def write(root, model, condition, patches, wrong, appended=0):
    layout = TokenLayout(1, 0, (2, 2), appended)
    norms = np.full((DENSE, 3, layout.length), 4.0, dtype=np.float32)
    norms[:, 1, layout.patch_slice] += np.where(PLACES, 0.6 * NORM, 0.0)  # at block 1
    norms[:, 2, layout.patch_slice] += NORM  # what is later says nothing of where artifacts are written
    arrays = {
        "logits": logits(wrong), "rows": TEST, "norms": norms, "patches": patches.astype(np.float16),
        "dense_rows": DENSE_ROWS,
    }  # fmt: skip
    rows = {name: "all" if name in ("logits", "rows") else "dense" for name in arrays}
    specs = {name: store.Spec(a.shape[1:], str(a.dtype), rows[name], "", "") for name, a in arrays.items()}
    counts = {"all": len(TEST), "dense": DENSE}
    folder = store.condition_folder(root / "features", "shapes", model, condition)
    writer = store.Writer(folder, "key", specs, counts)
    writer.write(arrays, {kind: np.arange(n) for kind, n in counts.items()})
    writer.finish({"layout": layout.to_json(), "depth": 3})


@pytest.fixture
def root(tmp_path):
    """``planted`` has other patches where artifacts are, none under ``ttr-1``; ``cleared`` names few classes."""
    (tmp_path / "data").mkdir()
    table = pd.DataFrame({"image_id": [f"i{i:02d}" for i in range(IMAGES)], "label": LABELS})
    table["path"], table["split"] = table["image_id"] + ".png", np.where(np.arange(IMAGES) < 4, "train", "test")
    for name in table["path"]:
        Image.new("RGB", (8, 8)).save(tmp_path / "data" / name)
    table = manifest.check(table, ["a", "b", "c"], tmp_path / "data", "shapes")
    manifest.write(tmp_path / "data", table, ["a", "b", "c"], "shapes", ".", "test", "MIT")
    rng = np.random.default_rng(0)
    patches = rng.normal(size=(DENSE, PATCHES, WIDTH))
    spoilt = patches.copy()
    spoilt[PLACES] = np.eye(WIDTH)[0]
    patches[PLACES] = np.eye(WIDTH)[1]
    write(tmp_path, "base", "baseline", patches, wrong=[4])
    write(tmp_path, "planted", "baseline", spoilt, wrong=[4, 7])
    write(tmp_path, "planted", "ttr-1", 3.0 * patches, wrong=[4], appended=1)  # longer, but in the same direction
    write(tmp_path, "planted", "cleared", -patches, wrong=[4, 5, 6, 7, 8, 9])
    reason = "no register neurons found"
    folder = store.condition_folder(tmp_path / "features", "shapes", "planted", "next-4")
    store.write_not_applicable(folder, "key", reason)
    write_json(tmp_path / "model" / "model.json", {"planted": {"block": 1, "norm": NORM}})
    return tmp_path


def rows_of(root, base="base", conditions=("baseline", "ttr-1", "cleared", "next-4"), model="planted"):
    settings = Statistics(confidence=0.9, resamples=200)
    cfg = Config(seed=0, statistics=settings, dataset="shapes", model=model, conditions=list(conditions), base=base)
    job = job_of("needed_registers", root, dataset="shapes", model=model)
    measure.run(cfg, job)
    return written(job, "needed_registers"), job


def test_top1_of_the_own_head_is_over_the_test_images(root):
    rows, job = rows_of(root)
    top1 = rows[rows.metric == "own_head_top1"].set_index("intervention")
    assert top1["value"].drop("next-4").to_dict() == {"baseline": 6 / 8, "ttr-1": 7 / 8, "cleared": 2 / 8}
    assert (top1["n"].drop("next-4") == 8).all()
    assert (top1["low"] <= top1["value"]).drop("next-4").all()
    assert top1.loc["next-4", "note"] == "no register neurons found"
    by_image = pd.concat(job.images)
    mine = by_image[by_image.intervention == "baseline"].set_index("image_id")["value"]
    assert mine[mine == 0].index.tolist() == ["i04", "i07"]


def test_cosines_at_artifacts_and_everywhere_are_those_patch_by_patch(root):
    rows, _ = rows_of(root)
    cosine = rows[rows.metric == "patch_cosine"].set_index(["group", "intervention"])["value"]
    assert cosine["artifacts", "baseline"] == pytest.approx(0.0, abs=1e-3)  # e0 against e1
    assert cosine["artifacts", "ttr-1"] == pytest.approx(1.0, abs=1e-3)
    assert cosine["artifacts", "cleared"] == pytest.approx(-1.0, abs=1e-3)
    slow = np.mean([np.mean([0.0 if PLACES[i, p] else 1.0 for p in range(PATCHES)]) for i in range(DENSE)])
    assert cosine["patches", "baseline"] == pytest.approx(slow, abs=1e-3)
    counted = rows[rows.metric == "patch_cosine"].set_index(["group", "intervention"])["n"]
    assert counted["artifacts", "baseline"] == 3  # images that have an artifact
    assert counted["patches", "baseline"] == DENSE


def test_where_artifacts_are_is_told_by_the_block_that_writes_them(root):
    rows, _ = rows_of(root)
    found = rows.set_index("metric")["value"]
    assert found["artifact_patches"] == pytest.approx(4 / 6)
    assert found["affected_images"] == pytest.approx(3 / 6)


def test_a_model_without_a_base_or_without_artifacts_says_so(root):
    rows, _ = rows_of(root, base=None, conditions=["baseline"])
    assert rows[rows.metric == "patch_cosine"]["note"].tolist() == [measure.NO_BASE]
    write_json(root / "model" / "model.json", {})  # nothing was planted
    rows, _ = rows_of(root, conditions=["baseline"])
    cosine = rows[rows.metric == "patch_cosine"]
    assert cosine["group"].tolist() == ["patches"]
    assert "artifact_patches" not in set(rows.metric)
    write_json(root / "model" / "model.json", {"planted": {"block": 1, "norm": 10 * NORM}})  # never reached
    rows, _ = rows_of(root, conditions=["baseline"])
    assert measure.NO_ARTIFACTS in rows["note"].dropna().tolist()


def test_it_is_measured_in_what_was_written_into_and_in_what_that_was_made_from():
    params = reading.load([Path(__file__).parents[3] / "params.yaml"])
    on = {name for name in params.models_used() if asked(params, name)}
    assert {"vit-r0", "tagged", "planted", "tagged-late", "planted-late"} <= on
    assert not {"vit-r4", "vit-tiny", "planted-48-plain"} & on
    config = Config.pick(params, params.settings("needed_registers"), dataset="shapes", model="planted-late")
    assert config.base == "tagged-late"
    assert Config.pick(params, None, dataset="shapes", model="tagged-late").base is None  # vit-late is in no run
