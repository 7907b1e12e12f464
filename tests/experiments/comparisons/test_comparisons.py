"""Paired differences against tests written out, on values by image that other measures left."""

import itertools

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest, norm, t

from helpers.measuring import job_of, study_of, written
from helpers.studies import load
from vit_registers.core import inference
from vit_registers.core.errors import InputError
from vit_registers.core.seeds import generator
from vit_registers.core.stats import Bootstrap, mcnemar_exact, sign_flip
from vit_registers.experiments.comparisons import measure
from vit_registers.experiments.comparisons.params import Comparisons, Config, Pair
from vit_registers.experiments.comparisons.tables import all_comparisons, comparisons
from vit_registers.experiments.outcomes import Measured
from vit_registers.params.condition import Condition
from vit_registers.params.statistics import Statistics

IDS = np.array([f"i{i:02d}" for i in range(12)])
SEEDS = [0, 1, 2]
ERRORS = {model: np.random.default_rng(i).random(12) for i, model in enumerate(("planted", "tagged"))}
MODELS = ["planted", "tagged"]
METRICS = ("corloc", "pixel_accuracy", "rmse", "top1")
SOURCES = {"object_discovery": MODELS, "classification": MODELS, "dense_prediction": MODELS}
PROBE, LOST = {"feature": "cls", "head": "refitted"}, {"head": "lost"}
DEPTH = {"head": "refitted"}
# A value of all images, and the same in each resample.
POOLED = {
    model: (value, value + 0.01 * np.random.default_rng(i).standard_normal(400))
    for i, (model, value) in enumerate({"planted": 0.3, "tagged": 0.27}.items())
}


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
        keep(tmp_path, "dense_prediction", model, [("pixel_accuracy", ERRORS[model], name, DEPTH) for name in mine])
        keep_pooled(tmp_path, "dense_prediction", model, [("rmse", POOLED[model], name, DEPTH) for name in mine])
    return tmp_path


def keep_pooled(root, name, model, parts, ids=IDS):
    """Scores of all images together: (metric, (value, resampled), condition, axes)."""
    job = job_of("object_discovery", root, dataset="shapes", model=model)
    for metric, (value, resampled), condition, axes in parts:
        job.resampled(metric, ids, value, resampled, condition, **axes)
    job.out = root / "measures" / name / "shapes" / model
    images = (job.out / "images.parquet").read_bytes()
    job.write(images=False, arrays=False, pooled=True)
    (job.out / "rows.csv").unlink()
    assert (job.out / "images.parquet").read_bytes() == images


def pair_of(a, b, family="study", one_training=True, before=None, trainings=()):
    before = None if before is None else side(before)
    alike = [tuple(two) for two in trainings]
    return Pair(a=side(a), b=side(b), family=family, one_training=one_training, before=before, trainings=alike)


def every_row(root, *pairs, resamples=400, sign_flips=400, out="out", sources=SOURCES, margins=None):
    """All rows; a pair is (a, b), or a Pair with what is said of it besides."""
    statistics = Statistics(confidence=0.9, resamples=resamples, sign_flips=sign_flips)
    given = [pair if isinstance(pair, Pair) else pair_of(*pair) for pair in pairs]
    settings = Comparisons(margins=margins or {})
    job = job_of("comparisons", root, out, dataset="shapes")
    config = Config(seed=0, statistics=statistics, dataset="shapes", pairs=given, sources=sources, settings=settings)
    measure.run(config, job)
    return written(job, "comparisons").set_index("metric")


def run(root, *pairs, **settings):
    """Rows of metrics that others measured."""
    rows = every_row(root, *pairs, **settings)
    return rows[~rows.index.isin(["equivalent", "repaired_share"])]


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
    row = run(root, ("planted/baseline", "planted/ttr-4")).loc["top1"]
    difference = hits["planted/baseline"][1].mean(axis=0) - hits["planted/ttr-4"][1].mean(axis=0)
    assert row["value"] == pytest.approx(difference.mean())
    assert row["p"] == pytest.approx(exact(difference))  # of twelve images all assignments are counted
    assert row["note"] == "sign flips of the mean over seeds"


