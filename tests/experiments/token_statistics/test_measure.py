"""The measure on small made-up features, each number against a loop over images, layers and tokens."""

import numpy as np
import pandas as pd
import pytest

from helpers.tokens import DENSE, GRID, LIMIT, REASON, RESIZE, SIZE, L, M, one_model, parts
from vit_registers.data import gallery
from vit_registers.data.images import load_image
from vit_registers.data.manifest import Manifest
from vit_registers.models.preprocess import Preprocess
from vit_registers.params.statistics import Gallery
from vit_registers.views.study import select


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return one_model(tmp_path_factory.mktemp("tokens"))


@pytest.fixture(scope="module")
def job(made):
    return made.run()


@pytest.fixture(scope="module")
def rows(job):
    return job.rows.frame()


def named(rows):
    """Rows by what was measured: metric, with group and target where it has them."""
    return {" ".join(row[["metric", "group", "target"]].dropna()): row for _, row in rows.iterrows()}


def values(rows):
    return {name: row["value"] for name, row in named(rows).items()}


@pytest.mark.parametrize("condition", ["baseline", "append-2"])
@pytest.mark.parametrize("layer", range(L))
def test_norms_are_those_of_a_loop_over_tokens(made, rows, condition, layer):
    norms, at = made.arrays["m", condition]["norms"], parts(made.layouts["m", condition])
    pooled = sorted(float(norms[i, layer, t]) for i in range(M) for t in at["patches"])
    largest = [max(float(norms[i, layer, t]) for t in at["patches"]) for i in range(M)]
    expected = {
        "norm_median": (pooled[20] + pooled[21]) / 2,
        "norm_p99": pooled[40] + 0.59 * (pooled[41] - pooled[40]),  # position .99 x 41 of 42 patches
        "norm_max": sum(largest) / M,
        "artifact_share": sum(norm > LIMIT for norm in pooled) / len(pooled),
    }
    for kind in ("cls", "registers", "appended"):
        if len(at[kind]):
            expected[f"norm_mean {kind}"] = np.mean([norms[i, layer, t] for i in range(M) for t in at[kind]])
    names = ["norm_median", "norm_p99", "norm_max", "norm_mean", "artifact_share"]
    found = select(rows[rows["metric"].isin(names)], intervention=condition, layer=layer)
    assert values(found) == pytest.approx(expected, rel=1e-5)
    assert set(found["n"]) == {M}
    for metric in ("norm_max", "artifact_share"):
        row = named(found)[metric]
        assert row["low"] < row["high"]
        assert row["low"] <= row["value"] <= row["high"]


@pytest.mark.parametrize("condition", ["baseline", "append-2"])
@pytest.mark.parametrize("layer", range(L))
def test_attention_of_cls_is_that_of_a_loop_over_tokens(made, rows, condition, layer):
    attention, at = made.arrays["m", condition]["attention"], parts(made.layouts["m", condition])
    expected = {
        f"attention cls {kind}": np.mean([sum(float(attention[i, layer, 0, t]) for t in at[kind]) for i in range(M)])
        for kind in at
    }
    assert sum(expected.values()) == pytest.approx(1.0, abs=2e-3)
    # Where the model as it is has them: patches start at the third token of both conditions.
    norms, places = made.arrays["m", "baseline"]["norms"], list(at["patches"])
    on_artifacts = np.mean(
        [sum(float(attention[i, layer, 0, t]) for t in places if norms[i, L - 1, t] > LIMIT) for i in range(M)]
    )
    assert 0 < on_artifacts < expected["attention cls patches"]
    expected["attention cls artifacts"] = on_artifacts
    expected["cls_attention_peak"] = np.mean(
        [max(float(attention[i, layer, 0, t]) for t in at["patches"]) for i in range(M)]
    )
    found = rows[rows["metric"].isin(["attention", "cls_attention_peak"])]
    found = select(found, intervention=condition, layer=layer)
    assert values(found) == pytest.approx(expected, abs=1e-6)
    low, value, high = (found[column].to_numpy(float, na_value=np.nan) for column in ("low", "value", "high"))
    assert ((low <= value + 1e-12) & (value <= high + 1e-12)).all()  # an absent bound is no bound: NaN fails


