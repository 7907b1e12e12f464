"""The step on small made-up features, each number against a loop over images, layers and tokens."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from vit_registers import params
from vit_registers.core import table as metrics
from vit_registers.core.files import write_json
from vit_registers.core.stats import Bootstrap
from vit_registers.data import gallery, manifest
from vit_registers.data.images import load_image
from vit_registers.data.manifest import Manifest
from vit_registers.experiments.token_statistics import grid_positions as positions
from vit_registers.experiments.token_statistics import measure as tokens
from vit_registers.extraction import store
from vit_registers.models.layout import TokenLayout
from vit_registers.models.preprocess import Preprocess
from vit_registers.pipeline.configs import TokensStep

M, L, GRID = 7, 3, (2, 3)  # dense images, layers, patches
LIMIT = 12.0
RESIZE, SIZE = 20, 16
CONDITIONS = ["baseline", "append-2", "ttr-4"]
REASON = "no artifacts found: 0.00% of the patches exceed 12"


def layout_of(condition, cls=1, registers=1):
    return TokenLayout(cls, registers, GRID, appended=2 if condition == "append-2" else 0)


def made_up(condition, layout):
    """Norms and attention as a pass would leave them: attention rows sum to one, the flow says NaN where it must."""
    rng = np.random.default_rng(len(condition))
    norms = rng.gamma(2.0, 4.0, size=(M, L, layout.length)).astype(np.float32)
    attention = rng.dirichlet(np.ones(layout.length), size=(M, L, len(layout.specials))).astype(np.float16)
    flow = rng.dirichlet(np.ones(3), size=(M, L, 3)).astype(np.float32)
    for group, there in enumerate((layout.cls, layout.registers + layout.appended)):
        if not there:
            flow[:, :, group], flow[:, :, :, group] = np.nan, np.nan
    return {"norms": norms, "attention": attention, "flow": flow}


def write_features(folder, arrays, layout, dense):
    specs = {name: store.Spec(a.shape[1:], str(a.dtype), "dense", "", "") for name, a in arrays.items()}
    specs["dense_rows"] = store.Spec((), "int64", "dense", "row", "")
    writer = store.Writer(folder, "key", specs, {"dense": M})
    writer.write({**arrays, "dense_rows": dense}, {"dense": np.arange(M)})
    seen = {"size": [SIZE, SIZE], "resize": [RESIZE, RESIZE]}
    writer.finish({"layout": layout.to_json(), "preprocess": seen, "depth": L})


def write_data(folder):
    """Three training images, then seven test images of labels 1 1 0 1 2 0 2; wide ones, so that the crop matters."""
    rng = np.random.default_rng(0)
    (folder / "images").mkdir(parents=True)
    for i in range(3 + M):
        pixels = rng.integers(0, 256, size=(5, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((40, 24), Image.Resampling.BICUBIC).save(folder / "images" / f"{i}.png")
    table = pd.DataFrame(
        {
            "image_id": [f"i{i}" for i in range(3 + M)],
            "path": [f"images/{i}.png" for i in range(3 + M)],
            "split": ["train"] * 3 + ["test"] * M,
            "label": [0, 1, 2, 1, 1, 0, 1, 2, 0, 2],
        }
    )
    classes = ["a", "b", "c"]
    manifest.write(folder, manifest.check(table, classes, folder, "test"), classes, "tiny", ".", "the test", "MIT")


class Made:
    def __init__(self, root, **groups):
        self.root, self.arrays, self.layouts = root, {}, {}
        write_data(root / "data")
        dense = np.arange(3, 3 + M)
        for condition in CONDITIONS:
            folder = store.condition_folder(root / "features", "tiny", "m", condition)
            if condition == "ttr-4":
                store.write_not_applicable(folder, "key", REASON)
                continue
            self.layouts[condition] = layout_of(condition, **groups)
            self.arrays[condition] = made_up(condition, self.layouts[condition])
            write_features(folder, self.arrays[condition], self.layouts[condition], dense)
        write_json(root / "registers.json", {"found": False, "threshold": LIMIT, "reason": REASON})

    def run(self, out="out", images=2, outlier_layer=-1):
        cfg = TokensStep(
            seed=0,
            dataset="tiny",
            model="m",
            conditions=CONDITIONS,
            statistics=params.Statistics(confidence=0.95, resamples=200),
            outlier_layer=outlier_layer,
            gallery=params.Gallery(images=images),
        )
        tokens.run(cfg, self.root / "data", self.root / "features", self.root / "registers.json", self.root / out)
        return self.root / out

    def table(self, out="out", **changes):
        rows = metrics.read(self.run(out, **changes) / "m.csv")
        return rows.set_index(["intervention", "readout", "metric", "layer"]).sort_index()


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return Made(tmp_path_factory.mktemp("tokens"))


@pytest.fixture(scope="module")
def rows(made):
    return made.table()


def parts(layout):
    """Token numbers of each kind, spelt out."""
    patches = range(layout.cls + layout.registers, layout.cls + layout.registers + 6)
    return {
        "cls": range(layout.cls),
        "registers": range(layout.cls, layout.cls + layout.registers),
        "patches": patches,
        "appended": range(patches.stop, patches.stop + layout.appended),
    }


@pytest.mark.parametrize("condition", ["baseline", "append-2"])
@pytest.mark.parametrize("layer", range(L))
def test_norms_are_those_of_a_loop_over_tokens(made, rows, condition, layer):
    norms, at = made.arrays[condition]["norms"], parts(made.layouts[condition])
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
            expected[f"norm_{kind}"] = np.mean([norms[i, layer, t] for i in range(M) for t in at[kind]])
    found = rows.loc[(condition, "norms")].xs(layer, level="layer")
    assert found["value"].to_dict() == pytest.approx(expected, rel=1e-5)
    assert found["n"].tolist() == [M] * len(found)
    for metric in ("norm_max", "artifact_share"):
        assert found.loc[metric, "low"] <= found.loc[metric, "value"] <= found.loc[metric, "high"]
        assert found.loc[metric, "low"] < found.loc[metric, "high"]


@pytest.mark.parametrize("condition", ["baseline", "append-2"])
@pytest.mark.parametrize("layer", range(L))
def test_attention_of_cls_is_that_of_a_loop_over_tokens(made, rows, condition, layer):
    attention, at = made.arrays[condition]["attention"], parts(made.layouts[condition])
    expected = {
        f"cls_to_{kind}": np.mean([sum(float(attention[i, layer, 0, t]) for t in at[kind]) for i in range(M)])
        for kind in at
    }
    norms, places = made.arrays[condition]["norms"], list(at["patches"])
    expected["cls_to_artifacts"] = np.mean(
        [sum(float(attention[i, layer, 0, t]) for t in places if norms[i, L - 1, t] > LIMIT) for i in range(M)]
    )
    assert 0 < expected["cls_to_artifacts"] < expected["cls_to_patches"]
    expected["cls_peak"] = np.mean([max(float(attention[i, layer, 0, t]) for t in at["patches"]) for i in range(M)])
    found = rows.loc[(condition, "attention")].xs(layer, level="layer")
    mine = found[~found.index.str.startswith("flow") & ~found.index.str.endswith("cosine")]
    assert mine["value"].to_dict() == pytest.approx(expected, abs=1e-6)
    assert sum(
        value for name, value in expected.items() if name not in ("cls_peak", "cls_to_artifacts")
    ) == pytest.approx(1.0, abs=2e-3)
    low, value, high = (mine[column].to_numpy(float, na_value=np.nan) for column in ("low", "value", "high"))
    assert ((low <= value + 1e-12) & (value <= high + 1e-12)).all()  # an absent bound is no bound: NaN fails


def cosine(x, y):
    return sum(x * y) / (sum(x * x) ** 0.5 * sum(y * y) ** 0.5)


@pytest.mark.parametrize("registers", [1, 3])
def test_cosines_of_maps_are_those_of_a_loop_over_pairs(tmp_path, registers):
    made = Made(tmp_path, registers=registers)
    rows = made.table()
    for condition, layout in made.layouts.items():
        at = parts(layout)
        maps = made.arrays[condition]["attention"][..., list(at["patches"])].astype(float)
        for layer in range(L):
            pairs = [
                cosine(maps[i, layer, a], maps[i, layer, b])
                for i in range(M)
                for a in at["registers"]
                for b in at["registers"]
                if a != b
            ]
            to_cls = [cosine(maps[i, layer, 0], maps[i, layer, a]) for i in range(M) for a in at["registers"]]
            found = rows.loc[(condition, "attention")].xs(layer, level="layer")
            assert found.loc["cls_register_cosine", "value"] == pytest.approx(np.mean(to_cls), abs=1e-5)
            assert ("register_cosine" in found.index) == (registers > 1)
            if registers > 1:
                row = found.loc["register_cosine"]
                assert row["value"] == pytest.approx(np.mean(pairs), abs=1e-5)
                assert row["low"] < row["value"] < row["high"]


def test_the_focus_is_the_mean_map_of_the_last_block_at_baseline(tmp_path):
    made = Made(tmp_path, registers=3)
    attention = made.arrays["baseline"]["attention"]
    with np.load(made.run() / "m.maps.npz") as maps:
        assert "append-2/focus" not in maps
        focus = maps["baseline/focus"]
    assert focus.shape == (4, *GRID)
    for special in range(4):
        for y in range(2):
            for x in range(3):
                values = [float(attention[i, L - 1, special, 4 + 3 * y + x]) for i in range(M)]
                assert focus[special, y, x] == pytest.approx(np.mean(values), rel=1e-5)


def test_the_winner_of_a_patch_is_the_register_that_attends_most_to_it_at_baseline(tmp_path):
    made = Made(tmp_path, registers=3)
    attention = made.arrays["baseline"]["attention"][:, L - 1].astype(float)
    rows = made.table()
    with np.load(tmp_path / "out/m.maps.npz") as maps:
        assert "append-2/winners" not in maps
        won = maps["baseline/winners"]
    assert won.shape == (2, *GRID)
    for g, i in enumerate((0, 2)):
        for patch in range(6):
            assert won[g, patch // 3, patch % 3] == max(
                range(3), key=lambda r, i=i, p=patch: attention[i, 1 + r, 4 + p]
            )
    counts = [len({max(range(3), key=lambda r: attention[i, 1 + r, 4 + p]) for p in range(6)}) for i in range(M)]
    assert rows.loc[("baseline", "slots", "winning"), "value"].item() == pytest.approx(np.mean(counts))
    measured = rows.loc[("baseline", "slots")].dropna(subset="value")
    assert set(measured.index.get_level_values("metric")) == {"winning"}  # no boxes here
    assert "slots" not in rows.loc["append-2"].index.get_level_values("readout")


@pytest.mark.parametrize("layer", [-1, 0, 1])
def test_maps_by_position_are_those_of_a_loop_over_images_at_the_outlier_layer(made, layer):
    norms = made.arrays["baseline"]["norms"]
    with np.load(made.run(outlier_layer=layer) / "m.maps.npz") as maps:
        assert not [name for name in maps if name.startswith("append-2/") and "position" in name]
        rate, mean = maps["baseline/artifact_rate"], maps["baseline/norm_by_position"]
    assert rate.shape == mean.shape == GRID
    for y in range(GRID[0]):
        for x in range(GRID[1]):
            at = [float(norms[i, layer, 2 + GRID[1] * y + x]) for i in range(M)]
            assert rate[y, x] == pytest.approx(sum(norm > LIMIT for norm in at) / M)
            assert mean[y, x] == pytest.approx(sum(at) / M, rel=1e-6)
    assert rate.min() < rate.max() < 1


@pytest.mark.parametrize("layer", [-1, 0])
def test_rows_by_position_are_those_of_a_loop(made, layer):
    """Two rows of patches are all border; a larger grid is below."""
    rows = made.table(outlier_layer=layer).loc[("baseline", "positions")].reset_index("layer")
    assert set(rows["layer"]) == {layer % L}
    norms = made.arrays["baseline"]["norms"][:, layer, 2:]
    rates = [sum(float(norms[i, p]) > LIMIT for i in range(M)) / M for p in range(6)]
    highest = rows.loc["artifact_rate_max"]
    assert highest["value"] == pytest.approx(max(rates))
    assert highest["note"] == f"row {rates.index(max(rates)) // 3}, column {rates.index(max(rates)) % 3}, both from 0"
    assert highest["low"] < highest["value"] < highest["high"]
    assert rows.loc["border_positions", "value"] == 1.0
    assert rows.loc["artifacts_on_border", "value"] == 1.0


def test_artifacts_on_the_border_are_counted_with_an_interval_over_images():
    rng = np.random.default_rng(3)
    layout = TokenLayout(1, 0, (4, 5))
    norms = rng.gamma(2.0, 4.0, size=(40, layout.length))
    norms[:20] = 1.0  # images without any
    bootstrap = Bootstrap(40, 500, 0.95, np.random.default_rng(0))
    where = ("m", "tiny", "baseline")
    found = {r.metric: r for r in positions.rows(where, norms, LIMIT, layout, 2, bootstrap)}
    inside = [(y, x) for y in (1, 2) for x in (1, 2, 3)]
    places = [(i, y, x) for i in range(40) for y in range(4) for x in range(5) if norms[i, 1 + 5 * y + x] > LIMIT]
    edge = [place for place in places if place[1:] not in inside]
    row = found["artifacts_on_border"]
    assert row.value == pytest.approx(len(edge) / len(places))
    assert row.n == len({i for i, *_ in places}) <= 20
    shares = []
    for counts in bootstrap.counts:
        drawn, at_edge = (sum(counts[i] for i, *_ in of) for of in (places, edge))
        shares.append(at_edge / drawn)
    assert (row.low, row.high) == pytest.approx(tuple(np.quantile(shares, [0.025, 0.975])))
    assert row.low < row.value < row.high
    assert found["border_positions"].value == pytest.approx(14 / 20)
    assert found["border_positions"].n == 20
    assert row.layer == 2


def test_a_model_without_artifacts_says_so_by_position(tmp_path):
    made = Made(tmp_path)
    write_json(tmp_path / "registers.json", {"found": False, "threshold": 1e6, "reason": REASON})
    rows = made.table().loc[("baseline", "positions")].droplevel("layer")
    assert rows.loc["border_positions", "value"] == 1.0
    for metric in ("artifact_rate_max", "artifacts_on_border"):
        assert np.isnan(rows["value"].astype(float)[metric])
        assert rows.loc[metric, "note"] == "no patch exceeds the threshold"
    with np.load(made.root / "out" / "m.maps.npz") as maps:
        assert not maps["baseline/artifact_rate"].any()


def test_the_nine_numbers_of_the_flow_are_means_over_images(made, rows):
    flow = made.arrays["baseline"]["flow"]
    for layer in range(L):
        for i, a in enumerate(("cls", "registers", "patches")):
            for j, b in enumerate(("cls", "registers", "patches")):
                expected = np.mean([float(flow[image, layer, i, j]) for image in range(M)])
                value = rows.loc[("baseline", "attention", f"flow_{a}_to_{b}", layer), "value"]
                assert value == pytest.approx(expected, rel=1e-5)


def test_a_condition_that_does_not_apply_says_why_once_for_each_readout(rows):
    absent = rows.loc["ttr-4"]
    assert absent.index.get_level_values("readout").tolist() == ["attention", "norms"]
    assert absent["value"].isna().all()
    assert absent["note"].tolist() == [REASON, REASON]
    others = rows.drop(index="ttr-4")
    assert others[others["value"].isna()].index.tolist() == [("baseline", "slots", "object_area", pd.NA)]
    absent = others[others["value"].isna()]
    assert absent["note"].tolist() == ["the data set has no boxes"]


def test_a_model_without_cls_and_registers_has_no_rows_about_them(tmp_path):
    rows = Made(tmp_path, cls=0, registers=0).table()
    baseline = set(rows.loc["baseline"].drop(index="positions").index.get_level_values("metric"))
    assert baseline == {"norm_median", "norm_p99", "norm_max", "artifact_share", "flow_patches_to_patches"}
    appended = set(rows.loc["append-2"].index.get_level_values("metric")) - baseline
    flows = {"flow_registers_to_registers", "flow_registers_to_patches", "flow_patches_to_registers"}
    assert appended == {"norm_appended", *flows}


@pytest.mark.parametrize("quantity", ["norm", "attention"])
def test_the_histogram_counts_every_token_of_the_last_block_once(made, quantity):
    table = pd.read_parquet(made.run() / "m.histogram.parquet").query("quantity == @quantity")
    assert set(table["intervention"]) == {"baseline", "append-2"}
    for condition, layout in made.layouts.items():
        found = made.arrays[condition]
        values_of = found["norms"][:, -1] if quantity == "norm" else found["attention"][:, -1, 0].astype(np.float32)
        for kind, at in parts(layout).items():
            mine = table[(table["intervention"] == condition) & (table["token"] == kind)]
            if kind == "cls":
                assert mine.empty
                continue
            values = [float(values_of[i, t]) for i in range(M) for t in at]
            assert mine["count"].sum() == len(values)
            for left, right, count in mine[["bin_left", "bin_right", "count"]].itertuples(index=False):
                assert sum(left <= value < right for value in values) == count > 0


def test_zeroed_and_huge_tokens_are_in_the_outermost_bins(tmp_path):
    made = Made(tmp_path)
    arrays = made.arrays["baseline"]
    arrays["norms"][:, -1, 1] = 0.0  # the register, under a Zero intervention
    arrays["norms"][0, -1, 2] = 1e7
    folder = store.condition_folder(tmp_path / "features", "tiny", "m", "baseline")
    write_features(folder, arrays, made.layouts["baseline"], np.arange(3, 3 + M))
    table = pd.read_parquet(made.run() / "m.histogram.parquet").query(
        "intervention == 'baseline' and quantity == 'norm'"
    )
    registers, patches = (table[table["token"] == kind].sort_values("bin_left") for kind in ("registers", "patches"))
    assert registers[["bin_left", "count"]].to_numpy().tolist() == [[pytest.approx(0.1), M]]
    assert patches["count"].sum() == 6 * M
    assert patches["bin_right"].iloc[-1] == pytest.approx(1e5)


def test_maps_stand_where_the_patches_stand(made):
    with np.load(made.run() / "m.maps.npz") as maps:
        # The first image of each class in the order of the split: i3 of b, i5 of a (i7 of c would be the third).
        assert maps["image_id"].tolist() == ["i3", "i5"]
        chosen = [0, 2]
        for condition, layout in made.layouts.items():
            arrays, at = made.arrays[condition], parts(layout)
            assert (condition == "append-2") == (f"{condition}/appended" in maps)
            specials = [*at["cls"], *at["registers"], *at["appended"]]
            for g, i in enumerate(chosen):
                for y in range(2):
                    for x in range(3):
                        token = at["patches"][3 * y + x]
                        assert maps[f"{condition}/norms"][g, y, x] == arrays["norms"][i, -1, token]
                        for kind in ("cls", "registers", "appended"):
                            for r, special in enumerate(at[kind]):
                                row = arrays["attention"][i, :, specials.index(special), token]
                                found = maps[f"{condition}/{kind}"][g]
                                found = found[:, y, x] if kind == "cls" else found[:, r, y, x]
                                np.testing.assert_array_equal(found, row)


def test_pictures_show_what_the_model_saw(made):
    """Shorter side to ``resize``, then the centre: maps over a picture of anything else would stand beside it."""
    data = Manifest.load(made.root / "data")
    seen = Preprocess.square(SIZE, RESIZE, "bicubic", (0.5,) * 3, (0.5,) * 3)
    with np.load(made.run() / "m.maps.npz") as maps:
        assert maps["images"].shape == (2, SIZE, SIZE, 3)
        for picture, row in zip(maps["images"], (3, 5), strict=True):
            expected = seen.pixels(load_image(data.file(row))).permute(1, 2, 0).numpy()
            np.testing.assert_array_equal(picture, expected)


def test_the_gallery_has_at_most_one_image_of_a_class(made):
    data = Manifest.load(made.root / "data")
    dense = np.arange(3, 3 + M)
    assert gallery.choose(data, dense, 99).tolist() == [0, 2, 4]
    assert gallery.choose(data, dense, 1).tolist() == [0]


def test_the_same_params_write_the_same_bytes(made):
    first, second = made.run("first"), made.run("second")
    names = sorted(path.name for path in first.iterdir())
    assert names == ["m.csv", "m.histogram.parquet", "m.maps.npz"]
    for name in names:
        assert (first / name).read_bytes() == (second / name).read_bytes(), name