def test_one_number_per_image_is_compared_by_sign_flips(root):
    row = run(root, ("planted/baseline", "tagged/baseline")).loc["pixel_accuracy"]
    difference = ERRORS["planted"] - ERRORS["tagged"]
    assert row["value"] == pytest.approx(difference.mean())
    assert row["p"] == pytest.approx(exact(difference))
    assert (row["note"], row["head"]) == ("sign flips", "refitted")


def test_scores_of_all_images_are_compared_themselves_in_the_shared_resamples(root):
    """The difference of the very number that tables show, RMSE, and not of what single images give."""
    row = run(root, ("planted/baseline", "tagged/baseline")).loc["rmse"]
    (a, of_a), (b, of_b) = POOLED["planted"], POOLED["tagged"]
    assert row["value"] == pytest.approx(a - b)
    assert (row["low"], row["high"]) == pytest.approx(tuple(np.quantile(of_a - of_b, [0.05, 0.95])))
    assert row["p"] == pytest.approx(2 * norm.sf((a - b) / np.std(of_a - of_b, ddof=1)))
    assert (row["note"], row["unit"], row["n"]) == ("Wald test with the standard error of resamples", "depth", 12)


def test_draws_of_sign_flips_are_named_by_what_is_compared(root):
    """p-values of a study stay as they are, whatever its words."""
    n = 40
    ids = np.array([f"j{i:02d}" for i in range(n)])
    values = {model: np.random.default_rng(i).random(n) for i, model in enumerate(MODELS)}
    for model in MODELS:
        job = job_of("object_discovery", root, dataset="shapes", model=model)
        job.by_image("top1", ids, values[model], "baseline", feature="cls", head="knn")
        job.out = root / "measures/zero_shot/shapes" / model
        job.write(images=True, arrays=False)
    a, b = "planted/baseline", "tagged/baseline"
    rows = run(root, (a, b), sources={"zero_shot": MODELS})
    rng = generator(0, "sign flips", "shapes", a, b, "knn[cls]", "top1")
    assert rows.loc["top1", "p"] == sign_flip(values["planted"] - values["tagged"], 400, rng)
    names = {
        "probe[cls+patch_mean]": ("cls+patch_mean", "refitted"),
        "kept[cls]": ("cls", "frozen"),
        "knn[cls]": ("cls", "knn"),
        "linear_evaluation": (None, "linear_evaluation"),
        "dense[refit]": (None, "refitted"),
        "dense[kept]": (None, "frozen"),
        "lost": (None, "lost"),
    }
    assert {Measured("any", *way).test: way for way in names.values()} == names


@pytest.mark.slow
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


@pytest.mark.slow
def test_sides_swapped_change_the_sign_and_not_p(root):
    there = run(root, ("planted/baseline", "tagged/baseline")).loc["corloc"]
    back = run(root, ("tagged/baseline", "planted/baseline")).loc["corloc"]
    assert there["value"] == -back["value"]
    assert there["p"] == pytest.approx(back["p"])


def test_a_condition_compared_with_itself_does_not_differ(root):
    rows = run(root, ("planted/ttr-4", "planted/ttr-4"))
    assert rows["value"].tolist() == [0.0] * 4
    assert rows["p"].tolist() == [1.0] * 4