@pytest.mark.parametrize("condition", ["baseline", "append-2"])
def test_the_uniform_share_is_that_of_the_tokens_counted_one_by_one(made, rows, condition):
    at, norms = parts(made.layouts["m", condition]), made.arrays["m", "baseline"]["norms"]
    tokens = sum(len(of_kind) for of_kind in at.values())
    expected = {f"attention_uniform cls {kind}": len(at[kind]) / tokens for kind in at if len(at[kind])}
    over = sum(norms[i, L - 1, t] > LIMIT for i in range(M) for t in at["patches"])
    expected["attention_uniform cls artifacts"] = over / M / tokens
    found = select(rows, metric="attention_uniform", intervention=condition)
    assert values(found) == pytest.approx(expected)
    assert found["layer"].isna().all()


def test_a_cls_that_attends_to_all_alike_gives_the_uniform_share(tmp_path):
    made = one_model(tmp_path)
    arrays = made.arrays["m", "append-2"]
    arrays["attention"] = np.full_like(arrays["attention"], 1 / made.layouts["m", "append-2"].length)
    made.write("m", "append-2", arrays)
    rows = select(made.run().rows.frame(), intervention="append-2")
    given = select(rows, metric="attention", layer=L - 1).set_index("target")["value"]
    uniform = select(rows, metric="attention_uniform").set_index("target")["value"]
    assert set(given.index) == set(uniform.index) == {"cls", "registers", "appended", "patches", "artifacts"}
    for target, share in uniform.items():
        assert given[target] == pytest.approx(share, rel=1e-3), target


def test_attention_in_the_reference_is_that_to_the_same_patches(tmp_path):
    made = one_model(tmp_path, registers=0)
    made.add("clean", "baseline", made.layouts["m", "baseline"])
    rows = made.run(reference="clean").rows.frame()
    norms, attention = made.arrays["m", "baseline"]["norms"], made.arrays["clean", "baseline"]["attention"]
    found = select(rows, metric="attention_in_reference")
    assert set(found["intervention"]) == {"baseline"}
    for layer in range(L):
        given = [
            sum(float(attention[i, layer, 0, t]) for t in range(1, 7) if norms[i, L - 1, t] > LIMIT) for i in range(M)
        ]
        assert select(found, layer=layer)["value"].item() == pytest.approx(np.mean(given), abs=1e-6)
    assert "attention_in_reference" not in set(made.run().rows.frame()["metric"])


def cosine(x, y):
    return sum(x * y) / (sum(x * x) ** 0.5 * sum(y * y) ** 0.5)


@pytest.mark.parametrize("registers", [1, 3])
def test_cosines_of_maps_are_those_of_a_loop_over_pairs(tmp_path, registers):
    made = one_model(tmp_path, registers=registers)
    rows = made.run().rows.frame()
    for (model, condition), layout in made.layouts.items():
        at = parts(layout)
        maps = made.arrays[model, condition]["attention"][..., list(at["patches"])].astype(float)
        for layer in range(L):
            pairs = [
                cosine(maps[i, layer, a], maps[i, layer, b])
                for i in range(M)
                for a in at["registers"]
                for b in at["registers"]
                if a != b
            ]
            to_cls = [cosine(maps[i, layer, 0], maps[i, layer, a]) for i in range(M) for a in at["registers"]]
            found = named(select(rows, intervention=condition, layer=layer))
            assert found["cls_register_cosine"]["value"] == pytest.approx(np.mean(to_cls), abs=1e-5)
            assert ("register_cosine" in found) == (registers > 1)
            if registers > 1:
                row = found["register_cosine"]
                assert row["value"] == pytest.approx(np.mean(pairs), abs=1e-5)
                assert row["low"] < row["value"] < row["high"]


