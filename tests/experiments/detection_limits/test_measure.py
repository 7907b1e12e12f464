"""Recall and precision of planted neurons: by hand on made-up rankings, and on a small model planted for real."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from helpers import tagged
from helpers.measuring import job_of, study_of, written
from helpers.studies import load
from vit_registers.core.errors import InputError
from vit_registers.data import manifest
from vit_registers.experiments.detection_limits import figures, measure, tables
from vit_registers.experiments.detection_limits.measure import RANKED, Look, quality, rankings
from vit_registers.experiments.detection_limits.params import Config, DetectionLimits
from vit_registers.models import backbone as backbones
from vit_registers.params.statistics import Statistics
from vit_registers.pipeline.steps import steps
from vit_registers.planted.spread import Planted
from vit_registers.views.study import select

NEURONS = [(1, 3), (1, 4), (2, 0), (2, 1)]
DECOYS = {"everywhere": [(1, 7)], "downstream": [(3, 2), (3, 5)]}


@pytest.fixture(scope="module")
def backbone():
    return tagged.make()


@pytest.fixture(scope="module")
def made(backbone):
    return Planted(backbone, NEURONS, DECOYS)


@pytest.mark.parametrize(
    ("order", "recall", "precision", "everywhere", "downstream"),
    [
        (NEURONS, 1.0, 1.0, 0.0, 0.0),
        (NEURONS[::-1], 1.0, 1.0, 0.0, 0.0),
        ([(1, 7), *NEURONS], 0.75, 4 / 5, 0.25, 0.0),
        ([(1, 7), (3, 2), (0, 0), (3, 5), *NEURONS], 0.0, 0.5, 0.25, 0.5),
        ([*NEURONS[:3], (3, 5), (0, 0), (0, 1), (0, 2), NEURONS[3]], 0.75, 0.5, 0.0, 0.25),
        ([*NEURONS[:2], (0, 0), (0, 1), (0, 2)], 0.5, 4 / (5 * 128), 0.0, 0.0),  # two are not ranked: all of the model
    ],
)
def test_recall_precision_and_decoys_by_hand(made, order, recall, precision, everywhere, downstream):
    assert quality(order, made) == {
        ("planted_recall", None): recall,
        ("planted_precision", None): pytest.approx(precision),
        ("decoys_taken", "everywhere"): everywhere,
        ("decoys_taken", "downstream"): downstream,
    }


def test_rankings_are_of_every_score_filter_and_block(backbone, made):
    draw = np.random.default_rng(0)
    seen = Look(0.1, {how: draw.random((5, 128)) for how in measure.SPARSITIES}, dict(zip(RANKED, (4, 1), strict=True)))
    found = dict(rankings(seen, made))
    assert len(found) == 8
    for (score, how, blocks), order in found.items():
        values = []  # the slow way: one neuron after the other
        for layer in range(5 if blocks == "every block" else 2):
            weight = backbone.blocks[layer].mlp.fc2.weight
            for neuron in range(128):
                column = sum(float(x) ** 2 for x in weight[:, neuron]) ** 0.5
                value = seen.scores[how][layer, neuron] * (1.0 if score == "activation" else column)
                values.append((-value, layer, neuron))
        assert order == [(layer, neuron) for _, layer, neuron in sorted(values)]


SETTINGS = {
    "base": "tagged",
    "planting": {
        "blocks": [1, 2], "neurons": 3, "norm_ratio": 10.0, "decoys": 2, "decoy_activation": 8.0, "images": 30,
    },
    "activations": [16.0, 0.5],
    "images": 12,
    "seeds": [0, 4],
}  # fmt: skip


@pytest.fixture(scope="module")
def found(tmp_path_factory, backbone):
    """Rows of the measure on thirty noisy training images."""
    root = tmp_path_factory.mktemp("limits")
    (root / "data" / "images").mkdir(parents=True)
    for i in range(32):
        Image.fromarray(tagged.IMAGES[i].permute(1, 2, 0).numpy()).save(root / "data" / "images" / f"{i:02d}.png")
    table = pd.DataFrame({"image_id": [f"i{i:02d}" for i in range(32)], "label": [0, 1] * 16})
    table["path"] = [f"images/{i:02d}.png" for i in range(32)]
    table["split"] = ["train"] * 30 + ["test"] * 2
    table = manifest.check(table, ["even", "odd"], root / "data", "the test")
    manifest.write(root / "data", table, ["even", "odd"], "tiny", ".", "made by the test", "MIT")
    backbones.save(root / "model", backbone.module, backbone.metadata)
    cfg = Config(
        seed=0, statistics=Statistics(confidence=0.95, resamples=10), dataset="tiny", model="tagged", device="cpu",
        batch_size=5, memory_mb=500, precision="fp32", split="train", threshold_rule="ratio", threshold=3.0,
        outlier_layer="any", minimum_share=1e-3, sparsity_tokens="patches",
        settings=DetectionLimits.model_validate(SETTINGS),
    )  # fmt: skip
    frames = []
    for out in ("once", "twice"):
        job = job_of("detection_limits", root, out, dataset="tiny", model="tagged")
        measure.run(cfg, job)
        frames.append(written(job, "detection_limits"))
    assert (root / "once/rows.csv").read_bytes() == (root / "twice/rows.csv").read_bytes()
    return frames[0]


def mean(found, metric, **axes):
    (value,) = select(found, metric=metric, seed=None, **axes)["value"]
    return value


def test_the_published_score_finds_strong_neurons_and_misses_weak_ones(found):
    at = {"score": "activation", "sparsity": "off", "ranked": "every block"}
    assert mean(found, "planted_recall", activation=16.0, **at) == 1.0
    assert mean(found, "planted_precision", activation=16.0, **at) == 1.0
    assert mean(found, "planted_recall", activation=0.5, **at) < 0.5
    assert mean(found, "planted_precision", activation=0.5, **at) < 0.5


def test_the_contribution_finds_both_once_neurons_that_are_always_active_are_left_out(found):
    for activation in (16.0, 0.5):
        at = {"score": "contribution", "ranked": "every block", "activation": activation}
        assert mean(found, "planted_recall", sparsity="absolute", **at) == 1.0
        assert mean(found, "decoys_taken", sparsity="absolute", group="everywhere", **at) == 0.0
        assert mean(found, "decoys_taken", sparsity="off", group="everywhere", **at) > 0.0


def test_neurons_behind_the_block_where_artifacts_arise_are_missed(found):
    """Three of six are in the first block; so are none of the decoys that respond to artifacts."""
    at = {"sparsity": "absolute", "ranked": "to where artifacts arise", "activation": 16.0}
    for score in ("activation", "contribution"):
        assert mean(found, "planted_recall", score=score, **at) == 0.5
        assert mean(found, "planted_precision", score=score, **at) == pytest.approx(6 / (5 * 128))
        assert mean(found, "decoys_taken", group="downstream", score=score, **at) == 0.0


def test_rows_are_of_every_planting_and_their_mean(found):
    assert mean(found, "planted_share", activation=16.0) == pytest.approx(2 / 16, abs=0.02)
    assert mean(found, "planted_chance", activation=16.0) == pytest.approx(6 / (5 * 128))
    assert mean(found, "planted_activation", activation=16.0) == pytest.approx(16.0, rel=0.25)
    assert mean(found, "planted_activation", activation=0.5) < 1.0
    for _, group in found.groupby(["metric", "activation", "score", "sparsity", "ranked", "group"], dropna=False):
        single, whole = group[group["seed"].notna()], group[group["seed"].isna()].iloc[0]
        assert single["seed"].tolist() == [0, 4]
        assert single["note"].notna().all()
        assert whole["value"] == pytest.approx(single["value"].mean())
        assert (whole["low"], whole["high"], whole["n"]) == (single["value"].min(), single["value"].max(), 2)


def test_tables_and_figure_show_every_setting_and_activation(found):
    study = study_of([found.assign(dataset="shapes")], ["tagged"])
    recall = tables.recall(study).frame()
    assert len(recall) == 8
    assert recall.columns.tolist()[-2:] == ["at_16", "at_0.5"]
    first = recall[(recall["ranked"] == "every block") & (recall["score"] == "activation")]
    assert first.set_index("sparsity")["at_16"].to_dict() == {"none": 1.0, "magnitude": 1.0}
    assert len(tables.precision(study).frame()) == 8
    assert sorted(set(tables.decoys(study).frame()["group"])) == ["downstream", "everywhere"]
    drawn = figures.detection_limits(study, None)
    assert len(drawn.axes) == 4
    assert all(len(panel.containers) == 4 for panel in drawn.axes)
    labels = {text.get_text() for text in drawn.legends[0].get_texts()}
    scores, filters = ("activation", "contribution"), ("none", "magnitude")
    assert labels == {f"{score}, filter: {how}" for score in scores for how in filters}


def test_a_study_without_such_plantings_says_so():
    study = study_of([], ["tagged"])
    assert "plants no neurons" in tables.recall(study).latex()
    figures.detection_limits(study, None)


def test_only_the_base_has_a_job_and_it_gets_what_detection_gets():
    params = load("embedded")
    step = steps()["detection_limits"]
    assert step.jobs(params) == [{"dataset": "shapes", "model": "tagged"}]
    config = step.config(params, dataset="shapes", model="tagged")
    detection = params.detection_of("tagged")
    assert (config.split, config.threshold, config.outlier_layer) == ("train", detection.threshold, "any")
    assert (config.precision, config.batch_size) == (params.extraction.precision, params.extraction.batch_size)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (
            {"experiments": {"detection_limits": {"base": "nothing"}}},
            "experiments.detection_limits.base: unknown model",
        ),
        (
            {"detection": {"threshold_rule": "percentile", "threshold": 98.0, "outlier_layer": -1}},
            "detection_limits.base: detection.threshold_rule percentile finds no artifacts; switch this experiment off",
        ),
    ],
)
def test_what_does_not_fit_is_refused(change, match):
    with pytest.raises(InputError, match=match):
        load("embedded", change)
