"""CKA, cosine and one shot of [CLS] under restricted attention, against loops and where the answer is known."""

from pathlib import Path

import numpy as np
import pytest

from helpers.measuring import study_of
from vit_registers.core.errors import InputError
from vit_registers.core.numerics.similarity import Compared
from vit_registers.experiments.decoupling import measure, one_shot, tables
from vit_registers.experiments.decoupling.params import Config, Decoupling
from vit_registers.extraction import store
from vit_registers.params import reading
from vit_registers.params.statistics import Statistics
from vit_registers.views.study import select

CFG = Config(
    seed=0,
    statistics=Statistics(confidence=0.9, resamples=300),
    dataset="tiny",
    model="m",
    parts=["patches-only", "registers-only", "none-only"],
    full=["baseline", "skip-dropped"],
    settings=Decoupling(episodes=60, groups=6, largest_dimensions=2),
)


@pytest.fixture
def made(study):
    """Patches hold the class; registers hold the same offset for all; the whole is their sum."""
    rng = np.random.default_rng(1)
    labels, n = study.table["label"].to_numpy(), len(study.table)
    patches = 3.0 * rng.normal(size=(3, 6))[labels] + 0.3 * rng.normal(size=(n, 6))
    registers = 20.0 + 0.1 * rng.normal(size=(n, 6))
    features = {"patches-only": patches, "registers-only": registers, "skip-dropped": patches + registers}
    features["baseline"] = patches + registers + 0.5 * rng.normal(size=(n, 6))
    for name, array in features.items():
        study.write_features(name, {"cls": array.astype(np.float32)}, study.rows("test"))
    store.write_not_applicable(study.folder("none-only"), "key", "the model has no registers")
    return study, {name: array.astype(np.float32).astype(float) for name, array in features.items()}


@pytest.fixture
def rows(made, job):
    one = job("decoupling", "out")
    measure.run(CFG, one)
    one.rows.check()
    return one.rows.frame()


def test_parts_are_compared_with_every_full_output(made, rows):
    study, features = made
    test = study.rows("test")
    for full in CFG.full:
        for part in ("patches-only", "registers-only"):
            x, y = features[full][test], features[part][test]
            linear = select(rows, metric="cka", intervention=part, full=full, estimator="linear").iloc[0]
            assert linear["value"] == pytest.approx(Compared(x, y).cka("linear"), rel=1e-6)
            assert linear["low"] < linear["value"] < linear["high"]
            slow = np.mean([a @ b / np.linalg.norm(a) / np.linalg.norm(b) for a, b in zip(x, y, strict=True)])
            cosine = select(rows, metric="part_cosine", intervention=part, full=full)["value"].iloc[0]
            assert cosine == pytest.approx(slow, rel=1e-5)
    unbiased = select(rows, metric="cka", full="skip-dropped", estimator="unbiased").set_index("intervention")["value"]
    assert unbiased["patches-only"] > 0.95 > 0.5 > unbiased["registers-only"]
    assert select(rows, intervention="none-only")["note"].eq("the model has no registers").all()


def test_one_shot_names_classes_by_what_holds_them(rows):
    top1 = select(rows, metric="one_shot_top1", full="skip-dropped").set_index("intervention")["value"]
    assert top1["skip-dropped"] > 0.95
    assert top1["registers-only"] < 0.5  # a third is chance
    assert select(rows, metric="one_shot_top5").empty  # of three classes
    of_whole = select(rows, metric="one_shot_top1", full="baseline")
    assert (of_whole.loc[of_whole["value"].notna(), "n"] == 60).all()


def test_what_says_nothing_says_why(study, job):
    """An output that all images share, a model without [CLS], and fewer images than the jackknife takes."""
    rng, n, test = np.random.default_rng(0), len(study.table), study.rows("test")
    cls = rng.normal(size=(n, 6)).astype(np.float32)
    for name, array in {"baseline": cls, "skip-dropped": cls, "patches-only": np.ones_like(cls)}.items():
        study.write_features(name, {"cls": array}, test)
    cfg = CFG.model_copy(update={"parts": ["patches-only"]})
    one = job("decoupling", "constant")
    measure.run(cfg, one)
    assert select(one.rows.frame(), metric="cka", intervention="patches-only")["note"].eq(measure.ALIKE).all()
    for name in ("baseline", "skip-dropped", "patches-only"):
        study.write_features(name, {"patch_mean": cls}, test)
    one = job("decoupling", "without")
    measure.run(cfg, one)
    assert {row["note"] for row in one.rows.rows} == {measure.NO_PARTS}


def test_an_episode_has_two_different_images_of_each_class():
    labels = np.array([0, 0, 1, 1, 1, 2, 2])
    fit, test = one_shot.episodes(labels, 50, np.random.default_rng(0))
    assert fit.shape == test.shape == (50, 3)
    assert (labels[fit] == [0, 1, 2]).all()
    assert (labels[test] == [0, 1, 2]).all()
    assert (fit != test).all()
    assert len({tuple(row) for row in fit}) > 6
    assert one_shot.episodes(np.array([0, 0, 1]), 2, np.random.default_rng(0)) is None


def test_ranks_are_counted_one_by_one():
    rng = np.random.default_rng(0)
    full, part = rng.normal(size=(2, 12, 4))
    fit, test = rng.integers(12, size=(2, 5, 3))
    found = one_shot.ranks_of_truth(full, part, fit, test)
    for episode in range(5):
        for c in range(3):
            query = part[test[episode, c]]
            cosines = [query @ full[i] / np.linalg.norm(query) / np.linalg.norm(full[i]) for i in fit[episode]]
            assert found[episode, c] == sum(cosine > cosines[c] + 1e-12 for cosine in cosines)


def test_it_knows_parts_from_wholes():
    params = reading.load([Path(__file__).parents[3] / "params.yaml"])
    config = Config.pick(params, params.settings("decoupling"), dataset="shapes", model="vit-r4")
    assert config.full == ["baseline", "skip-dropped"]
    assert config.parts == ["patches-only", "registers-only"]


def test_it_wants_what_the_pass_has_to_keep(tmp_path):
    overlay = tmp_path / "mine.yaml"
    overlay.write_text("extraction: {cls_parts: false}")
    with pytest.raises(InputError, match=r"experiments.decoupling.*set extraction.cls_parts, or leave decoupling out"):
        reading.load([Path(__file__).parents[3] / "params.yaml", overlay])


def test_the_table_has_each_part_below_its_whole(rows):
    study = study_of(
        [rows.assign(dataset="shapes")],
        ["m"],
        interventions=["skip-dropped", "patches-only", "registers-only", "none-only"],
    )
    frame = tables.decoupling(study).frame()
    measured = frame[frame["one_shot"].notna()]
    assert measured[["full_condition", "condition"]].to_numpy().tolist() == [
        [full, part] for full in ("baseline", "skip-dropped") for part in (full, "patches-only", "registers-only")
    ]
    assert measured["cka"].isna().tolist() == [True, False, False] * 2
