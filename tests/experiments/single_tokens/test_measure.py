"""What single tokens know, on tokens that are made to know it."""

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from vit_registers.core.files import write_json
from vit_registers.core.patches import patchify
from vit_registers.core.seeds import generator
from vit_registers.core.table import Rows
from vit_registers.data import manifest
from vit_registers.experiments.job import Job
from vit_registers.experiments.single_tokens import measure, probes
from vit_registers.experiments.single_tokens.params import Config, SingleTokens
from vit_registers.extraction import store
from vit_registers.models.layout import TokenLayout
from vit_registers.models.preprocess import Preprocess, load_pixels
from vit_registers.params.statistics import Statistics
from vit_registers.pipeline import experiment

GRID, SIDE, IMAGES, CLASSES = (3, 4), 2, 160, 4
PATCHES = GRID[0] * GRID[1]
SETTINGS = {
    "images": IMAGES, "high_percentile": 90.0, "seeds": [0, 5], "hidden": 32, "lr": 0.01, "weight_decay": 0.01,
    "epochs": 8, "batch_size": 32,
}  # fmt: skip


CONFIG = Config(
    seed=0, dataset="tiny", model="m", settings=SingleTokens(**SETTINGS),
    statistics=Statistics(confidence=0.9, resamples=400),
)  # fmt: skip
LOCAL = (
    "neighbour_cosine",
    "position_top1",
    "position_l1",
    "position_l2",
    "reconstruction_linear",
    "reconstruction_mlp",
)