def test_the_focus_is_the_mean_map_of_the_last_block_at_baseline(tmp_path):
    made = one_model(tmp_path, registers=3)
    attention = made.arrays["m", "baseline"]["attention"]
    arrays = made.run().arrays
    assert "append-2/focus" not in arrays
    focus = arrays["baseline/focus"]
    assert focus.shape == (4, *GRID)
    for special in range(4):
        for y in range(2):
            for x in range(3):
                seen = [float(attention[i, L - 1, special, 4 + 3 * y + x]) for i in range(M)]
                assert focus[special, y, x] == pytest.approx(np.mean(seen), rel=1e-5)


def test_the_winner_of_a_patch_is_the_register_that_attends_most_to_it_at_baseline(tmp_path):
    made = one_model(tmp_path, registers=3)
    attention = made.arrays["m", "baseline"]["attention"][:, L - 1].astype(float)
    job = made.run()
    rows = job.rows.frame()
    assert "append-2/winners" not in job.arrays
    won = job.arrays["baseline/winners"]
    assert won.shape == (2, *GRID)
    for g, i in enumerate((0, 2)):
        for patch in range(6):
            assert won[g, patch // 3, patch % 3] == max(
                range(3), key=lambda r, i=i, p=patch: attention[i, 1 + r, 4 + p]
            )
    counts = [len({max(range(3), key=lambda r: attention[i, 1 + r, 4 + p]) for p in range(6)}) for i in range(M)]
    winning = select(rows, metric="winning_registers")
    assert winning["value"].tolist() == [pytest.approx(np.mean(counts))]
    assert winning["intervention"].tolist() == ["baseline"]
    about_objects = rows[rows["metric"].str.startswith("object")]
    assert about_objects[["metric", "note"]].to_numpy().tolist() == [["object_area", "the data set has no boxes"]]


@pytest.mark.parametrize("layer", [-1, 0, 1])
def test_maps_by_position_are_those_of_a_loop_over_images_at_the_outlier_layer(made, layer):
    norms = made.arrays["m", "baseline"]["norms"]
    arrays = made.run(outlier_layer=layer).arrays
    assert not [name for name in arrays if name.startswith("append-2/") and "position" in name]
    rate, mean = arrays["baseline/artifact_rate"], arrays["baseline/norm_by_position"]
    assert rate.shape == mean.shape == GRID
    for y in range(GRID[0]):
        for x in range(GRID[1]):
            at = [float(norms[i, layer, 2 + GRID[1] * y + x]) for i in range(M)]
            assert rate[y, x] == pytest.approx(sum(norm > LIMIT for norm in at) / M)
            assert mean[y, x] == pytest.approx(sum(at) / M, rel=1e-6)
    assert rate.min() < rate.max() < 1


