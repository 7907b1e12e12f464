"""recall@1 against a loop over images, and where the answer is known."""

import numpy as np
import pandas as pd
import pytest

from vit_registers.experiments.retrieval import measure
from vit_registers.experiments.retrieval.params import Config, Retrieval
from vit_registers.extraction import store
from vit_registers.params.statistics import Statistics

REASON = "no artifacts found"
CFG = Config(
    seed=0,
    statistics=Statistics(confidence=0.9, resamples=300),
    dataset="tiny",
    model="m",
    conditions=["baseline", "noise", "ttr-4"],
    settings=Retrieval(features=["cls", "patch_mean"]),
)


@pytest.fixture
def made(study):
    """Features around the centre of their class; ``noise`` is none of that; the mean patch is there once."""
    rng = np.random.default_rng(1)
    labels, n = study.table["label"].to_numpy(), len(study.table)
    cls = (rng.normal(size=(3, 6))[labels] + 0.7 * rng.normal(size=(n, 6))).astype(np.float32)
    noise = rng.normal(size=(n, 6)).astype(np.float32)
    dense = study.rows("test")
    study.write_features("baseline", {"cls": cls, "patch_mean": noise}, dense)
    study.write_features("noise", {"cls": noise}, dense)
    store.write_not_applicable(study.folder("ttr-4"), "key", REASON)
    return study, {"baseline": cls, "noise": noise}


def slow(queries, gallery, labels):
    """The nearest other image, one by one."""
    right = []
    for i, query in enumerate(queries):
        cosines = {j: query @ other / np.linalg.norm(query) / np.linalg.norm(other)
                   for j, other in enumerate(gallery) if j != i}  # fmt: skip
        right.append(labels[max(cosines, key=cosines.get)] == labels[i])
    return np.mean(right)


def test_the_nearest_other_image_is_found_under_the_condition_and_in_the_model_as_it_is(made, job):
    study, features = made
    one = job("retrieval", "out")
    measure.run(CFG, one)
    rows = one.rows.frame()
    test = study.rows("test")
    labels = study.table["label"].to_numpy()[test]
    on_cls = rows[rows["feature"] == "cls"].set_index(["intervention", "metric"])["value"]
    found = {name: x[test] for name, x in features.items()}
    assert on_cls["baseline", "recall_at_1"] == pytest.approx(slow(found["baseline"], found["baseline"], labels))
    assert on_cls["noise", "recall_at_1"] == pytest.approx(slow(found["noise"], found["noise"], labels))
    assert on_cls["noise", "recall_at_1_intact"] == pytest.approx(slow(found["noise"], found["baseline"], labels))
    assert len(on_cls) == 3
    assert rows[rows["feature"] == "patch_mean"]["intervention"].tolist() == ["baseline"]
    assert rows[rows["intervention"] == "ttr-4"]["note"].tolist() == [REASON]
    kept = pd.concat(one.images)
    assert set(kept["image_id"]) == set(study.table["image_id"][test])
    mine = kept[(kept["intervention"] == "baseline") & (kept["feature"] == "cls")]
    assert mine["value"].mean() == pytest.approx(on_cls["baseline", "recall_at_1"])


def test_chance_is_the_share_of_pairs_of_one_class():
    labels = np.array([0, 0, 0, 1, 1, 2])
    pairs = [labels[i] == labels[j] for i in range(6) for j in range(6) if i != j]
    assert measure.chance(labels) == pytest.approx(np.mean(pairs))
