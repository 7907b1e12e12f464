import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from vit_registers.core.errors import InputError
from vit_registers.core.seeds import generator
from vit_registers.core.stats import Bootstrap
from vit_registers.data.manifest import Manifest
from vit_registers.experiments.classification import features, knn, linear_probe, measure
from vit_registers.experiments.classification.params import Classification, Config, Knn, LinearEvaluation, Probe
from vit_registers.extraction import store
from vit_registers.extraction.store import Features
from vit_registers.params.statistics import Statistics

REASON = "no artifacts found: 0.00% of the patches exceed 12"
CONDITIONS = ["baseline", "same", "append-2", "noise", "ttr-4"]
D = 6


def config(conditions=CONDITIONS, read=("cls", "appended"), linear_evaluation=None, **changes):
    values = {"seeds": [0, 7], "lr": 0.05, "final_lr": 1e-3, "weight_decay": 0.05, "epochs": 6, "batch_size": 16}
    probe = Probe(**{**values, "features": list(read), "clip_norm": 1.0, "validation_share": 0.2, **changes})
    return Config(
        seed=0,
        dataset="tiny",
        model="m",
        conditions=list(conditions),
        statistics=Statistics(confidence=0.9, resamples=300),
        settings=Classification(probe=probe, linear_evaluation=linear_evaluation, knn=Knn(k=5, temperature=0.07)),
    )


@pytest.fixture
def made(study):
    """Features that tell classes apart but for some noise; ``noise`` are features that do not."""
    rng = np.random.default_rng(1)
    labels, n = study.table["label"].to_numpy(), len(study.table)
    centres = rng.standard_normal((3, D))
    cls = (centres[labels] + 0.5 * rng.standard_normal((n, D))).astype(np.float32)
    appended = rng.standard_normal((n, 2, D)).astype(np.float32)
    dense = study.rows("test")
    study.write_features("baseline", {"cls": cls}, dense)
    study.write_features("same", {"cls": cls}, dense)
    study.write_features("append-2", {"cls": -cls, "appended": appended}, dense)
    study.write_features("noise", {"cls": rng.standard_normal((n, D)).astype(np.float32)}, dense)
    store.write_not_applicable(study.folder("ttr-4"), "key", REASON)
    return study


@pytest.fixture
def run(made, job):
    """Function that measures: its rows, and the values by image."""

    def run(cfg, out="out"):
        one = job("classification", out)
        measure.run(cfg, one)
        one.write(images=True, arrays=False)
        return one.rows.frame(), pd.read_parquet(one.out / "images.parquet")

    return run


def test_rows_say_what_the_images_say(made, run):
    rows, images = run(config())
    assert set(images["image_id"]) == set(made.table["image_id"][made.rows("test")])
    assert set(images["metric"]) == {"top1"}
    keys = ["intervention", "feature", "head", "seed"]
    for (condition, feature, head, seed), group in images.groupby(keys, dropna=False):
        assert len(group) == 30
        assert set(group["value"]) <= {0.0, 1.0}
        mine = rows[(rows["intervention"] == condition) & (rows["feature"] == feature) & (rows["head"] == head)]
        mine = mine[(mine["metric"] == "top1") & (mine["seed"].isna() if pd.isna(seed) else mine["seed"] == seed)]
        assert mine["value"].item() == pytest.approx(group["value"].mean())
        assert mine["low"].item() <= mine["value"].item() <= mine["high"].item()
        assert mine["n"].item() == 30
    measured = rows[rows["value"].notna()]
    assert measured["unit"].eq("share").all()
    assert measured["low"].notna().all()
    assert set(measured["metric"]) == {"top1", "top3", "macro_f1", "macro_precision", "macro_recall", "auc"}


def on_cls(table, head):
    return table[(table["feature"] == "cls") & (table["head"] == head)]


