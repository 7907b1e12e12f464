import itertools

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest

from vit_registers import params
from vit_registers.core import table as metrics
from vit_registers.core.errors import InputError
from vit_registers.core.seeds import generator
from vit_registers.core.stats import Bootstrap
from vit_registers.experiments.comparisons import measure as compare
from vit_registers.pipeline.configs import CompareStep

IDS = np.array([f"i{i:02d}" for i in range(12)])
SEEDS = [0, 1, 2]
ERRORS = {model: np.random.default_rng(i).random(12) for i, model in enumerate(("planted", "tagged"))}


def values(condition, readout, metric, hits, seed=None, ids=IDS):
    table = pd.DataFrame({"image_id": ids, "intervention": condition, "readout": readout, "metric": metric})
    return table.assign(seed=pd.array([seed] * len(ids), dtype="Int64"), value=np.asarray(hits, dtype=float))


def draw(seed, share, size=12):
    return np.random.default_rng(seed).random(size) < share


@pytest.fixture
def hits():
    """model/condition -> LOST hits (12,) and probe hits (3 seeds, 12)."""
    sides = {"planted/baseline": 0.3, "planted/ttr-4": 0.8, "tagged/baseline": 0.8}
    return {
        side: (draw(i, share), np.stack([draw(10 * i + s, share) for s in SEEDS]))
        for i, (side, share) in enumerate(sides.items())
    }


@pytest.fixture
def readouts(tmp_path, hits):
    rng = np.random.default_rng(0)
    for model in ("planted", "tagged"):
        mine = {side.split("/")[1]: hit for side, hit in hits.items() if side.startswith(model)}
        tables = {
            "lost": [values(name, "lost", "corloc", lost) for name, (lost, _) in mine.items()],
            "probe": [
                values(name, "probe[cls]", "top1", linear[s], s) for name, (_, linear) in mine.items() for s in SEEDS
            ],
        }
        tables["dense"] = [values(name, "dense[kept]", "squared_error", ERRORS[model]) for name in mine]
        for readout, parts in tables.items():
            path = tmp_path / readout / "shapes" / f"{model}.images.parquet"
            path.parent.mkdir(parents=True, exist_ok=True)
            table = pd.concat(parts).iloc[rng.permutation(len(parts) * 12)]  # the order of rows must not matter
            table.to_parquet(path, index=False)
    return tmp_path


def run(readouts, *pairs, resamples=400, out="out.csv", with_text=()):
    comparisons = [params.Comparison(question="?", a=a, b=b) for a, b in pairs]
    statistics = params.Statistics(confidence=0.9, resamples=resamples)
    cfg = CompareStep(
        seed=0, dataset="shapes", with_text=list(with_text), comparisons=comparisons, statistics=statistics
    )
    compare.run(cfg, readouts, readouts / out)
    return metrics.read(readouts / out).set_index(["readout", "metric"])


def test_one_outcome_per_image_is_compared_by_exact_mcnemar(readouts, hits):
    row = run(readouts, ("planted/baseline", "tagged/baseline")).loc["lost", "corloc_difference"]
    a, b = hits["planted/baseline"][0], hits["tagged/baseline"][0]
    assert (row["model"], row["intervention"], row["reference"]) == ("planted", "baseline", "tagged/baseline")
    assert row["value"] == pytest.approx(a.mean() - b.mean())
    assert row["p"] == pytest.approx(binomtest(int((a & ~b).sum()), int((a ^ b).sum())).pvalue)
    assert row["p"] < 1
    assert row["n"] == 12
    assert row["note"] == "exact McNemar"


def test_outcomes_averaged_over_seeds_are_compared_by_sign_flips(readouts, hits):
    row = run(readouts, ("planted/baseline", "planted/ttr-4"), resamples=20000).loc["probe[cls]", "top1_difference"]
    difference = hits["planted/baseline"][1].mean(axis=0) - hits["planted/ttr-4"][1].mean(axis=0)
    every = [abs(np.dot(signs, difference)) for signs in itertools.product([-1, 1], repeat=12)]
    exact = np.mean([total >= abs(difference.sum()) - 1e-9 for total in every])
    assert row["value"] == pytest.approx(difference.mean())
    assert row["p"] == pytest.approx(exact, abs=0.01)
    assert row["note"] == "sign flips of the mean over seeds"


