"""Paired differences against tests written out, on values by image that other measures left."""

import itertools
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest

from helpers.measuring import job_of, study_of, written
from vit_registers.core.errors import InputError
from vit_registers.core.seeds import generator
from vit_registers.core.stats import Bootstrap, sign_flip
from vit_registers.experiments.comparisons import measure
from vit_registers.experiments.comparisons.params import Condition, Config, Pair
from vit_registers.experiments.comparisons.tables import comparisons
from vit_registers.params.statistics import Statistics
from vit_registers.params.study import Comparison
from vit_registers.pipeline import experiment, steps

IDS = np.array([f"i{i:02d}" for i in range(12)])
SEEDS = [0, 1, 2]
ERRORS = {model: np.random.default_rng(i).random(12) for i, model in enumerate(("planted", "tagged"))}
MODELS = ["planted", "tagged"]
SOURCES = {"object_discovery": MODELS, "classification": MODELS, "dense_prediction": MODELS}
PROBE, LOST = {"feature": "cls", "head": "refitted"}, {"head": "lost"}
DEPTH = {"head": "frozen"}


def draw(seed, share, size=12):
    return np.random.default_rng(seed).random(size) < share


def side(text):
    model, intervention = text.split("/")
    return Condition(model=model, intervention=intervention)


@pytest.fixture
def hits():
    """model/condition -> LOST hits (12,) and probe hits (3 seeds, 12)."""
    sides = {"planted/baseline": 0.3, "planted/ttr-4": 0.8, "tagged/baseline": 0.8}
    return {
        side: (draw(i, share), np.stack([draw(10 * i + s, share) for s in SEEDS]))
        for i, (side, share) in enumerate(sides.items())
    }


def keep(root, name, model, parts, ids=IDS):
    """Values by image as a measure keeps them: (metric, values, condition, axes); the order of rows must not matter."""
    job = job_of("object_discovery", root, dataset="shapes", model=model)
    for metric, values, condition, axes in parts:
        job.by_image(metric, ids, np.asarray(values, dtype=float), condition, **axes)
    path = root / "measures" / name / "shapes" / model / "images.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    whole = pd.concat(job.images).iloc[np.random.default_rng(0).permutation(12 * len(parts))]
    whole.to_parquet(path, index=False)
    return path


@pytest.fixture
def root(tmp_path, hits):
    for model in MODELS:
        mine = {text.split("/")[1]: hit for text, hit in hits.items() if text.startswith(model)}
        seeds = [(name, seed, probe[seed]) for name, (_, probe) in mine.items() for seed in SEEDS]
        probes = [("top1", values, name, {**PROBE, "seed": seed}) for name, seed, values in seeds]
        keep(tmp_path, "object_discovery", model, [("corloc", lost, name, LOST) for name, (lost, _) in mine.items()])
        keep(tmp_path, "classification", model, probes)
        keep(tmp_path, "dense_prediction", model, [("squared_error", ERRORS[model], name, DEPTH) for name in mine])
    return tmp_path


def run(root, *pairs, resamples=400, out="out", sources=SOURCES):
    statistics = Statistics(confidence=0.9, resamples=resamples)
    given = [Pair(a=side(a), b=side(b)) for a, b in pairs]
    job = job_of("comparisons", root, out, dataset="shapes")
    measure.run(Config(seed=0, statistics=statistics, dataset="shapes", pairs=given, sources=sources), job)
    return written(job, "comparisons").set_index("metric")


def exact(difference):
    """Share of all assignments of signs whose sum is as far from zero."""
    every = [abs(np.dot(signs, difference)) for signs in itertools.product([-1, 1], repeat=len(difference))]
    return np.mean([total >= abs(difference.sum()) - 1e-9 for total in every])


def test_one_outcome_per_image_is_compared_by_exact_mcnemar(root, hits):
    row = run(root, ("planted/baseline", "tagged/baseline")).loc["corloc"]
    a, b = hits["planted/baseline"][0], hits["tagged/baseline"][0]
    assert (row["experiment"], row["dataset"], row["head"]) == ("comparisons", "shapes", "lost")
    assert (row["model"], row["intervention"]) == ("planted", "baseline")
    assert (row["reference_model"], row["reference_intervention"]) == ("tagged", "baseline")
    assert row["value"] == pytest.approx(a.mean() - b.mean())
    assert row["p"] == pytest.approx(binomtest(int((a & ~b).sum()), int((a ^ b).sum())).pvalue)
    assert row["p"] < 1
    assert row["n"] == 12
    assert row["note"] == "exact McNemar"