def test_a_row_over_all_seeds_stands_beside_those_of_each(run):
    rows, images = run(config())
    for (condition, metric), group in on_cls(rows, "refitted").groupby(["intervention", "metric"]):
        assert sorted(group["seed"].dropna()) == [0, 7]
        pooled = group[group["seed"].isna()]
        assert pooled["value"].item() == pytest.approx(group["value"][group["seed"].notna()].mean())
        if metric == "top1":
            mine = on_cls(images[images["intervention"] == condition], "refitted")
            of_image = mine.pivot_table(index="image_id", columns="seed", values="value", sort=True).mean(axis=1)
            again = Bootstrap(30, 300, 0.9, generator(0, "bootstrap", "tiny", 30)).interval(of_image.to_numpy())
            assert (pooled["low"].item(), pooled["high"].item()) == pytest.approx(again)


def test_features_that_tell_classes_apart_are_told_from_noise(run):
    rows, _ = run(config())
    for head in ("refitted", "knn"):
        of = on_cls(rows[(rows["metric"] == "top1") & rows["seed"].isna()], head)
        top1 = of.set_index("intervention")["value"]
        assert top1["baseline"] > 0.6
        assert top1["noise"] < 0.55
        assert top1["baseline"] == top1["same"]


def test_conditions_of_one_seed_share_start_batches_and_split(made, run, monkeypatch):
    calls = []
    train = linear_probe.train

    def spy(*arguments):
        calls.append(arguments)
        return train(*arguments)

    monkeypatch.setattr(linear_probe, "train", spy)
    run(config(read=["cls"]))
    (x, labels, validation, validation_labels, start, orders, _) = calls[0]
    split = measure.Split(Manifest.load(made.data), config())
    assert len(set(split.train) | set(split.validation)) == 60
    assert sorted(split.fitted) == made.rows("train").tolist()
    np.testing.assert_array_equal(split.test, made.rows("test"))
    assert np.bincount(validation_labels).tolist() == [4, 4, 4]  # stratified
    cached = np.array(Features.open(made.folder("baseline")).array("cls"))
    np.testing.assert_array_equal(x[0], cached[split.train])
    np.testing.assert_array_equal(x[2], -cached[split.train])
    np.testing.assert_array_equal(validation[0], cached[split.validation])
    np.testing.assert_array_equal(labels, made.table["label"].to_numpy()[split.train])
    assert start[0].shape == (2, D, 3)
    assert orders.shape == (2, 6, 48)
    assert (orders.sort(dim=2)[0] == torch.arange(48)).all()
    assert not torch.equal(orders[0], orders[1])
    assert not torch.equal(start[0][0], start[0][1])


def test_a_condition_does_not_depend_on_those_beside_it(run):
    rows, images = run(config())
    _, alone = run(config(conditions=["append-2"]), "alone")
    own = images["head"] != "frozen"  # a frozen head is the baseline's
    mine = images[(images["intervention"] == "append-2") & own].reset_index(drop=True)
    pd.testing.assert_frame_equal(alone, mine)
    assert rows["intervention"].nunique() == len(CONDITIONS)


def test_a_frozen_head_is_the_baselines_on_the_features_of_each_condition(run):
    _, images = run(config())
    of = images.set_index(["intervention", "feature", "head"]).sort_index()["value"]
    for condition in ("baseline", "same"):
        assert of[condition, "cls", "frozen"].tolist() == of["baseline", "cls", "refitted"].tolist()
    # the third condition is the first with its sign turned: what the head liked best it likes least
    assert of["append-2", "cls", "refitted"].mean() > of["append-2", "cls", "frozen"].mean() + 0.4
    assert set(images["feature"][images["head"] == "frozen"]) == {"cls"}  # the baseline has no appended tokens


def test_neighbours_are_sought_in_the_whole_training_split(made, run):
    _, images = run(config())
    cached = torch.from_numpy(np.array(Features.open(made.folder("baseline")).array("cls")))
    labels = torch.tensor(made.table["label"].tolist())
    votes = knn.scores(cached[:60], labels[:60], cached[60:], 3, 5, 0.07)
    right = (votes.argmax(dim=1) == labels[60:]).double().numpy()
    mine = on_cls(images[images["intervention"] == "baseline"], "knn")
    assert mine["seed"].isna().all()
    # the held-out order of training images may differ, votes do not depend on it
    np.testing.assert_array_equal(mine.sort_values("image_id")["value"], right)