@pytest.mark.parametrize("layer", [-1, 0])
def test_rows_by_position_are_those_of_a_loop(made, layer):
    """Two rows of patches are all border; a larger grid is in test_grid_positions."""
    found = named(made.run(outlier_layer=layer).rows.frame())
    assert {found[name]["layer"] for name in ("artifact_rate_max", "border_positions", "artifacts_on_border")} == {
        layer % L
    }
    norms = made.arrays["m", "baseline"]["norms"][:, layer, 2:]
    rates = [sum(float(norms[i, p]) > LIMIT for i in range(M)) / M for p in range(6)]
    highest = found["artifact_rate_max"]
    assert highest["value"] == pytest.approx(max(rates))
    place = rates.index(max(rates))
    assert (highest["grid_row"], highest["grid_column"]) == (place // 3, place % 3)
    assert highest["low"] < highest["value"] < highest["high"]
    assert found["border_positions"]["value"] == 1.0
    assert found["artifacts_on_border"]["value"] == 1.0


def test_a_model_without_artifacts_says_so_by_position(tmp_path):
    made = one_model(tmp_path)
    arrays = made.arrays["m", "baseline"]
    arrays["norms"] = np.minimum(arrays["norms"], np.float32(LIMIT))
    made.write("m", "baseline", arrays)
    job = made.run()
    found = named(job.rows.frame())
    assert found["border_positions"]["value"] == 1.0
    for metric in ("artifact_rate_max", "artifacts_on_border"):
        assert pd.isna(found[metric]["value"])
        assert found[metric]["note"] == "no patch exceeds the threshold"
    assert not job.arrays["baseline/artifact_rate"].any()


def test_attention_by_group_is_the_mean_over_images(made, rows):
    flow = made.arrays["m", "baseline"]["flow"]
    for layer in range(L):
        found = values(select(rows, metric="attention_by_group", intervention="baseline", layer=layer))
        assert len(found) == 9
        for i, a in enumerate(("cls", "registers", "patches")):
            for j, b in enumerate(("cls", "registers", "patches")):
                expected = np.mean([float(flow[image, layer, i, j]) for image in range(M)])
                assert found[f"attention_by_group {a} {b}"] == pytest.approx(expected, rel=1e-5)


def test_a_condition_that_does_not_apply_says_why(rows):
    absent = select(rows, intervention="ttr-4")
    assert absent["metric"].tolist() == ["attention", "norm_median"]
    assert absent["value"].isna().all()
    assert absent["note"].tolist() == [REASON, REASON]
    others = rows[(rows["intervention"] != "ttr-4") & rows["value"].isna()]
    assert others[["intervention", "metric", "note"]].to_numpy().tolist() == [
        ["baseline", "object_area", "the data set has no boxes"]
    ]


def test_a_model_without_cls_and_registers_has_no_rows_about_them(tmp_path):
    rows = one_model(tmp_path, cls=0, registers=0).run().rows.frame()
    baseline = set(named(select(rows, intervention="baseline")))
    positions = {"artifact_rate_max", "artifacts_on_border", "border_positions"}
    shared = {"norm_median", "norm_p99", "norm_max", "artifact_share", "attention_by_group patches patches"}
    severe = {"norm_peak", "norm_ratio_peak", "token_norm_median patches"}
    assert baseline == shared | positions | severe
    appended = set(named(select(rows, intervention="append-2"))) - baseline
    pairs = ("registers registers", "registers patches", "patches registers")
    norms = {"norm_mean appended", "norm_reduction", "token_norm_median appended"}
    assert appended == norms | {f"attention_by_group {pair}" for pair in pairs}


@pytest.mark.parametrize(("quantity", "layer"), [("norm", -1), ("norm", 1), ("attention", 1)])
def test_the_histogram_counts_every_token_once(made, quantity, layer):
    """Norms where detection looks, attention at the last block wherever that is."""
    job = made.run(outlier_layer=layer)
    edges = job.arrays[f"edges_{quantity}"]
    assert "ttr-4" not in {name.split("/")[0] for name in job.arrays}
    for (_, condition), layout in made.layouts.items():
        found = made.arrays["m", condition]
        attention = found["attention"][:, -1, 0].astype(np.float32)
        of_tokens = found["norms"][:, layer] if quantity == "norm" else attention
        for kind, at in parts(layout).items():
            counts = job.arrays.get(f"{condition}/histogram/{quantity}/{kind}")
            if kind == "cls" or not at:
                assert counts is None
                continue
            single = [float(of_tokens[i, t]) for i in range(M) for t in at]
            assert counts.sum() == len(single)
            for left, right, count in zip(edges[:-1], edges[1:], counts, strict=True):
                assert sum(left <= value < right for value in single) == count


def test_zeroed_and_huge_tokens_are_in_the_outermost_bins(tmp_path):
    made = one_model(tmp_path)
    arrays = made.arrays["m", "baseline"]
    arrays["norms"][:, -1, 1] = 0.0  # the register, zeroed
    arrays["norms"][0, -1, 2] = 1e7
    made.write("m", "baseline", arrays)
    found = made.run().arrays
    registers, patches = (found[f"baseline/histogram/norm/{kind}"] for kind in ("registers", "patches"))
    assert (registers[0], registers.sum()) == (M, M)
    assert patches.sum() == 6 * M
    assert patches[-1] == 1
    assert found["edges_norm"][[0, -1]].tolist() == pytest.approx([0.1, 1e5])


def test_maps_stand_where_the_patches_stand(made, job):
    maps = job.arrays
    # The first image of each class in the order of the split: i3 of b, i5 of a (i7 of c would be the third).
    assert maps["image_id"].tolist() == ["i3", "i5"]
    chosen = [0, 2]
    for (_, condition), layout in made.layouts.items():
        arrays, at = made.arrays["m", condition], parts(layout)
        assert (condition == "append-2") == (f"{condition}/appended" in maps)
        specials = [*at["cls"], *at["registers"], *at["appended"]]
        for g, i in enumerate(chosen):
            for y in range(2):
                for x in range(3):
                    token = at["patches"][3 * y + x]
                    np.testing.assert_array_equal(maps[f"{condition}/norms"][g, :, y, x], arrays["norms"][i, :, token])
                    for kind in ("cls", "registers", "appended"):
                        for r, special in enumerate(at[kind]):
                            row = arrays["attention"][i, :, specials.index(special), token]
                            found = maps[f"{condition}/{kind}"][g]
                            found = found[:, y, x] if kind == "cls" else found[:, r, y, x]
                            np.testing.assert_array_equal(found, row)


def test_pictures_show_what_the_model_saw(made, job):
    """Shorter side to ``resize``, then the centre: maps over a picture of anything else would stand beside it."""
    data = Manifest.load(made.root / "data")
    seen = Preprocess.square(SIZE, RESIZE, "bicubic", (0.5,) * 3, (0.5,) * 3)
    assert job.arrays["images"].shape == (2, SIZE, SIZE, 3)
    for picture, row in zip(job.arrays["images"], (3, 5), strict=True):
        expected = seen.pixels(load_image(data.file(row))).permute(1, 2, 0).numpy()
        np.testing.assert_array_equal(picture, expected)


def test_the_gallery_has_the_first_candidates_of_each_class(made):
    data = Manifest.load(made.root / "data")
    labels = data.table["label"].to_numpy()[DENSE]
    assert gallery.choose(data, DENSE, Gallery(images=99, candidates=1)).tolist() == [0, 2, 4]
    assert gallery.choose(data, DENSE, Gallery(images=1, candidates=1)).tolist() == [0]
    two = gallery.choose(data, DENSE, Gallery(images=2, candidates=2))
    by_hand = [i for label in dict.fromkeys(labels) for i in [i for i, own in enumerate(labels) if own == label][:2]]
    assert two.tolist() == [i for i in by_hand if labels[i] in list(dict.fromkeys(labels))[:2]]
    norms = np.ones((len(two), 3, 8))
    norms[1, 1, :2] = 3.5
    norms[1, 2, 0] = 9.0
    kept = gallery.kept(data, DENSE, two, norms, Gallery(images=2, candidates=2))
    assert kept["groups"].tolist() == labels[two].tolist()
    assert kept["outliers"].tolist() == [0, 2] + [0] * (len(two) - 2)  # at the block with most
    assert not gallery.kept(data, DENSE, two, None, Gallery(images=2, candidates=2))["outliers"].any()


def test_the_same_params_write_the_same_bytes(made):
    written = []
    for _ in range(2):
        job = made.run()
        job.write(images=False, arrays=True)
        written.append({path.name: path.read_bytes() for path in job.out.iterdir()})
    assert sorted(written[0]) == ["arrays.npz", "rows.csv"]
    assert written[0] == written[1]
