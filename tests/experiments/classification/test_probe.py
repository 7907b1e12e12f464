import shutil

import numpy as np
import pandas as pd
import pytest
import torch

from vit_registers import params
from vit_registers.core import table as metrics
from vit_registers.core.errors import InputError
from vit_registers.core.stats import Bootstrap
from vit_registers.data.manifest import Manifest
from vit_registers.experiments.classification import knn
from vit_registers.experiments.classification import linear_probe as heads
from vit_registers.experiments.classification import measure as probe
from vit_registers.extraction import store
from vit_registers.extraction.store import Features
from vit_registers.pipeline.configs import ProbeStep

REASON = "no artifacts found: 0.00% of the patches exceed 12"
CONDITIONS = ["baseline", "same", "append-2", "noise", "ttr-4"]
D = 6


def step(conditions=CONDITIONS, features=("cls", "appended"), linear_evaluation=None, **changes):
    values = {"seeds": [0, 7], "lr": 0.05, "final_lr": 1e-3, "weight_decay": 0.05, "epochs": 6, "batch_size": 16}
    settings = {**values, "features": list(features), "clip_norm": 1.0, "validation_share": 0.2, **changes}
    return ProbeStep(
        seed=0,
        dataset="tiny",
        model="m",
        conditions=list(conditions),
        statistics=params.Statistics(confidence=0.9, resamples=300),
        probe=params.Probe(**settings),
        linear_evaluation=linear_evaluation,
        knn=params.Knn(k=5, temperature=0.07),
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


def run(study, cfg, out="out"):
    probe.run(cfg, study.data, study.features, study.root / out)
    return study.root / out


def read(out):
    return metrics.read(out / "m.csv"), pd.read_parquet(out / "m.images.parquet")


def test_rows_say_what_the_images_say(made):
    rows, images = read(run(made, step()))
    assert set(images["image_id"]) == set(made.table["image_id"][made.rows("test")])
    keys = ["intervention", "readout", "seed"]
    for (condition, readout, seed), group in images.groupby(keys, dropna=False):
        assert len(group) == 30
        assert set(group["value"]) <= {0.0, 1.0}
        mine = rows[(rows["intervention"] == condition) & (rows["readout"] == readout) & (rows["metric"] == "top1")]
        mine = mine[mine["seed"].isna() if pd.isna(seed) else mine["seed"] == seed]
        assert mine["value"].item() == pytest.approx(group["value"].mean())
        assert mine["low"].item() <= mine["value"].item() <= mine["high"].item()
        assert mine["n"].item() == 30
    measured = rows[rows["value"].notna()]
    assert measured["unit"].eq("fraction").all()
    assert measured["low"].notna().all()
    assert set(measured["metric"]) == {"top1", "top3", "macro_f1", "macro_precision", "macro_recall", "auc"}


def test_a_row_over_all_seeds_stands_beside_those_of_each(made):
    rows, images = read(run(made, step()))
    linear = rows[rows["readout"] == "probe[cls]"]
    for (condition, metric), group in linear.groupby(["intervention", "metric"]):
        assert sorted(group["seed"].dropna()) == [0, 7]
        pooled = group[group["seed"].isna()]
        assert pooled["value"].item() == pytest.approx(group["value"][group["seed"].notna()].mean())
        if metric == "top1":
            mine = images[(images["intervention"] == condition) & (images["readout"] == "probe[cls]")]
            of_image = mine.pivot_table(index="image_id", columns="seed", values="value", sort=True).mean(axis=1)
            again = Bootstrap(30, 300, 0.9, probe.generator(0, "bootstrap", "tiny", 30)).interval(of_image.to_numpy())
            assert (pooled["low"].item(), pooled["high"].item()) == pytest.approx(again)


def test_features_that_tell_classes_apart_are_told_from_noise(made):
    rows, _ = read(run(made, step()))
    top1 = rows[(rows["metric"] == "top1") & rows["seed"].isna()].set_index(["intervention", "readout"])["value"]
    for readout in ("probe[cls]", "knn[cls]"):
        assert top1["baseline", readout] > 0.6
        assert top1["noise", readout] < 0.55
        assert top1["baseline", readout] == top1["same", readout]


def test_arms_of_one_seed_share_start_batches_and_split(made, monkeypatch):
    seen = []
    train = heads.train

    def spy(*arguments):
        seen.append(arguments)
        return train(*arguments)

    monkeypatch.setattr(heads, "train", spy)
    run(made, step(features=["cls"]))
    (features, labels, validation, validation_labels, start, orders, _) = seen[0]
    split = probe.Split(Manifest.load(made.data), step())
    assert len(set(split.train) | set(split.validation)) == 60
    assert sorted([*split.train, *split.validation]) == made.rows("train").tolist()
    np.testing.assert_array_equal(split.test, made.rows("test"))
    assert np.bincount(validation_labels).tolist() == [4, 4, 4]  # stratified
    cached = np.array(Features.open(made.folder("baseline")).array("cls"))
    np.testing.assert_array_equal(features[0], cached[split.train])
    np.testing.assert_array_equal(features[2], -cached[split.train])
    np.testing.assert_array_equal(validation[0], cached[split.validation])
    np.testing.assert_array_equal(labels, made.table["label"].to_numpy()[split.train])
    assert start[0].shape == (2, D, 3)
    assert orders.shape == (2, 6, 48)
    assert (orders.sort(dim=2)[0] == torch.arange(48)).all()
    assert not torch.equal(orders[0], orders[1])
    assert not torch.equal(start[0][0], start[0][1])


def test_a_condition_does_not_depend_on_those_beside_it(made):
    rows, images = read(run(made, step()))
    _, alone = read(run(made, step(conditions=["append-2"]), "alone"))
    own = ~images["readout"].str.startswith("kept")  # a kept head is the baseline's
    mine = images[(images["intervention"] == "append-2") & own].reset_index(drop=True)
    pd.testing.assert_frame_equal(alone, mine)
    assert rows["intervention"].nunique() == len(CONDITIONS)


def test_a_kept_head_is_the_baselines_on_the_features_of_each_condition(made):
    _, images = read(run(made, step()))
    of = images.set_index(["intervention", "readout"])["value"]
    for condition in ("baseline", "same"):
        assert of[condition, "kept[cls]"].tolist() == of["baseline", "probe[cls]"].tolist()
    # the third arm is the first with its sign turned: what the head liked best it likes least
    assert of["append-2", "probe[cls]"].mean() > of["append-2", "kept[cls]"].mean() + 0.4
    assert not images["readout"].eq("kept[appended]").any()  # the baseline has none


def test_neighbours_are_sought_in_the_whole_training_split(made):
    _, images = read(run(made, step()))
    cached = torch.from_numpy(np.array(Features.open(made.folder("baseline")).array("cls")))
    labels = torch.tensor(made.table["label"].tolist())
    votes = knn.scores(cached[:60], labels[:60], cached[60:], 3, 5, 0.07)
    right = (votes.argmax(dim=1) == labels[60:]).double().numpy()
    mine = images[(images["intervention"] == "baseline") & (images["readout"] == "knn[cls]")]
    assert mine["seed"].isna().all()
    # the held-out order of training images may differ, votes do not depend on it
    np.testing.assert_array_equal(mine.sort_values("image_id")["value"], right)


def test_a_condition_that_does_not_apply_has_one_row_with_the_reason(made):
    rows, images = read(run(made, step()))
    absent = rows[rows["intervention"] == "ttr-4"]
    assert absent["note"].tolist() == [REASON]
    assert absent["value"].isna().all()
    assert "ttr-4" not in set(images["intervention"])


def test_appended_tokens_are_read_where_there_are_some(made):
    rows, _ = read(run(made, step()))
    assert set(rows["intervention"][rows["readout"] == "probe[appended]"]) == {"append-2"}


def test_linear_evaluation_has_a_row_per_condition_that_says_what_won(made):
    n = len(made.table)
    for name in ("baseline", "same", "noise"):
        cls = np.array(Features.open(made.folder(name)).array("cls"))
        shutil.rmtree(made.folder(name))
        blocks = np.stack([np.random.default_rng(0).standard_normal((n, D)).astype(np.float32), cls], axis=1)
        arrays = {"cls": cls, "cls_blocks": blocks, "patch_mean": cls[:, ::-1].copy()}
        made.write_features(name, arrays, made.rows("test"))
    wanted = params.LinearEvaluation(blocks=[1, 2], learning_rates=[0.01, 0.5], epochs=8, batch_size=16)
    rows, images = read(run(made, step(["baseline", "same", "noise", "ttr-4"], ("cls",), wanted)))
    mine = rows[(rows["readout"] == "linear_evaluation") & (rows["metric"] == "top1")].set_index("intervention")
    assert set(mine.index) == {"baseline", "same", "noise"}
    assert (
        mine["note"]
        .str.fullmatch(
            r"\[CLS\]( of 2 blocks)?( with mean patch)?, learning rate \S+, chosen on held-out training images"
        )
        .all()
    )
    assert mine.loc["baseline", "value"] == mine.loc["same", "value"] > 0.6
    assert mine.loc["noise", "value"] < 0.6
    per_image = images[images["readout"] == "linear_evaluation"].groupby("intervention")["value"].mean()
    assert per_image["baseline"] == pytest.approx(mine.loc["baseline", "value"])


def test_features_of_a_name(made):
    cached = Features.open(made.folder("append-2"))
    cls, appended = (torch.from_numpy(np.array(cached.array(name))) for name in ("cls", "appended"))
    assert torch.equal(probe.feature(cached, "cls"), cls)
    torch.testing.assert_close(probe.feature(cached, "appended"), (appended[:, 0] + appended[:, 1]) / 2)
    assert torch.equal(probe.feature(cached, "cls+cls"), torch.cat([cls, cls], dim=1))
    assert probe.feature(cached, "cls+patch_mean") is None


def test_features_that_are_not_finite_are_refused_by_name(made):
    cls = np.array(Features.open(made.folder("noise")).array("cls"))
    cls[3, 1] = np.inf
    shutil.rmtree(made.folder("noise"))
    made.write_features("noise", {"cls": cls}, made.rows("test"))
    with pytest.raises(InputError, match=r"noise/cls\.npy: holds values that are not finite; set extraction"):
        run(made, step())
    assert not (made.root / "out").exists()


def test_features_that_no_condition_has_are_refused(made):
    with pytest.raises(InputError, match=r"probe\.features: no condition of 'm' has appended, patch_mean"):
        run(made, step(conditions=["baseline"], features=["appended", "patch_mean"]))


def test_the_same_bytes_whatever_the_number_of_threads(made):
    before = torch.get_num_threads()
    try:
        outs = []
        for threads in (1, 2):
            torch.set_num_threads(threads)
            outs.append(run(made, step(), f"out{threads}"))
    finally:
        torch.set_num_threads(before)
    for name in ("m.csv", "m.images.parquet"):
        assert (outs[0] / name).read_bytes() == (outs[1] / name).read_bytes()