def test_every_question_and_metric_has_its_row(root):
    rows = run(root, ("planted/baseline", "tagged/baseline"), ("planted/ttr-4", "tagged/baseline"))
    assert sorted(zip(rows["intervention"], rows.index, strict=True)) == [
        (condition, metric)
        for condition in ("baseline", "ttr-4")
        for metric in ("corloc", "pixel_accuracy", "rmse", "top1")
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


def test_a_job_gets_the_comparisons_of_its_data_set_and_what_was_measured_of_their_models():
    runs = [
        {"dataset": "shapes", "models": ["vit-r0", "tagged", "planted"], "interventions": ["append-4"]},
        {"dataset": "shapes", "models": ["vit-r4"], "interventions": [], "experiments": ["object_discovery"]},
        {"dataset": "shapes-grey", "models": ["vit-r1", "vit-tiny"], "interventions": []},
    ]
    asked = [
        {"question": "damage?", "family": "planting", "a": "planted/baseline", "b": "tagged/baseline"},
        {"question": "registers?", "a": "vit-r4/baseline", "b": "vit-r0/baseline"},
        {
            "question": "repair?", "a": "planted/append-4", "b": "tagged/append-4", "before": "planted/baseline",
        },
        {"question": "elsewhere?", "a": "vit-r1/baseline", "b": "vit-tiny/baseline"},
    ]  # fmt: skip
    params = load("embedded", {"study": {"runs": runs, "comparisons": asked, "detections": []}})
    config = Config.pick(params, params.settings("comparisons"), dataset="shapes")
    assert [(str(pair.a), str(pair.b), pair.family, pair.one_training) for pair in config.pairs] == [
        ("planted/baseline", "tagged/baseline", "planting", True),
        ("vit-r4/baseline", "vit-r0/baseline", "study", False),
        ("planted/append-4", "tagged/append-4", "study", True),
    ]
    assert str(config.pairs[2].before) == "planted/baseline"
    every = ["planted", "tagged", "vit-r0"]
    assert config.sources["object_discovery"] == [*every, "vit-r4"]
    assert config.sources["dense_prediction"] == every
    assert config.settings.margins["top1"] == 0.01


def test_trainings_of_the_same_draws_are_paired_and_others_left_out():
    params = load("extended")
    config = Config.pick(params, params.settings("comparisons"), dataset="shapes")
    (pair,) = [pair for pair in config.pairs if pair.trainings]
    assert pair.trainings == [("vit-r4-a", "vit-r0"), *((f"vit-r4-{each}", f"vit-r0-{each}") for each in "bcde")]
    assert "vit-r4-d" in config.sources["classification"]


# What follows from differences.


@pytest.mark.slow
def test_all_p_of_a_family_are_adjusted_together(root, hits):
    pairs = [("planted/baseline", "tagged/baseline"), ("planted/ttr-4", "tagged/baseline")]
    alone = run(root, pair_of(*pairs[0], family="one"), pair_of(*pairs[1], family="two"))
    together = run(root, *pairs)
    for rows in (alone[alone["family"] == "one"], alone[alone["family"] == "two"], together):
        assert rows["p_adjusted"].tolist() == pytest.approx(inference.holm(rows["p"].tolist()))
    assert len(together) == 8
    assert together["p_adjusted"].min() == pytest.approx(min(1.0, 8 * together["p"].min()))


def test_one_training_against_another_has_an_interval_and_no_p(root):
    pair = pair_of("planted/baseline", "tagged/baseline", one_training=False)
    rows = every_row(root, pair, margins={"corloc": 0.5})
    assert rows["p"].isna().all()
    assert rows["p_adjusted"].isna().all()
    assert set(rows["note"]) == {measure.ONE_EACH}
    same = run(root, ("planted/baseline", "tagged/baseline"))
    for part in ("value", "low", "high"):
        assert rows[part].tolist() == same[part].tolist()
    assert "equivalent" not in rows.index


def test_equivalence_is_tested_within_the_margin_of_the_metric(root, hits):
    rows = every_row(root, ("planted/baseline", "tagged/baseline"), margins={"corloc": 0.3, "rmse": 0.08})
    equivalent = rows.loc["equivalent"].set_index("of")
    assert sorted(equivalent.index) == ["corloc", "rmse"]
    a, b = hits["planted/baseline"][0], hits["tagged/baseline"][0]
    resampled = Bootstrap(12, 400, 0.9, generator(0, "bootstrap", "shapes", 12)).means(a.astype(float) - b)
    p = norm.cdf((abs(a.mean() - b.mean()) - 0.3) / np.std(resampled, ddof=1))
    assert equivalent.loc["corloc", "p"] == pytest.approx(p)
    near = norm.cdf((0.03 - 0.08) / np.std(POOLED["planted"][1] - POOLED["tagged"][1], ddof=1))
    assert equivalent.loc["rmse", "p"] == pytest.approx(near)
    assert equivalent["p_adjusted"].to_dict() == pytest.approx({"rmse": 2 * near, "corloc": max(p, 2 * near)})
    assert equivalent["value"].to_dict() == {"rmse": 1.0, "corloc": 0.0}
    assert equivalent.loc["rmse", "note"].endswith("margin 0.08")
    assert mcnemar_exact(a, b) < rows.loc["corloc", "p_adjusted"] < 0.1
    assert tuple(equivalent.loc["corloc", ["verdict", "note"]]) == ("differs", "margin 0.3")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("noise", "shift", "verdict"),
    [
        (0.004, 0.03, "differs, within margin"),
        (0.004, 0.2, "differs"),
        (0.02, 0.002, "the same"),
        (0.2, 0.05, "open"),
    ],
)
def test_verdicts_say_what_both_tests_say(root, noise, shift, verdict):
    rng = np.random.default_rng(0)
    of = {"planted": (0.3 + shift, 0.3 + shift + noise * rng.standard_normal(400)), "tagged": (0.3, np.full(400, 0.3))}
    for model in MODELS:
        keep_pooled(root, "dense_prediction", model, [("miou", of[model], "baseline", DEPTH)])
    rows = every_row(
        root, ("planted/baseline", "tagged/baseline"), margins={"miou": 0.1}, sources={"dense_prediction": MODELS}
    )
    assert tuple(rows.loc["equivalent", ["verdict", "note"]]) == (verdict, "margin 0.1")


