"""What single tokens know, on made tokens of which it is known what they hold."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from helpers.studies import ROOT
from vit_registers.core.errors import InputError
from vit_registers.core.files import write_json
from vit_registers.core.numerics.patches import patchify
from vit_registers.core.table import Rows
from vit_registers.data import manifest
from vit_registers.experiments.job import Job
from vit_registers.experiments.single_tokens import measure, neighbours
from vit_registers.experiments.single_tokens.params import Config, SingleTokens
from vit_registers.extraction import store
from vit_registers.models.layout import TokenLayout
from vit_registers.models.preprocess import Preprocess, load_pixels
from vit_registers.params.reading import overlay, parse, read_yaml
from vit_registers.params.statistics import Statistics
from vit_registers.pipeline import experiment

GRID, SIDE, IMAGES, CLASSES = (3, 4), 2, 160, 4  # IMAGES of each split
PATCHES, WIDTH = GRID[0] * GRID[1], 12 + 12 + CLASSES
SETTINGS = {
    "images": IMAGES, "high_percentile": 90.0, "seeds": [0, 5], "hidden": 32, "lr": 0.01, "weight_decay": 0.01,
    "epochs": 12, "batch_size": 32,
}  # fmt: skip


CONFIG = Config(
    seed=0, dataset="tiny", model="m", reference="clean", settings=SingleTokens(**SETTINGS),
    statistics=Statistics(confidence=0.9, resamples=400),
)  # fmt: skip
PIXELS = ("reconstruction_linear", "reconstruction_linear_l2", "reconstruction_linear_r2")
BY_MLP = ("reconstruction_mlp", "reconstruction_mlp_l2", "reconstruction_mlp_r2")
POSITION = ("position_top1", "position_l1", "position_l2")
TEST, TRAIN = np.arange(IMAGES), np.arange(IMAGES, 2 * IMAGES)


def cosines_of(outlier):
    """Cosines of each patch with the one below and with the one to its right, NaN where there is none."""
    noise = np.random.default_rng(9).uniform(-0.1, 0.1, size=(len(outlier), 2, PATCHES))
    cosines = (np.where(outlier, 0.8, 0.3)[:, None] + noise).astype(np.float32)
    on_grid = cosines.reshape(-1, 2, *GRID)
    on_grid[:, 0, -1] = on_grid[:, 1, :, -1] = np.nan
    return cosines


def with_neighbours(cosines, image, patch):
    """Cosines of a patch with its two to four neighbours, one by one."""
    y, x = divmod(patch, GRID[1])
    found = []
    for (row, column), side, at in (
        ((y - 1, x), 0, patch - GRID[1]),
        ((y + 1, x), 0, patch),
        ((y, x - 1), 1, patch - 1),
        ((y, x + 1), 1, patch),
    ):
        if 0 <= row < GRID[0] and 0 <= column < GRID[1]:
            found.append(float(cosines[image, side, at]))
    return found


def write_features(root, model, arrays, preprocess):
    rows = {"all": 2 * IMAGES, "dense": IMAGES, "train": IMAGES}
    of = {"cls": "all", "registers": "all", "train_patches": "train", "train_norms": "train", "train_rows": "train"}
    specs = {n: store.Spec(a.shape[1:], str(a.dtype), of.get(n, "dense"), "", "") for n, a in arrays.items()}
    folder = store.condition_folder(root / "features", "tiny", model, "baseline")
    writer = store.Writer(folder, "key", specs, rows)
    writer.write(arrays, {"all": np.arange(2 * IMAGES), "dense": TEST, "train": np.arange(IMAGES)})
    layout = TokenLayout(1, 2, GRID).to_json()
    writer.finish({"layout": layout, "preprocess": preprocess.to_json(), "patch": [SIDE, SIDE], "depth": 2})


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Normal tokens hold position and pixels; outliers, up to four of an image, its class, as [CLS] does, and position
    and pixels too, but elsewhere than normal tokens. In the model "clean" no patch is an outlier.
    """
    root = tmp_path_factory.mktemp("information")
    rng = np.random.default_rng(0)
    (root / "data" / "images").mkdir(parents=True)
    labels = np.arange(2 * IMAGES) % CLASSES
    table = []
    for i, label in enumerate(labels):
        pixels = rng.integers(0, 256, size=(GRID[0] * SIDE, GRID[1] * SIDE, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / "data" / "images" / f"{i}.png")
        split = "test" if i < IMAGES else "train"
        table.append({"image_id": f"i{i:03d}", "path": f"images/{i}.png", "split": split, "label": label})
    checked = manifest.check(pd.DataFrame(table), list("abcd"), root / "data", "test")
    manifest.write(root / "data", checked, list("abcd"), "tiny", ".", "the test", "MIT")
    size = (GRID[0] * SIDE, GRID[1] * SIDE)
    preprocess = Preprocess(size, size, "bicubic", (0.5,) * 3, (0.5,) * 3)
    loaded = manifest.Manifest.load(root / "data")
    pixels, _ = load_pixels(loaded, np.arange(2 * IMAGES), preprocess)
    shown = patchify(preprocess.normalise(pixels), (SIDE, SIDE)).numpy()
    outlier = np.zeros((2 * IMAGES, PATCHES), dtype=bool)
    for i in range(2 * IMAGES):
        outlier[i, rng.permutation(PATCHES)[: rng.integers(0, 5)]] = True
    place, of_class = np.eye(PATCHES), np.eye(CLASSES)[labels]
    local = np.concatenate([np.tile(place, (2 * IMAGES, 1, 1)), shown], axis=2)
    mixed = local @ np.linalg.qr(rng.standard_normal((24, 24)))[0]
    knows = np.where(outlier[..., None], of_class[:, None], 0.0)
    noise = 0.05 * rng.standard_normal((2 * IMAGES, PATCHES, WIDTH))
    tokens = np.concatenate([np.where(outlier[..., None], mixed, local), knows], axis=2) + noise
    clean = np.concatenate([local, np.zeros_like(knows)], axis=2) + noise
    whole = np.zeros((2 * IMAGES, WIDTH))
    whole[:, -CLASSES:] = of_class
    norms = rng.uniform(1, 2, size=(2 * IMAGES, 2, 1 + 2 + PATCHES)).astype(np.float32)
    norms[:, -1, 3:][outlier] += 50.0
    arrays = {
        "neighbours": cosines_of(outlier)[TEST],
        "cls": whole.astype(np.float32),
        "registers": rng.standard_normal((2 * IMAGES, 2, WIDTH)).astype(np.float32),
        "dense_rows": TEST,
        "train_rows": TRAIN,
        "norms": norms[TEST],
        "train_norms": norms[TRAIN],
    }
    for model, of_model in (("m", tokens), ("clean", clean)):
        patches = {"patches": of_model[TEST].astype(np.float16), "train_patches": of_model[TRAIN].astype(np.float16)}
        write_features(root, model, arrays | patches, preprocess)
    write_json(root / "found/tiny/m.json", {"found": True, "threshold": 20.0, "outlier_layer": 1})
    write_json(root / "none/tiny/m.json", {"found": False, "threshold": 1e9, "outlier_layer": 1})
    return root, outlier, norms


def run(made, registers="found", out="out", config=CONFIG, features="features"):
    """Rows of the measure by the threshold of one of the detections."""
    root, (_, declared) = made[0], experiment.measures()["single_tokens"]
    rows = Rows("single_tokens", declared.metrics, declared.axes, dataset="tiny", model="m")
    one = Job(rows, root / out, data=root / "data", features=root / features, registers=root / registers)
    measure.run(config, one)
    one.write(images=False, arrays=True)
    return one.rows.frame()


@pytest.fixture(scope="module")
def table(made):
    return run(made)


def of_groups(table, probe=None):
    """Rows over all seeds that are no differences, by metric and group."""
    mine = table[table["seed"].isna() & table["reference_group"].isna()]
    mine = mine[mine["probe"].isna() if probe is None else mine["probe"] == probe]
    return mine.set_index(["metric", "group"])


def differences(table, against="normal", probe=None):
    """Rows of differences by metric."""
    mine = table[table["reference_group"] == against]
    mine = mine[mine["probe"].isna() if probe is None else mine["probe"] == probe]
    return mine.set_index("metric")


@pytest.mark.slow
def test_one_probe_for_all_tokens_misses_what_outliers_hold_and_their_own_finds_it(table):
    """The known answer of the whole measure: outliers hold position and pixels as well as normal tokens do."""
    pooled, own = of_groups(table, "pooled")["value"], of_groups(table, "own")["value"]
    assert pooled["position_top1", "normal"] > 0.95
    assert pooled["position_top1", "outlier"] < 0.4
    assert own["position_top1", "outlier"] > 0.9
    assert pooled["reconstruction_linear_r2", "normal"] > 0.8
    assert pooled["reconstruction_linear_r2", "outlier"] < 0.3
    assert own["reconstruction_linear_r2", "outlier"] > 0.9
    assert own["reconstruction_linear_r2", "normal"] > 0.9
    for metric in ("reconstruction_linear", "reconstruction_mlp"):
        assert pooled[metric, "normal"] < 0.6 * pooled[metric, "outlier"]
    for probe, values in (("pooled", pooled), ("own", own)):  # the model without artifacts holds both everywhere
        assert values["reconstruction_linear_r2", "matched"] > 0.9, probe
        assert values["position_top1", "matched"] > 0.9, probe
    assert differences(table, probe="pooled").loc["reconstruction_linear", "p"] < 0.01
    assert differences(table, probe="pooled").loc["reconstruction_linear_r2", "high"] < -0.5
    matched = differences(table, "matched", "own").loc["reconstruction_linear_r2"]
    assert abs(matched["value"]) < 0.05


def test_every_local_number_is_there_for_every_group_and_probe(table):
    for probe, metrics, groups in (
        ("pooled", (*POSITION, *PIXELS), {"outlier", "normal", "matched"}),
        ("pooled", BY_MLP, {"outlier", "normal"}),
        ("own", (*POSITION, *PIXELS), {"outlier", "normal", "matched"}),
    ):
        rows = of_groups(table, probe)
        for metric in metrics:
            mine = rows.loc[metric]
            assert set(mine.index) == groups, (metric, probe)
            assert mine[["value", "low", "high"]].notna().all(axis=None)
            assert (mine["low"] <= mine["value"]).all()
            assert (mine["value"] <= mine["high"]).all()


def test_outliers_know_the_class(table):
    alone = table.set_index("metric")["value"]
    assert alone["outliers_are_artifacts"] == 1
    value = of_groups(table)["value"]
    assert value["token_class_top1", "outlier"] > 0.9
    assert value["token_class_top1", "cls"] == 1.0
    assert value["token_class_top1", "normal"] < 0.5
    assert value["token_class_top1", "registers"] < 0.5
    difference = differences(table).loc["token_class_top1"]
    assert difference["value"] > 0.4
    assert difference["p"] < 0.01


def test_every_image_has_one_patch_of_the_largest_norm(made, table):
    """The second definition: an outlier where there is one, and where there is none any patch."""
    rows, outlier = of_groups(table), made[1]
    assert rows.loc[("token_class_top1", "highest"), "n"] == IMAGES
    assert rows.loc[("token_class_top1", "other"), "n"] == IMAGES
    some = outlier[TEST].any(axis=1).mean()
    assert rows.loc[("token_class_top1", "highest"), "value"] == pytest.approx(some + (1 - some) / CLASSES, abs=0.1)
    assert rows.loc[("token_class_top1", "other"), "value"] < rows.loc[("token_class_top1", "highest"), "value"] - 0.1
    assert len(differences(table, "other")) == 1


@pytest.mark.slow
def test_explained_variance_and_norms_are_those_of_a_loop_over_patches(made, monkeypatch):
    """With a probe that says zero everywhere, errors are the pixels themselves."""
    zeros = lambda train, targets, test, *_: 0 * test[..., :1].expand(*test.shape[:-1], targets.shape[-1])  # noqa: E731
    monkeypatch.setattr(measure.probes, "linear_pixels", zeros)
    monkeypatch.setattr(measure.probes, "mlp_pixels", zeros)
    rows, (root, outlier, _) = of_groups(run(made), "pooled"), made
    loaded = manifest.Manifest.load(root / "data")
    of_patches = {True: [], False: []}
    for image in range(IMAGES):
        with Image.open(loaded.file(image)) as picture:
            pixels = np.asarray(picture) / 127.5 - 1
        for patch in range(PATCHES):
            y, x = SIDE * (patch // GRID[1]), SIDE * (patch % GRID[1])
            of_patches[bool(outlier[image, patch])].append(pixels[y : y + SIDE, x : x + SIDE].ravel())
    for kind, group in ((True, "outlier"), (False, "normal")):
        values = np.array(of_patches[kind])
        error, mean = np.mean([np.mean(v**2) for v in values]), values.mean(0)
        variance = np.mean([np.mean((v - mean) ** 2) for v in values])
        assert rows.loc[("reconstruction_linear", group), "value"] == pytest.approx(error, rel=1e-4)
        norm = np.mean([np.sqrt(np.sum(v**2)) for v in values])
        assert rows.loc[("reconstruction_linear_l2", group), "value"] == pytest.approx(norm, rel=1e-4)
        explained = rows.loc[("reconstruction_linear_r2", group), "value"]
        assert explained == pytest.approx(1 - error / variance, abs=1e-4)


@pytest.mark.slow
def test_own_probes_are_trained_on_equally_many_tokens(made, monkeypatch):
    seen = []
    original = measure.probes.linear_pixels
    monkeypatch.setattr(measure.probes, "linear_pixels", lambda *given: seen.append(len(given[0])) or original(*given))
    run(made)
    of_all, outliers = IMAGES * PATCHES, int(made[1][TRAIN].sum())
    assert seen == [of_all, of_all, outliers, outliers, outliers]  # pooled, matched; own of outliers, normal, matched


def test_means_and_differences_are_those_of_a_loop_over_patches(made, table):
    outlier = made[1][TEST]
    values = cosines_of(made[1])[TEST]
    collected = {True: [], False: []}
    of_images = []
    for image in range(IMAGES):
        of = {True: [], False: []}
        for patch in range(PATCHES):
            of[bool(outlier[image, patch])].append(np.mean(with_neighbours(values, image, patch)))
        collected = {kind: collected[kind] + of[kind] for kind in of}
        if of[True] and of[False]:
            of_images.append(np.mean(of[True]) - np.mean(of[False]))
    rows = of_groups(table)
    for kind, group in ((True, "outlier"), (False, "normal")):
        row = rows.loc[("neighbour_cosine", group)]
        assert row["value"] == pytest.approx(np.mean(collected[kind]))
        assert row["low"] <= row["value"] <= row["high"]
    row = differences(table).loc["neighbour_cosine"]
    assert (row["value"], row["n"]) == (pytest.approx(np.mean(of_images)), len(of_images))
    assert rows.loc[("neighbour_cosine", "outlier"), "n"] == outlier.any(axis=1).sum()


def test_the_histogram_has_every_neighbour_of_every_patch_once(made):
    outlier, values = made[1][TEST], cosines_of(made[1])[TEST]
    of = {"outlier": [], "normal": []}
    for image in range(IMAGES):
        for patch in range(PATCHES):
            of["outlier" if outlier[image, patch] else "normal"] += with_neighbours(values, image, patch)
    where = {"outlier": outlier, "normal": ~outlier}
    arrays = neighbours.histograms(neighbours.of_each(values, GRID), where)
    edges = arrays["edges_neighbour_cosine"]
    for group, single in of.items():
        counts = arrays[f"histogram/neighbour_cosine/{group}"]
        assert counts.sum() == len(single)
        for left, right, count in zip(edges[:-1], edges[1:], counts, strict=True):
            assert sum(left <= value < right for value in single) == count
    beyond = np.full((1, 1, 4), np.nan, np.float32)
    beyond[..., 0] = 1.0000002  # of equal patches, by a rounding
    assert neighbours.histograms(beyond, {"normal": np.array([[True]])})["histogram/neighbour_cosine/normal"][-1] == 1


@pytest.mark.slow
def test_without_artifacts_the_highest_norms_stand_in(made):
    value = run(made, "none").set_index("metric")["value"]
    assert value["outliers_are_artifacts"] == 0
    limit = np.percentile(made[2][TRAIN, -1, 3:], 90.0)
    assert value["outlier_patch_share"] == pytest.approx((made[2][TEST, -1, 3:] > limit).mean())


@pytest.mark.slow
def test_a_model_made_from_none_has_no_matched_patches(made):
    table = run(made, config=CONFIG.model_copy(update={"reference": None}))
    assert "matched" not in {*table["group"].dropna(), *table["reference_group"].dropna()}
    assert of_groups(table, "own").loc[("reconstruction_linear_r2", "outlier"), "value"] > 0.9


def test_images_without_both_kinds_are_left_out_of_these_classes_alone(made, table):
    both = made[1][TEST].any(axis=1)
    mine = table[(table["metric"] == "token_class_top1") & table["reference_group"].isna()]
    assert set(mine["group"]) == {"cls", "registers", "highest", "other", "outlier", "normal"}
    for group, of_group in mine.groupby("group"):
        assert set(of_group["n"]) == {both.sum() if group in ("outlier", "normal") else IMAGES}
        draws = of_group["value"][of_group["seed"].notna()]
        assert len(draws) == (1 if group in ("cls", "highest") else 2)  # of which nothing is drawn
        assert of_group["value"][of_group["seed"].isna()].item() == pytest.approx(draws.mean())
        spread = table["value"][(table["metric"] == "token_class_top1_sd") & (table["group"] == group)]
        if len(draws) > 1:
            assert spread.item() == pytest.approx(sum((v - draws.mean()) ** 2 / 2 for v in draws) ** 0.5)
        else:
            assert spread.empty


def test_too_few_outliers_are_said_and_not_guessed(made):
    root = made[0]
    threshold = float(np.sort(made[2][:, -1, 3:].ravel())[-2])
    write_json(root / "rare/tiny/m.json", {"found": True, "threshold": threshold, "outlier_layer": 1})
    table = run(made, "rare")
    row = of_groups(table).loc[("token_class_top1", "outlier")]
    assert pd.isna(row["value"])
    assert "images have outlier patches and others" in row["note"]
    own = of_groups(table, "own")
    assert own["value"].isna().all()
    assert own["note"].str.contains(f"outlier tokens to train a probe of {WIDTH} channels on").all()
    pooled = of_groups(table, "pooled")
    assert pooled.loc[("position_top1", "normal"), "value"] > 0.8
    assert pooled.loc[("reconstruction_linear_r2", "outlier"), "note"] == "pixels of the outlier patches do not vary"


def test_no_outlier_at_all_is_said(made):
    write_json(made[0] / "over/tiny/m.json", {"found": True, "threshold": 1e9, "outlier_layer": 1})
    table = run(made, "over")
    absent = table[table["value"].isna() & (table["probe"] == "pooled") & (table["group"] == "outlier")]
    assert sorted(absent["metric"]) == sorted([*POSITION, *PIXELS, *BY_MLP])
    assert set(absent["note"]) == {"no outlier patches"}
    assert set(table["reference_group"].dropna()) == {"other"}


def test_a_data_set_without_training_images_has_rows_that_say_so(made):
    root = made[0]
    source = store.condition_folder(root / "features", "tiny", "m", "baseline")
    features = store.Features.open(source)
    arrays = {n: np.asarray(features.array(n)) for n in features.index["arrays"] if not n.startswith("train")}
    preprocess = Preprocess.from_json(features.index["preprocess"])
    write_features(root / "other", "m", arrays, preprocess)
    table = run(made, features="other/features")
    assert set(table["note"]) == {"the data set has no training images"}
    assert table["value"].isna().all()


def test_params_without_training_images_are_refused():
    change = {"extraction": {"train_dense_images": 0}}
    with pytest.raises(InputError, match=r"single_tokens.*set extraction\.train_dense_images"):
        parse(overlay(read_yaml(ROOT / "params.yaml"), change))


def test_planted_models_are_matched_with_what_they_were_made_from():
    params = parse(read_yaml(ROOT / "params.yaml"))
    assert params.reference("shapes", "planted") == "tagged"
    assert params.reference("shapes", "vit-r0") is None
    assert params.reference("shapes", "planted-48-plain") is None  # another grid


@pytest.mark.slow
def test_the_same_params_write_the_same_bytes(made):
    run(made, out="one")
    run(made, out="two")
    for name in ("rows.csv", "arrays.npz"):
        assert (made[0] / "one" / name).read_bytes() == (made[0] / "two" / name).read_bytes()
