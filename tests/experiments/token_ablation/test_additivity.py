"""Sums of single effects against the joint one, image by image, and which conditions belong together."""

import numpy as np
import pandas as pd
import pytest

from helpers.measuring import study_of
from helpers.studies import load
from vit_registers.experiments.token_ablation import additivity, tables
from vit_registers.experiments.token_ablation.params import Config, Joint, joints, single
from vit_registers.interventions.kinds.ablate import Ablate
from vit_registers.params.condition import BASELINE
from vit_registers.params.statistics import Statistics
from vit_registers.views.study import Study, select

CFG = Config(
    seed=0,
    statistics=Statistics(confidence=0.9, resamples=300),
    dataset="tiny",
    model="m",
    joints=[Joint(condition="all", single={0: "first", 1: "second"})],
    sources={"retrieval": ["m"]},
)


@pytest.fixture
def values(study):
    """Of 30 images what each condition gave: replacing both costs more than replacing one and the other."""
    rng, ids = np.random.default_rng(0), study.table["image_id"][study.rows("test")].to_numpy()
    shares = {BASELINE: 0.9, "all": 0.2, "first": 0.85, "second": 0.85}
    given = {name: rng.random(len(ids)) < share for name, share in shares.items()}
    frames = [
        pd.DataFrame({"image_id": ids, "intervention": name, "metric": "recall_at_1", "feature": "cls", "value": right})
        for name, right in given.items()
    ]
    folder = study.root / "measures" / "retrieval" / "tiny" / "m"
    folder.mkdir(parents=True)
    whole = pd.concat(frames).assign(head=None, seed=None).astype({"head": "string", "value": float})
    whole.to_parquet(folder / "images.parquet")
    return given


@pytest.fixture
def rows(study, values, job):
    study.write_features(BASELINE, {"cls": np.ones((len(study.table), 2), np.float32)}, study.rows("test"), registers=2)
    one = job("additivity")
    additivity.run(CFG, one)
    one.rows.check()
    return one.rows.frame()


def test_the_gap_is_the_sum_of_single_changes_less_the_joint_one(values, rows):
    first, second, both = (values[name].mean() - values[BASELINE].mean() for name in ("first", "second", "all"))
    found = rows.set_index("metric")["value"]
    assert found["sum_of_changes"] == pytest.approx(first + second)
    assert found["joint_change"] == pytest.approx(both)
    assert found["additivity_gap"] == pytest.approx(first + second - both)
    gap = select(rows, metric="additivity_gap").iloc[0]
    assert 0.0 < gap["low"] < gap["value"] < gap["high"]
    assert gap["p"] < 0.05
    assert (gap["of"], gap["feature"], gap["n"]) == ("recall_at_1", "cls", 30)


def test_its_interval_is_paired_over_images(values, rows):
    """Resamples of the gap of each image, not of means by themselves."""
    gaps = values["first"].astype(float) + values["second"] - values[BASELINE] - values["all"]
    row = select(rows, metric="additivity_gap").iloc[0]
    half = 1.645 * gaps.std() / np.sqrt(len(gaps))
    assert row["high"] - row["low"] == pytest.approx(2 * half, rel=0.25)


def test_a_register_that_was_not_replaced_alone_is_named(study, values, job):
    study.write_features(BASELINE, {"cls": np.ones((len(study.table), 2), np.float32)}, study.rows("test"), registers=3)
    one = job("additivity")
    additivity.run(CFG, one)
    assert {row["note"] for row in one.rows.rows} == {"register 2 was not replaced by itself"}


def test_single_ablations_belong_to_the_joint_one_that_differs_in_nothing_else():
    params = load("embedded")
    found = joints(params, params.conditions("shapes", "vit-r4"))
    assert [each.condition for each in found] == ["zero-registers"]  # not those by mean, by noise or of another image
    assert found[0].single == {i: f"zero-register-{i}" for i in range(4)}
    assert single(params, "vit-r4")
    assert not single(params, "vit-r0")


def test_the_table_has_a_row_for_each_task(rows):
    done = {"all": Ablate(tokens="registers")}
    done |= {name: Ablate(tokens="registers", only=[i]) for i, name in enumerate(("first", "second"))}
    made = study_of([rows.assign(dataset="shapes")], ["m"], interventions=list(done))
    study = Study(made.plan.model_copy(update={"interventions": done}), made.rows)
    frame = tables.additivity(study).frame()
    assert frame[["condition", "task"]].to_numpy().tolist() == [["all", "Recall@1"]]
    assert frame["gap"].iloc[0] == pytest.approx(frame["sum"].iloc[0] - frame["joint"].iloc[0])