def test_the_repaired_share_is_of_the_damage_to_each_number(root, hits):
    pair = pair_of("planted/ttr-4", "tagged/baseline", before="planted/baseline")
    rows = every_row(root, pair).loc["repaired_share"].set_index("of")
    before, after, control = (hits[name][0].mean() for name in ("planted/baseline", "planted/ttr-4", "tagged/baseline"))
    assert rows.loc["corloc", "value"] == pytest.approx((after - before) / (control - before))
    assert rows.loc["corloc", "low"] < rows.loc["corloc", "value"] < rows.loc["corloc", "high"]
    assert rows.loc["rmse", "value"] == pytest.approx(0.0)  # of the planted model the same under every condition
    assert rows["p"].isna().all()
    assert sorted(rows.index) == ["corloc", "pixel_accuracy", "rmse", "top1"]


def test_without_damage_there_is_no_repaired_share_but_the_reason(root):
    pair = pair_of("planted/ttr-4", "tagged/baseline", before="tagged/baseline")
    rows = every_row(root, pair).loc["repaired_share"]
    assert rows["value"].isna().all()
    assert rows["note"].str.startswith("no share: the damage, 0 [0, 0], may be none").all()


@pytest.mark.slow
def test_frozen_heads_of_models_as_they_are_are_not_compared_twice(root):
    for model in MODELS:
        parts = [("top1", draw(i, 0.5), "baseline", {"feature": "cls", "head": head}) for i, head in
                 enumerate(("refitted", "frozen"))]  # fmt: skip
        keep(root, "zero_shot", model, [*parts, ("top1", draw(9, 0.5), "ttr-4", {"feature": "cls", "head": "frozen"})])
    sources = {"zero_shot": MODELS}
    assert run(root, ("planted/baseline", "tagged/baseline"), sources=sources)["head"].tolist() == ["refitted"]
    assert run(root, ("planted/ttr-4", "planted/baseline"), sources=sources)["head"].tolist() == ["frozen"]