def test_outcomes_averaged_over_seeds_are_compared_by_sign_flips(root, hits):
    row = run(root, ("planted/baseline", "planted/ttr-4"), resamples=20000).loc["top1"]
    difference = hits["planted/baseline"][1].mean(axis=0) - hits["planted/ttr-4"][1].mean(axis=0)
    assert row["value"] == pytest.approx(difference.mean())
    assert row["p"] == pytest.approx(exact(difference), abs=0.01)
    assert row["note"] == "sign flips of the mean over seeds"


def test_one_number_per_image_is_compared_by_sign_flips_in_its_own_unit(root):
    row = run(root, ("planted/baseline", "tagged/baseline"), resamples=20000).loc["squared_error"]
    difference = ERRORS["planted"] - ERRORS["tagged"]
    assert row["value"] == pytest.approx(difference.mean())
    assert row["p"] == pytest.approx(exact(difference), abs=0.01)
    assert (row["note"], row["unit"], row["head"]) == ("sign flips", "squared depth", "frozen")


def test_draws_of_sign_flips_are_named_by_what_is_compared(root, hits):
    """p-values of a study stay as they are, whatever its words."""
    rows = run(root, ("planted/baseline", "planted/ttr-4"))
    a, b = "planted/baseline", "planted/ttr-4"
    difference = hits[a][1].mean(axis=0) - hits[b][1].mean(axis=0)
    rng = generator(0, "sign flips", "shapes", a, b, "probe[cls]", "top1")
    assert rows.loc["top1", "p"] == sign_flip(difference, 400, rng)
    names = {
        "probe[cls+patch_mean]": ("cls+patch_mean", "refitted"),
        "kept[cls]": ("cls", "frozen"),
        "knn[cls]": ("cls", "knn"),
        "linear_evaluation": (None, "linear_evaluation"),
        "dense[refit]": (None, "refitted"),
        "dense[kept]": (None, "frozen"),
        "lost": (None, "lost"),
    }
    assert {measure.Measured("any", *way).test: way for way in names.values()} == names


def test_a_measure_that_only_some_models_have_is_compared_among_these(root):
    pair = ("planted/baseline", "tagged/baseline")
    assert "zero_shot_top1" not in run(root, pair).index
    for i, model in enumerate(MODELS):
        keep(root, "zero_shot", model, [("zero_shot_top1", draw(40 + i, 0.5), "baseline", {})])
    row = run(root, pair, sources={**SOURCES, "zero_shot": MODELS}).loc["zero_shot_top1"]
    assert row["value"] == pytest.approx(draw(40, 0.5).mean() - draw(41, 0.5).mean())
    assert (row["note"], row["head"] is pd.NA) == ("exact McNemar", True)
    assert "zero_shot_top1" not in run(root, pair, sources={**SOURCES, "zero_shot": ["planted"]}).index


def test_the_interval_is_that_of_paired_differences(root, hits):
    row = run(root, ("planted/baseline", "planted/ttr-4")).loc["corloc"]
    difference = hits["planted/baseline"][0].astype(float) - hits["planted/ttr-4"][0]
    bootstrap = Bootstrap(12, 400, 0.9, generator(0, "bootstrap", "shapes", 12))
    assert (row["low"], row["high"]) == pytest.approx(bootstrap.interval(difference))
    assert row["low"] < row["value"] < row["high"]


def test_sides_swapped_change_the_sign_and_not_p(root):
    there = run(root, ("planted/baseline", "tagged/baseline")).loc["corloc"]
    back = run(root, ("tagged/baseline", "planted/baseline")).loc["corloc"]
    assert there["value"] == -back["value"]
    assert there["p"] == pytest.approx(back["p"])


def test_a_condition_compared_with_itself_does_not_differ(root):
    rows = run(root, ("planted/ttr-4", "planted/ttr-4"))
    assert rows["value"].tolist() == [0.0, 0.0, 0.0]
    assert rows["p"].tolist() == [1.0, 1.0, 1.0]


def test_every_question_and_metric_has_its_row(root):
    rows = run(root, ("planted/baseline", "tagged/baseline"), ("planted/ttr-4", "tagged/baseline"))
    assert sorted(zip(rows["intervention"], rows.index, strict=True)) == [
        (condition, metric) for condition in ("baseline", "ttr-4") for metric in ("corloc", "squared_error", "top1")
    ]


def test_what_was_not_measured_is_named(root):
    rows = run(root, ("planted/cleared", "tagged/baseline"))
    assert rows["value"].isna().all()
    assert rows.index.tolist() == ["difference"]
    assert rows["note"].tolist() == ["not measured: planted/cleared"]
    assert rows["reference_model"].tolist() == ["tagged"]