def test_a_condition_that_does_not_apply_has_one_row_with_the_reason(run):
    rows, images = run(config())
    absent = rows[rows["intervention"] == "ttr-4"]
    assert absent["note"].tolist() == [REASON]
    assert absent["value"].isna().all()
    assert "ttr-4" not in set(images["intervention"])


def test_appended_tokens_are_read_where_there_are_some(run):
    rows, _ = run(config())
    assert set(rows["intervention"][rows["feature"] == "appended"]) == {"append-2"}


@pytest.fixture
def with_blocks(made):
    """[CLS] of two blocks, that of the first without meaning, and a mean patch that is the last one turned around."""
    n = len(made.table)
    for name in ("baseline", "same", "noise"):
        cls = np.array(Features.open(made.folder(name)).array("cls"))
        shutil.rmtree(made.folder(name))
        blocks = np.stack([np.random.default_rng(0).standard_normal((n, D)).astype(np.float32), cls], axis=1)
        arrays = {"cls": cls, "cls_blocks": blocks, "patch_mean": cls[:, ::-1].copy()}
        made.write_features(name, arrays, made.rows("test"))
    return LinearEvaluation(blocks=[1, 2], learning_rates=[0.01, 0.5], epochs=8, batch_size=16)


def test_linear_evaluation_has_a_row_per_condition_that_says_what_won(run, with_blocks):
    rows, images = run(config(["baseline", "same", "noise", "ttr-4"], ("cls",), with_blocks))
    of_evaluation = rows["head"] == "linear_evaluation"
    mine = rows[of_evaluation & (rows["metric"] == "top1")].set_index("intervention")
    assert set(mine.index) == {"baseline", "same", "noise"}
    assert set(mine["blocks"]) <= {1, 2}
    assert set(mine["lr"]) <= {0.01, 0.5}
    assert mine["with_mean_patch"].notna().all()
    assert rows.loc[~of_evaluation, ["blocks", "with_mean_patch", "lr"]].isna().all(axis=None)
    assert mine.loc["baseline", "value"] == mine.loc["same", "value"] > 0.6
    assert mine.loc["noise", "value"] < 0.6
    by_image = images[images["head"] == "linear_evaluation"].groupby("intervention")["value"].mean()
    assert by_image["baseline"] == pytest.approx(mine.loc["baseline", "value"])


@pytest.fixture
def test_only(made, with_blocks, monkeypatch):
    """Of ``same`` and ``append-2`` the test images only were passed."""
    test = made.rows("test")
    partial = {"same": test, "append-2": test}
    for name in partial:
        cached = Features.open(made.folder(name))
        arrays = {
            array: np.array(cached.array(array))[test] for array in cached.index["arrays"] if array != "dense_rows"
        }
        shutil.rmtree(made.folder(name))
        made.write_features(name, arrays, test)
    everything = np.arange(len(made.table))
    monkeypatch.setattr(Features, "rows", property(lambda cached: partial.get(cached.folder.name, everything)))
    return with_blocks


def test_of_a_condition_with_test_images_alone_the_frozen_head_is_scored(run, test_only):
    rows, images = run(config(["baseline", "same", "append-2", "ttr-4"], ("cls", "appended"), test_only))
    top1 = rows[(rows["metric"] == "top1") & rows["seed"].isna()]
    measured = top1[top1["value"].notna()]
    assert set(measured["head"][measured["intervention"] == "same"]) == {"frozen"}
    assert set(measured["head"][measured["intervention"] == "baseline"]) == {
        "refitted",
        "frozen",
        "knn",
        "linear_evaluation",
    }
    of = images.set_index(["intervention", "head"]).sort_index()["value"]
    assert of["same", "frozen"].tolist() == of["baseline", "refitted"].tolist()
    absent = top1[top1["value"].isna() & (top1["intervention"] != "ttr-4")]
    assert set(absent["note"]) == {"only test images were passed"}
    axes = absent[["intervention", "feature", "head"]].fillna("").to_numpy().tolist()
    assert sorted(axes) == sorted(
        [
            *([name, "cls", head] for name in ("same", "append-2") for head in ("refitted", "knn")),
            *(["append-2", "appended", head] for head in ("refitted", "knn")),
            ["same", "", "linear_evaluation"],
            ["append-2", "", "linear_evaluation"],
        ]
    )