def test_one_number_per_image_is_compared_by_sign_flips_in_its_own_unit(readouts):
    row = run(readouts, ("planted/baseline", "tagged/baseline"), resamples=20000)
    row = row.loc["dense[kept]", "squared_error_difference"]
    difference = ERRORS["planted"] - ERRORS["tagged"]
    every = [abs(np.dot(signs, difference)) for signs in itertools.product([-1, 1], repeat=12)]
    assert row["value"] == pytest.approx(difference.mean())
    assert row["p"] == pytest.approx(np.mean([total >= abs(difference.sum()) - 1e-9 for total in every]), abs=0.01)
    assert (row["note"], row["unit"]) == ("sign flips", "squared depth")


def test_models_with_a_text_tower_are_compared_by_what_it_says(readouts):
    for i, model in enumerate(("planted", "tagged")):
        path = readouts / "probe" / "shapes" / f"{model}.zero_shot.images.parquet"
        values("baseline", "zero_shot", "top1", draw(40 + i, 0.5)).to_parquet(path, index=False)
    pair = ("planted/baseline", "tagged/baseline")
    assert "zero_shot" not in run(readouts, pair).index.get_level_values("readout")
    row = run(readouts, pair, with_text=("planted", "tagged")).loc["zero_shot", "top1_difference"]
    assert row["value"] == pytest.approx(draw(40, 0.5).mean() - draw(41, 0.5).mean())
    assert row["note"] == "exact McNemar"


def test_the_interval_is_that_of_paired_differences(readouts, hits):
    row = run(readouts, ("planted/baseline", "planted/ttr-4")).loc["lost", "corloc_difference"]
    difference = hits["planted/baseline"][0].astype(float) - hits["planted/ttr-4"][0]
    bootstrap = Bootstrap(12, 400, 0.9, generator(0, "bootstrap", "shapes", 12))
    assert (row["low"], row["high"]) == pytest.approx(bootstrap.interval(difference))
    assert row["low"] < row["value"] < row["high"]


def test_sides_swapped_change_the_sign_and_not_p(readouts):
    there = run(readouts, ("planted/baseline", "tagged/baseline")).loc["lost", "corloc_difference"]
    back = run(readouts, ("tagged/baseline", "planted/baseline")).loc["lost", "corloc_difference"]
    assert there["value"] == -back["value"]
    assert there["p"] == pytest.approx(back["p"])


def test_a_condition_compared_with_itself_does_not_differ(readouts):
    rows = run(readouts, ("planted/ttr-4", "planted/ttr-4"))
    assert rows["value"].tolist() == [0.0, 0.0, 0.0]
    assert rows["p"].tolist() == [1.0, 1.0, 1.0]


def test_every_question_and_readout_has_its_row(readouts):
    rows = run(readouts, ("planted/baseline", "tagged/baseline"), ("planted/ttr-4", "tagged/baseline"))
    assert sorted(zip(rows["intervention"], rows.index.get_level_values("readout"), strict=True)) == [
        ("baseline", "dense[kept]"),
        ("baseline", "lost"),
        ("baseline", "probe[cls]"),
        ("ttr-4", "dense[kept]"),
        ("ttr-4", "lost"),
        ("ttr-4", "probe[cls]"),
    ]


def test_what_was_not_measured_is_named(readouts):
    rows = run(readouts, ("planted/cleared", "tagged/baseline"))
    assert rows["value"].isna().all()
    assert rows["note"].tolist() == ["not measured: planted/cleared"]
    assert rows["reference"].tolist() == ["tagged/baseline"]


def test_no_comparisons_make_an_empty_table(readouts):
    assert run(readouts).empty


def test_different_images_are_refused(readouts):
    path = readouts / "lost/shapes/tagged.images.parquet"
    table = pd.read_parquet(path)
    table.loc[table["image_id"] == "i03", "image_id"] = "other"
    table.to_parquet(path, index=False)
    with pytest.raises(InputError, match="planted/baseline and tagged/baseline: lost was measured on different images"):
        run(readouts, ("planted/baseline", "tagged/baseline"))
    assert not (readouts / "out.csv").exists()


def test_readouts_that_were_not_run_are_named(readouts):
    (readouts / "lost/shapes/tagged.images.parquet").unlink()
    with pytest.raises(InputError, match=r"lost/shapes/tagged\.images\.parquet: no such file; run the readouts"):
        run(readouts, ("planted/baseline", "tagged/baseline"))


def test_same_params_same_bytes(readouts):
    for name in ("a.csv", "b.csv"):
        run(readouts, ("planted/baseline", "planted/ttr-4"), out=name)
    assert (readouts / "a.csv").read_bytes() == (readouts / "b.csv").read_bytes()