def test_no_comparisons_make_an_empty_table(root):
    assert run(root).empty


def test_different_images_are_refused(root):
    path = root / "measures/object_discovery/shapes/tagged/images.parquet"
    table = pd.read_parquet(path)
    table.loc[table["image_id"] == "i03", "image_id"] = "other"
    table.to_parquet(path, index=False)
    with pytest.raises(InputError, match="planted/baseline and tagged/baseline: corloc was measured on different"):
        run(root, ("planted/baseline", "tagged/baseline"))
    assert not (root / "out/rows.csv").exists()


def test_measures_that_were_not_run_are_named(root):
    (root / "measures/object_discovery/shapes/tagged/images.parquet").unlink()
    command = "vit-registers object-discovery --dataset shapes --model tagged"
    with pytest.raises(InputError, match=rf"tagged/images\.parquet: no such file; run `{command}` first"):
        run(root, ("planted/baseline", "tagged/baseline"))


def test_same_params_same_bytes(root):
    for name in ("a", "b"):
        run(root, ("planted/baseline", "planted/ttr-4"), out=name)
    assert (root / "a/rows.csv").read_bytes() == (root / "b/rows.csv").read_bytes()


def test_a_job_gets_the_comparisons_of_its_data_set_and_what_was_measured_of_their_models(monkeypatch):
    found = [(("shapes", "a"), ("shapes", "b"), ("other", "a")), (("shapes", "b"), ("shapes", "c"))]
    jobs = {
        name: SimpleNamespace(jobs=lambda params, i=i: [{"dataset": d, "model": m} for d, m in found[i]])
        for i, name in enumerate(("object_discovery", "zero_shot"))
    }
    known = {name: (None, SimpleNamespace(images=True)) for name in jobs}
    monkeypatch.setattr(steps, "steps", lambda: jobs)
    monkeypatch.setattr(experiment, "measures", lambda: known)
    asked = [("a/baseline", "b/x"), ("a/baseline", "d/baseline")]
    params = SimpleNamespace(
        seed=0, device="cpu", gallery=None, extraction=None, statistics=Statistics(confidence=0.9, resamples=10),
        pairs=lambda: [("shapes", "a"), ("shapes", "b"), ("shapes", "c"), ("other", "a"), ("other", "d")],
        study=SimpleNamespace(comparisons=[Comparison(question="why", a=a, b=b) for a, b in asked]),
    )  # fmt: skip
    config = Config.pick(params, None, dataset="shapes")
    assert [(str(pair.a), str(pair.b)) for pair in config.pairs] == [("a/baseline", "b/x")]
    assert config.sources == {"object_discovery": ["a", "b"], "zero_shot": ["b"]}


# The table.


def test_the_table_has_every_difference_and_prints_headlines_of_the_usual_head(root):
    keep(root, "zero_shot", "planted", [("zero_shot_top1", draw(1, 0.5), name, {}) for name in ("baseline", "ttr-4")])
    asked = [("planted/ttr-4", "planted/baseline"), ("planted/baseline", "tagged/baseline")]
    rows = run(root, *asked, sources={**SOURCES, "zero_shot": ["planted"]})
    study = study_of([rows.reset_index()], MODELS, interventions=["ttr-4"], comparisons=asked)
    table = comparisons(study)
    frame, tex = table.frame(), table.latex()
    assert frame[["a", "b"]].to_numpy().tolist() == [list(pair) for pair in asked]
    assert [c.key for c in table.columns] == [
        "question", "corloc/lost", "top1/cls/refitted", "zero_shot_top1", "squared_error/frozen",
    ]  # fmt: skip
    assert [c.printed for c in table.columns] == [True, True, True, True, False]
    of = rows.reset_index().set_index(["model", "intervention", "metric"])
    for line in frame.to_dict("records"):
        where = tuple(line["a"].split("/"))
        for key, metric in (("corloc/lost", "corloc"), ("top1/cls/refitted", "top1")):
            for part in ("value", "p"):
                shown = line[key if part == "value" else f"{key}_{part}"]
                assert shown == of.loc[(*where, metric), part]
    assert pd.isna(frame["zero_shot_top1"].iloc[1])  # tagged has none
    assert "CorLoc (points)" in tex
    assert "zero shot top1 (points)" in tex
    assert "squared" not in tex
    assert r"Why: \newline ViT planted, ttr-4 $-$ ViT planted" in tex


def test_a_study_that_compares_nothing_says_so():
    assert "this study compares nothing" in comparisons(study_of([], ["planted"])).latex()