def test_over_trainings_the_interval_and_p_are_those_of_pairs_of_the_same_draws(root):
    models = {"r4-a": 0.8, "r4-b": 0.7, "r4-c": 0.9, "r0-a": 0.5, "r0-b": 0.45, "r0-c": 0.6}
    values = {model: draw(i, share) for i, (model, share) in enumerate(models.items())}
    for model in models:
        keep(root, "object_discovery", model, [("corloc", values[model], "baseline", LOST)])
    alike = [(f"r4-{each}", f"r0-{each}") for each in "abc"]
    pair = pair_of("r4-a/baseline", "r0-a/baseline", one_training=False, trainings=alike)
    rows = every_row(root, pair, sources={"object_discovery": list(models)}, margins={"corloc": 0.9})
    differences = np.array([values[a].astype(float) - values[b] for a, b in alike])
    bootstrap = Bootstrap(12, 400, 0.9, generator(0, "bootstrap", "shapes", 12))
    expected = inference.over_trainings(differences.mean(axis=1), bootstrap.means(differences.T).T, 0.9)
    row = rows[rows["reference_model"].notna()].loc["corloc"]
    assert (row["value"], row["low"], row["high"], row["p"]) == pytest.approx(expected[:4])
    assert (row["trainings"], row["n"]) == (3, 12)
    assert row["p_adjusted"] == row["p"]
    means = rows[rows["reference_model"].isna()].loc["corloc"].set_index("model")
    for model, all_of in (("r4-a", ["r4-a", "r4-b", "r4-c"]), ("r0-a", ["r0-a", "r0-b", "r0-c"])):
        assert means.loc[model, "value"] == pytest.approx(np.mean([values[each].mean() for each in all_of]))
        assert means.loc[model, "trainings"] == 3
    error = (row["high"] - row["value"]) / t.ppf(0.95, expected.freedom)
    small = t.cdf((abs(row["value"]) - 0.9) / error, expected.freedom)
    assert rows.loc["equivalent", "p"] == pytest.approx(small)


# The table.


def table_rows(root):
    for model in MODELS:
        names = ["baseline", *["ttr-4"] * (model == "planted")]
        parts = [
            ("top1", draw(i, 0.5), name, {"feature": feature, "head": head})
            for i, name in enumerate(names)
            for feature in ("cls", "patch_mean")
            for head in ("refitted", "frozen", "knn")
        ]
        keep(root, "classification", model, parts)
    asked = [("planted/ttr-4", "planted/baseline"), ("planted/baseline", "tagged/baseline")]
    damaged = pair_of(*asked[0], before="tagged/baseline")
    rows = every_row(root, damaged, asked[1], margins={"corloc": 0.05, "rmse": 0.08})
    return asked, rows.reset_index()


@pytest.mark.slow
def test_the_table_has_the_headlines_of_every_question_frozen_heads_first(root):
    asked, rows = table_rows(root)
    study = study_of([rows], MODELS, interventions=["ttr-4"], comparisons=asked)
    frame, tex = comparisons(study).frame(), comparisons(study).latex()
    ways = frame[["a", "b", "metric", "feature", "head"]].fillna("").agg("/".join, axis=1).tolist()
    first, second = ("/".join(pair) for pair in asked)
    assert ways == [
        f"{first}/corloc//lost", f"{first}/top1/cls/frozen", f"{first}/top1/cls/refitted", f"{first}/rmse//refitted",
        f"{second}/corloc//lost", f"{second}/top1/cls/refitted", f"{second}/rmse//refitted",
    ]  # fmt: skip
    of = rows.set_index(["model", "intervention", "metric", "head"])
    for line in frame.to_dict("records"):
        row = of.loc[(*line["a"].split("/"), line["metric"], line["head"])]
        row = row if isinstance(row, pd.Series) else row[row["feature"] == "cls"].iloc[0]
        parts = [row["value"], row["p"], row["p_adjusted"]]
        assert [line["difference"], line["difference_p"], line["difference_p_adjusted"]] == parts
    assert "the same" in tex
    assert "CorLoc &" in tex
    assert "frozen" in tex
    assert r"\textbf{Why: planted/baseline $-$ tagged/baseline}" in tex
    assert "no damage shown" in tex or frame["repaired"].notna().any()


@pytest.mark.slow
def test_the_other_table_has_everything(root):
    asked, rows = table_rows(root)
    study = study_of([rows], MODELS, interventions=["ttr-4"], comparisons=asked)
    frame = all_comparisons(study).frame()
    others = rows[~rows["metric"].isin(["equivalent", "repaired_share"])]
    assert len(frame) == len(others)
    assert sorted(frame["difference_p"]) == sorted(others["p"])


def test_a_question_without_an_answer_says_why(root):
    asked = [("planted/cleared", "tagged/baseline")]
    rows = every_row(root, *asked).reset_index()
    study = study_of([rows], MODELS, interventions=["cleared"], comparisons=asked)
    assert "not measured: planted/cleared" in comparisons(study).latex()


def test_a_study_that_compares_nothing_says_so():
    assert "this study compares nothing" in comparisons(study_of([], ["planted"])).latex()
