"""The step on a tiny model whose register neurons are known, and on the same model without them."""

import csv
import json

import numpy as np
import pytest

from helpers.interventions import move
from vit_registers.core.errors import InputError
from vit_registers.core.seeds import generator
from vit_registers.core.stats import Bootstrap
from vit_registers.data.manifest import Manifest
from vit_registers.extraction.store import Features
from vit_registers.interventions.base import applied
from vit_registers.models import backbone as backbones
from vit_registers.models.preprocess import load_pixels
from vit_registers.params.statistics import Statistics
from vit_registers.registers import detect

PLANTED = [[1, 3], [1, 40]]


def patch_norms(study, model):
    """(images, layers, patches): behind [CLS] and the one register."""
    return Features.open(study.root / "features" / "baseline" / "tiny" / model).array("norms")[:, :, 2:]


def test_the_planted_neurons_are_found_and_nothing_else(study):
    found = study.detect("planted", "found")
    above = patch_norms(study, "planted") > 100.0
    assert found["found"] is True
    assert "reason" not in found
    assert sorted([layer, index] for layer, index, _ in found["neurons"][:2]) == PLANTED
    assert len(found["neurons"]) == 8  # four times the top k, for the controls
    scores = [score for *_, score in found["neurons"]]
    assert scores == sorted(scores, reverse=True)
    assert (found["precision"], found["recall"], found["stability"]) == (1.0, 1.0, 1.0)
    assert found["next_ratio"] == pytest.approx(scores[1] / scores[2])
    assert found["next_ratio"] > 1.2
    assert found["first_layer"] == 1
    assert found["share"] == pytest.approx(above[:, -1].mean())
    assert found["share_by_layer"] == pytest.approx(above.mean(axis=(0, 2)).tolist())
    assert found["threshold_by_layer"] == [100.0] * 3  # an absolute one
    assert found["images_affected"] == above[:, -1].any(axis=1).sum() == 4
    low, high = found["share_interval"]
    assert 0.0 <= low < found["share"] < high


def test_outliers_that_the_patch_embedding_has_already_are_told_apart_from_those_that_blocks_make(study):
    assert study.detect("planted", "made")["embedded"] == 0.0
    found = study.detect("plain", "embedded", threshold_rule="ratio", threshold=1.2, outlier_layer=0, highest_layer=0)
    backbone = backbones.load(study.root / "models" / "plain")
    manifest = Manifest.load(study.root / "data" / "tiny")
    images, _ = load_pixels(manifest, manifest.rows("test"), backbone.preprocess)
    embedded = backbone.module.patch_embed(backbone.preprocess.normalise(images)).norm(dim=-1).numpy()
    norms = patch_norms(study, "plain")[:, 0]
    above = norms > 1.2 * np.median(norms)
    both = above & (embedded > 1.2 * np.median(embedded))
    shares = [both[i].sum() / above[i].sum() for i in range(12) if above[i].any()]
    assert found["embedded"] == pytest.approx(np.mean(shares))
    assert 0.1 < found["embedded"] < 0.9  # positions make others
    low, high = found["embedded_interval"]
    assert low <= found["embedded"] <= high


@pytest.mark.parametrize(("top_k", "precision", "recall"), [(1, 1.0, 0.5), (2, 1.0, 1.0), (4, 0.5, 1.0)])
def test_precision_is_of_the_top_k_and_recall_of_the_planted(study, top_k, precision, recall):
    found = study.detect("planted", "truth", top_k=top_k)
    assert (found["precision"], found["recall"]) == (precision, recall)
    assert found["planted"] == PLANTED


def test_a_model_that_was_not_planted_has_no_precision(study):
    found = study.detect("plain", "nothing", threshold=0.1)
    assert found["found"] is True
    assert not {"precision", "recall", "planted"} & set(found)


def test_the_interval_is_that_of_images_drawn_with_replacement(study):
    found = study.detect("planted", "interval")
    per_image = (patch_norms(study, "planted")[:, -1] > 100.0).mean(axis=1)
    draw = np.random.default_rng(1)
    means = [np.mean([per_image[i] for i in draw.integers(0, 12, 12)]) for _ in range(4000)]
    spacing = 1.0 / (12 * 16)  # means are multiples of one patch
    assert found["share_interval"] == pytest.approx(np.percentile(means, [2.5, 97.5]), abs=1.01 * spacing)