def cosines_of(outlier):
    noise = np.random.default_rng(9).uniform(-0.1, 0.1, size=outlier.shape)
    return (np.where(outlier, 0.8, 0.3) + noise).astype(np.float32)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Normal tokens hold position and pixels, outliers, one or two of most images, the class, as [CLS] does."""
    root = tmp_path_factory.mktemp("information")
    rng = np.random.default_rng(0)
    (root / "data" / "images").mkdir(parents=True)
    labels = np.arange(IMAGES + 4) % CLASSES
    table = []
    for i, label in enumerate(labels):
        pixels = rng.integers(0, 256, size=(GRID[0] * SIDE, GRID[1] * SIDE, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / "data" / "images" / f"{i}.png")
        split = "test" if i < IMAGES else "train"
        table.append({"image_id": f"i{i:03d}", "path": f"images/{i}.png", "split": split, "label": label})
    checked = manifest.check(pd.DataFrame(table), list("abcd"), root / "data", "test")
    manifest.write(root / "data", checked, list("abcd"), "tiny", ".", "the test", "MIT")
    preprocess = Preprocess(
        (GRID[0] * SIDE, GRID[1] * SIDE), (GRID[0] * SIDE, GRID[1] * SIDE), "bicubic", (0.5,) * 3, (0.5,) * 3
    )
    loaded = manifest.Manifest.load(root / "data")
    pixels, _ = load_pixels(loaded, np.arange(IMAGES), preprocess)
    shown = patchify(preprocess.normalise(pixels), (SIDE, SIDE)).numpy()
    outlier = np.zeros((IMAGES, PATCHES), dtype=bool)
    for i in range(IMAGES):
        outlier[i, rng.permutation(PATCHES)[: rng.integers(0, 3)]] = True
    place, of_class = np.eye(PATCHES), np.eye(CLASSES)[labels[:IMAGES]]
    local = np.concatenate([np.tile(place, (IMAGES, 1, 1)), shown], axis=2)
    tokens = np.where(outlier[..., None], 0.0, local)
    knows = np.where(outlier[..., None], of_class[:, None], 0.0)
    tokens = np.concatenate([tokens, knows], axis=2) + 0.05 * rng.standard_normal((IMAGES, PATCHES, 12 + 12 + CLASSES))
    whole = np.zeros((IMAGES + 4, 28))
    whole[:IMAGES, -CLASSES:] = of_class
    norms = rng.uniform(1, 2, size=(IMAGES, 2, 1 + 2 + PATCHES)).astype(np.float32)
    norms[:, -1, 3:][outlier] += 50.0
    arrays = {
        "patches": tokens.astype(np.float16),
        "norms": norms,
        "neighbours": cosines_of(outlier),
        "cls": whole.astype(np.float32),
        "registers": rng.standard_normal((IMAGES + 4, 2, 28)).astype(np.float32),
        "dense_rows": np.arange(IMAGES),
    }
    rows = {name: "all" if len(a) > IMAGES else "dense" for name, a in arrays.items()}
    specs = {name: store.Spec(a.shape[1:], str(a.dtype), rows[name], "", "") for name, a in arrays.items()}
    folder = store.condition_folder(root / "features", "tiny", "m", "baseline")
    writer = store.Writer(folder, "key", specs, {"all": IMAGES + 4, "dense": IMAGES})
    writer.write(arrays, {"all": np.arange(IMAGES + 4), "dense": np.arange(IMAGES)})
    layout = TokenLayout(1, 2, GRID).to_json()
    writer.finish({"layout": layout, "preprocess": preprocess.to_json(), "patch": [SIDE, SIDE], "depth": 2})
    write_json(root / "found/tiny/m.json", {"found": True, "threshold": 20.0, "outlier_layer": 1})
    write_json(root / "none/tiny/m.json", {"found": False, "threshold": 1e9, "outlier_layer": 1})
    return root, outlier, norms


def run(made, registers="found", out="out"):
    """Rows of the measure by the threshold of one of the detections."""
    root, (_, declared) = made[0], experiment.measures()["single_tokens"]
    rows = Rows("single_tokens", declared.metrics, declared.axes, dataset="tiny", model="m")
    one = Job(rows, root / out, data=root / "data", features=root / "features", registers=root / registers)
    measure.run(CONFIG, one)
    one.write(images=False, arrays=False)
    return one.rows.frame()


def of_groups(table):
    """Rows over all seeds that are no differences, by metric and group."""
    return table[table["seed"].isna() & table["reference_group"].isna()].set_index(["metric", "group"])


def differences(table):
    """Rows of differences by metric."""
    mine = table[table["reference_group"].notna()]
    assert set(mine["group"]) == {"outlier"}
    assert set(mine["reference_group"]) == {"normal"}
    return mine.set_index("metric")


def halves():
    order = generator(0, "information", "tiny", IMAGES).permutation(IMAGES)
    return np.sort(order[: IMAGES // 2]), np.sort(order[IMAGES // 2 :])


def test_outlier_tokens_lack_what_is_local_and_know_the_class(made):
    table = run(made)
    assert table["intervention"].eq("baseline").all()
    alone = table.set_index("metric")["value"]
    assert alone["outliers_are_artifacts"] == 1
    assert alone["outlier_patch_share"] == pytest.approx(made[1].mean())
    value = of_groups(table)["value"]
    assert value["position_top1", "normal"] > 0.95
    assert value["position_top1", "outlier"] < 0.3
    assert value["position_l1", "normal"] < 0.2 < value["position_l1", "outlier"]
    for kind in ("linear", "mlp"):
        assert value[f"reconstruction_{kind}", "normal"] < 0.6 * value[f"reconstruction_{kind}", "outlier"]
    assert value["token_class_top1", "outlier"] > 0.9
    assert value["token_class_top1", "cls"] == 1.0
    assert value["token_class_top1", "normal"] < 0.5
    assert value["token_class_top1", "registers"] < 0.5
    difference = differences(table)
    assert set(difference.index) == {*LOCAL, "token_class_top1"}
    for metric in ("neighbour_cosine", "position_top1", "reconstruction_linear", "token_class_top1"):
        assert difference.loc[metric, "p"] < 0.01
    assert difference.loc["token_class_top1", "value"] > 0.4
    assert difference.loc["position_top1", "value"] < -0.6


def test_means_and_differences_are_those_of_a_loop_over_patches(made):
    table, outlier = run(made), made[1]
    values = cosines_of(outlier)
    collected = {True: [], False: []}
    of_images = []
    for image in range(IMAGES):
        of = {True: [], False: []}
        for patch in range(PATCHES):
            of[bool(outlier[image, patch])].append(float(values[image, patch]))
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


def test_without_artifacts_the_highest_norms_stand_in(made):
    value = run(made, "none").set_index("metric")["value"]
    assert value["outliers_are_artifacts"] == 0
    limit = np.percentile(made[2][:, -1, 3:], 90.0)
    assert value["outlier_patch_share"] == pytest.approx((made[2][:, -1, 3:] > limit).mean())


def test_images_without_both_kinds_are_left_out_of_the_classes(made):
    table = run(made)
    both = made[1].any(axis=1)
    _, test = halves()
    mine = table[(table["metric"] == "token_class_top1") & table["reference_group"].isna()]
    assert set(mine["n"]) == {both[test].sum()}
    assert sorted(mine["seed"].dropna().unique()) == [0, 5]
    assert set(mine["group"]) == {"cls", "registers", "outlier", "normal"}
    for group, of_group in mine.groupby("group"):
        draws = of_group["value"][of_group["seed"].notna()]
        assert of_group["value"][of_group["seed"].isna()].item() == pytest.approx(draws.mean())
        spread = table["value"][(table["metric"] == "token_class_top1_sd") & (table["group"] == group)].item()
        assert spread == pytest.approx(sum((v - draws.mean()) ** 2 / 2 for v in draws) ** 0.5)


def test_too_few_outliers_are_said_and_not_guessed(made):
    root = made[0]
    threshold = float(np.sort(made[2][:, -1, 3:].ravel())[-2])
    write_json(root / "rare/tiny/m.json", {"found": True, "threshold": threshold, "outlier_layer": 1})
    rows = of_groups(run(made, "rare"))
    assert pd.isna(rows.loc[("token_class_top1", "outlier"), "value"])
    assert "images have outlier patches and others" in rows.loc[("token_class_top1", "outlier"), "note"]


def test_no_outlier_at_all_is_said(made):
    root = made[0]
    write_json(root / "over/tiny/m.json", {"found": True, "threshold": 1e9, "outlier_layer": 1})
    table = run(made, "over")
    absent = table[table["value"].isna() & table["metric"].isin(LOCAL)]
    assert sorted(absent["metric"]) == sorted(LOCAL)
    assert set(absent["note"]) == {"no outlier patches"}
    assert table["reference_group"].isna().all()


def test_the_same_params_write_the_same_bytes(made):
    run(made, out="one")
    run(made, out="two")
    assert (made[0] / "one/rows.csv").read_bytes() == (made[0] / "two/rows.csv").read_bytes()


def test_linear_pixels_are_least_squares():
    draw = torch.Generator().manual_seed(0)
    x, y, z = (
        torch.randn(20, 6, 5, generator=draw),
        torch.randn(20, 6, 3, generator=draw),
        torch.randn(4, 6, 5, generator=draw),
    )
    ones = np.ones((120, 1))
    weights = np.linalg.lstsq(np.hstack([x.reshape(120, 5).numpy(), ones]), y.reshape(120, 3).numpy(), rcond=None)[0]
    expected = np.hstack([z.reshape(24, 5).numpy(), ones[:24]]) @ weights
    pixels = probes.linear_pixels(x, y, z).reshape(24, 3).numpy()
    np.testing.assert_allclose(pixels, expected, atol=2e-3)