def test_the_frozen_head_of_test_images_alone_is_that_of_all_images(made, run, request):
    whole, _ = run(config(read=["cls"]), "whole")
    request.getfixturevalue("test_only")
    part, _ = run(config(read=["cls"]), "part")
    for condition in ("same", "append-2"):
        mine, theirs = (
            on_cls(rows[(rows["intervention"] == condition) & rows["value"].notna()], "frozen")
            for rows in (part, whole)
        )
        pd.testing.assert_frame_equal(mine.reset_index(drop=True), theirs.reset_index(drop=True))


def test_features_that_lack_test_images_are_refused(made, run, monkeypatch):
    monkeypatch.setattr(Features, "rows", property(lambda cached: np.arange(80)))
    with pytest.raises(InputError, match="10 of 30 images were not passed"):
        run(config())


def test_blocks_that_were_not_kept_are_refused():
    settings = config(linear_evaluation=LinearEvaluation(blocks=[1, 4], learning_rates=[0.1], epochs=1, batch_size=8))
    study = SimpleNamespace(extraction=SimpleNamespace(cls_blocks=2))
    with pytest.raises(ValueError, match=r"^linear_evaluation\.blocks: 4 blocks, but extraction\.cls_blocks keeps 2"):
        settings.settings.check(study)
    study.extraction.cls_blocks = 4
    settings.settings.check(study)
    config().settings.check(study)


def test_features_of_a_name(made):
    cached = Features.open(made.folder("append-2"))
    cls, appended = (torch.from_numpy(np.array(cached.array(name))) for name in ("cls", "appended"))
    assert torch.equal(features.read(cached, "cls"), cls)
    torch.testing.assert_close(features.read(cached, "appended"), (appended[:, 0] + appended[:, 1]) / 2)
    assert torch.equal(features.read(cached, "cls+cls"), torch.cat([cls, cls], dim=1))
    assert features.read(cached, "cls+patch_mean") is None


def test_features_that_are_not_finite_are_refused_by_name(made, run):
    cls = np.array(Features.open(made.folder("noise")).array("cls"))
    cls[3, 1] = np.inf
    shutil.rmtree(made.folder("noise"))
    made.write_features("noise", {"cls": cls}, made.rows("test"))
    with pytest.raises(InputError, match=r"noise/cls\.npy: holds values that are not finite; set extraction"):
        run(config())
    assert not (made.root / "out").exists()


def test_features_that_no_condition_has_are_refused(run):
    with pytest.raises(InputError, match=r"probe\.features: no condition of 'm' has appended, patch_mean"):
        run(config(conditions=["baseline"], read=["appended", "patch_mean"]))


def test_the_same_bytes_whatever_the_number_of_threads(made, run):
    before = torch.get_num_threads()
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            run(config(), f"out{threads}")
    finally:
        torch.set_num_threads(before)
    for name in ("rows.csv", "images.parquet"):
        assert (made.root / "out1" / name).read_bytes() == (made.root / "out2" / name).read_bytes()


def test_a_validation_split_of_the_data_set_is_taken_as_it_is(study):
    data = Manifest.load(study.data)
    drawn = measure.Split(data, config())
    assert (len(drawn.train), len(drawn.validation)) == (48, 12)
    table = data.table.copy()
    table.loc[[3, 5, 8], "split"] = "val"
    given = measure.Split(replace(data, table=table), config())
    assert given.validation.tolist() == [3, 5, 8]
    assert set(given.train) == set(range(60)) - {3, 5, 8}
    assert given.test.tolist() == drawn.test.tolist()