def test_the_share_has_the_interval_that_measures_give_it(study):
    """Same images, same resamples: two tables that show the share of outlier patches show one interval."""
    found = study.detect("planted", "one interval")
    above = patch_norms(study, "planted")[:, -1] > 100.0
    bootstrap = Bootstrap(12, 1000, 0.95, generator(0, "bootstrap", "tiny", 12))
    assert found["share_interval"] == pytest.approx(bootstrap.interval(above.mean(axis=1)))
    assert found["images_affected_interval"] == pytest.approx(bootstrap.interval(above.any(axis=1)))


@pytest.mark.parametrize(("layer", "expected"), [(-1, 2), (1, 1), (-2, 1)])
def test_the_outlier_layer_is_counted_from_0(study, layer, expected):
    assert study.detect("plain", "layer", outlier_layer=layer)["outlier_layer"] == expected


def test_what_was_found_says_how_many_images_it_rests_on(study):
    found = study.detect("planted", "some", images=9)
    affected = (patch_norms(study, "planted")[:9, -1] > 100.0).any(axis=1).sum()
    assert (found["images"], found["images_ranked"]) == (9, affected)


def test_the_ranking_is_written_with_how_often_each_neuron_is_among_the_best(study):
    found = study.detect("planted", "ranking", bootstrap=50)
    with open(study.root / "ranking" / "planted.neurons.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["rank"] for row in rows] == [str(i) for i in range(100)]
    head = [[int(row["layer"]), int(row["index"]), float(row["score"])] for row in rows[:8]]
    assert head == found["neurons"]
    frequency = [float(row["frequency_in_top_k"]) for row in rows]
    assert frequency[:2] == [1.0, 1.0]
    assert sum(frequency) == pytest.approx(2.0)  # every resample has two


def test_stability_is_the_mean_share_of_the_best_that_a_resample_finds_again(study):
    found = study.detect("planted", "stability", top_k=6, bootstrap=50)
    with open(study.root / "stability" / "planted.neurons.csv", newline="") as file:
        frequency = [float(row["frequency_in_top_k"]) for row in csv.DictReader(file)]
    assert found["stability"] == pytest.approx(sum(frequency[:6]) / 6)
    assert 0.3 < found["stability"] < 1.0


def test_no_outliers_is_an_answer(study):
    found = study.detect("plain", "none")
    assert found["found"] is False
    assert found["neurons"] == []
    assert (
        found["reason"] == "no outlier patches found: 0.00% of the patches exceed 100 (absolute 100), 0.10% are needed"
    )
    assert (study.root / "none" / "plain.neurons.csv").read_text() == "rank,layer,index,score,frequency_in_top_k\n"
    assert (found["share"], found["images_affected"], found["first_layer"]) == (0.0, 0, None)
    assert not {"precision", "recall", "stability", "next_ratio"} & set(found)


def test_a_share_below_the_smallest_that_counts_is_none(study):
    share = study.detect("planted", "enough")["share"]
    assert study.detect("planted", "enough", minimum_share=share)["found"] is True
    assert study.detect("planted", "enough", minimum_share=share + 1e-6)["found"] is False


def test_without_outliers_nothing_is_found_even_where_a_share_of_zero_would_do(study):
    found = study.detect("plain", "zero", minimum_share=0.0)
    assert found["found"] is False
    assert found["reason"] == (
        "no register neurons found: 0 neurons fire at the outlier patches of 0 images, 2 are needed"
    )
    assert found["neurons"] == []


def test_outliers_that_no_image_has_give_no_neurons_instead_of_any(study):
    per_image = (patch_norms(study, "planted")[:, -1] > 100.0).any(axis=1)
    first = int(np.flatnonzero(per_image)[0])
    assert first > 0
    assert study.detect("planted", "later", images=first)["found"] is False
    assert study.detect("planted", "later", images=first + 1)["found"] is True
    json.loads((study.root / "later" / "planted.json").read_text(), parse_constant=pytest.fail)  # no NaN


@pytest.mark.parametrize(("rule", "value"), [("ratio", 3.0), ("absolute", 60.0)])
def test_every_rule_takes_its_threshold_from_patches_of_the_outlier_layer(study, rule, value):
    found = study.detect("planted", "rules", threshold_rule=rule, threshold=value, outlier_layer=1)
    pooled = patch_norms(study, "planted")[:, 1].ravel()
    expected = {"ratio": value * np.median(pooled), "absolute": value}
    assert found["threshold"] == pytest.approx(expected[rule])
    assert found["rule"] == f"{rule} {value:g}"
    assert sorted([layer, index] for layer, index, _ in found["neurons"][:2]) == PLANTED


def test_neurons_above_the_highest_layer_are_not_ranked(study):
    found = study.detect("planted", "highest", highest_layer=0)
    assert {layer for layer, *_ in found["neurons"]} == {0}
    assert (found["precision"], found["recall"]) == (0.0, 0.0)


def test_the_first_layer_is_where_outliers_begin_and_not_the_outlier_layer(study):
    assert study.detect("planted", "first", outlier_layer=2)["first_layer"] == 1
    assert study.detect("planted", "first", minimum_share=0.0)["first_layer"] == 1
    assert study.detect("plain", "first", minimum_share=0.0)["first_layer"] is None


def test_the_same_params_write_the_same_bytes(study):
    for out in ("once", "twice"):
        study.detect("planted", out)
    names = ["planted.json", "planted.neurons.csv"]
    once, twice = ([(study.root / out / name).read_bytes() for name in names] for out in ("once", "twice"))
    assert once == twice
    assert sorted(path.name for path in (study.root / "once").iterdir()) == sorted(names)


def test_the_seed_changes_the_resamples_and_not_the_scores(study):
    one, other = (study.detect("planted", f"seed{seed}", seed=seed, top_k=6) for seed in (0, 1))
    assert one["neurons"] == other["neurons"]
    once, again = ((study.root / f"seed{seed}" / "planted.neurons.csv").read_text() for seed in (0, 1))
    assert once != again  # how often the sixth is among the best
    few = Statistics(confidence=0.95, resamples=20)  # of more, the quantiles of twelve images rarely differ
    found = [study.detect("planted", "seeds", seed=seed, statistics=few) for seed in range(8)]
    assert len({tuple(each["share_interval"]) for each in found}) > 1


@pytest.mark.parametrize(("key", "layer"), [("outlier_layer", 3), ("highest_layer", 17), ("outlier_layer", -4)])
def test_a_layer_that_the_model_lacks_is_refused_by_name(study, key, layer):
    with pytest.raises(InputError, match=rf"{key}: {layer} for model 'planted' of 3 blocks; expected -3 to 2"):
        study.detect("planted", "refused", **{key: layer})
    assert not (study.root / "refused").exists()


def test_a_percentile_finds_nothing_whatever_it_marks(study):
    for model in ("planted", "plain"):
        found = study.detect(model, "percentile", threshold_rule="percentile", threshold=95.0)
        pooled = patch_norms(study, model)[:, -1]
        assert found["threshold"] == pytest.approx(np.percentile(pooled, 95.0))
        assert (found["found"], found["defined"], found["neurons"]) == (False, True, [])
        assert found["share"] == pytest.approx(0.05, abs=0.01)
        assert found["reason"].startswith("artifacts were not looked for: patches above the 95th percentile")


def test_it_looks_at_the_split_that_it_is_told(study):
    train = study.detect("planted", "train", split="train")
    assert (train["split"], train["images"]) == ("train", 2)
    assert study.detect("planted", "test", split="test")["images"] == 12
    with pytest.raises(InputError, match="data set 'tiny': no image in split 'val'; its splits are test, train"):
        study.detect("planted", "val", split="val")


def test_artifacts_that_are_gone_at_the_output_are_found_inside(study, monkeypatch):
    passed = detect.patch_norms

    def norms(*arguments):
        found = passed(*arguments)
        found.blocks[:, -1] = found.blocks[:, -1].clip(max=50.0)
        return found

    monkeypatch.setattr(detect, "patch_norms", norms)
    assert study.detect("planted", "output", outlier_layer=-1)["found"] is False
    found = study.detect("planted", "inside", outlier_layer="any")
    assert (found["found"], found["outlier_layer"], found["share_by_layer"][-1]) == (True, 1, 0.0)
    assert sorted([layer, index] for layer, index, _ in found["neurons"][:2]) == PLANTED


def test_where_artifacts_stay_any_block_is_the_last(study):
    found, last = (study.detect("planted", "any", outlier_layer=layer) for layer in ("any", -1))
    assert found == last
    assert found["outlier_layer"] == 2
    assert study.detect("plain", "any none", outlier_layer="any")["outlier_layer"] == 2


def test_neurons_behind_the_block_where_artifacts_arise_are_not_ranked(study):
    found = study.detect("planted", "arising", highest_layer="arising")
    whole = study.detect("planted", "whole")
    some = study.detect("planted", "some", highest_layer="arising", minimum_share=0.0)  # as the papers ask for none
    assert some["highest_layer"] == 1
    assert (found["highest_layer"], found["first_layer"], whole["highest_layer"]) == (1, 1, 2)
    assert (found["ranked"], whole["ranked"]) == (2 * 64, 3 * 64)
    assert {layer for layer, *_ in found["neurons"]} <= {0, 1}


def test_a_contribution_is_the_score_times_the_norm_of_the_output_column(study):
    plain, contribution = (study.detect("planted", by, score=by) for by in ("activation", "contribution"))
    backbone = backbones.load(study.root / "models" / "planted")
    scores = {(layer, index): score for layer, index, score in plain["neurons"]}
    for layer, index, score in contribution["neurons"][:2]:
        column = backbone.blocks[layer].mlp.fc2.weight[:, index]
        length = sum(float(x) ** 2 for x in column) ** 0.5
        assert score == pytest.approx(scores[layer, index] * length, rel=1e-5)
    assert contribution["score"] == "contribution"


def test_intervals_of_precision_and_ratio_are_over_resampled_images(study):
    found = study.detect("planted", "intervals", top_k=4, bootstrap=200)
    assert found["recall_interval"] == [1.0, 1.0]
    assert found["precision_interval"] == [0.5, 0.5]
    low, high = found["next_ratio_interval"]
    assert 1.0 <= low <= found["next_ratio"] <= high


def test_norms_that_overflowed_are_refused_instead_of_called_none(study, monkeypatch):
    loaded = backbones.load(study.root / "models" / "plain")
    loaded.blocks[2].mlp.fc2.bias[5] = np.inf
    monkeypatch.setattr(detect.backbones, "load", lambda *_: loaded)
    with pytest.raises(InputError, match="not finite in 12 of 12 images; detection ran in fp32"):
        study.detect("plain", "overflow")
    assert not (study.root / "overflow").exists()


def test_repeated_it_finds_the_other_planted_neuron_and_then_none(study):
    once = study.detect("planted", "once more", top_k=1)
    found = study.detect("planted", "again", top_k=1, repeats=3)
    rounds = found.pop("repeats")
    assert found == once
    assert "repeats" not in once
    assert [each["found"] for each in rounds] == [True, False]
    first, second = ([tuple(neuron[:2]) for neuron in each["neurons"]] for each in (once, rounds[0]))
    assert sorted([list(first[0]), list(second[0])]) == PLANTED
    assert len(rounds[0]["neurons"]) == 1
    assert rounds[1]["neurons"] == []
    assert rounds[1]["reason"].startswith("no outlier patches found: ")
    assert 0.0 < rounds[0]["share"] <= found["share"]


def test_a_repeated_round_is_detection_on_the_model_with_its_neurons_moved(study):
    """The same numbers as detection gives of that model when the neurons are moved from outside."""
    found = study.detect("planted", "moved", top_k=1, repeats=1)
    layer, index, _ = found["neurons"][0]
    backbone = backbones.load(study.root / "models" / "planted")
    with pytest.MonkeyPatch.context() as patch, applied(backbone, move([(layer, index)], 1)):
        patch.setattr(detect.backbones, "load", lambda *_: backbone)
        other = study.detect("planted", "moved from outside", top_k=1)
    (again,) = found["repeats"]
    assert again["neurons"] == other["neurons"][:1]
    assert {key: again[key] for key in ("share", "threshold")} == {key: other[key] for key in ("share", "threshold")}


def test_a_model_without_artifacts_is_not_looked_at_again(study):
    assert study.detect("plain", "none again", repeats=2)["repeats"] == []
