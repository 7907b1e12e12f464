"""What single tokens know, on tokens that are made to know it."""

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from vit_registers import params
from vit_registers.core import table as metrics
from vit_registers.core.files import write_json
from vit_registers.core.patches import patchify
from vit_registers.core.seeds import generator
from vit_registers.data import manifest
from vit_registers.experiments.single_tokens import measure as information
from vit_registers.experiments.single_tokens import probes as token_probes
from vit_registers.extraction import store
from vit_registers.models.layout import TokenLayout
from vit_registers.models.preprocess import Preprocess
from vit_registers.pipeline.configs import InformationStep

GRID, SIDE, IMAGES, CLASSES = (3, 4), 2, 160, 4
PATCHES = GRID[0] * GRID[1]
SETTINGS = {
    "images": IMAGES, "high_percentile": 90.0, "seeds": [0, 5], "hidden": 32, "lr": 0.01, "weight_decay": 0.01,
    "epochs": 8, "batch_size": 32,
}  # fmt: skip


def step(**changes):
    return InformationStep(
        seed=0, dataset="tiny", model="m", outlier_layer=-1, information=params.Information(**{**SETTINGS, **changes}),
        statistics=params.Statistics(confidence=0.9, resamples=400),
    )  # fmt: skip


def cosines_of(high):
    noise = np.random.default_rng(9).uniform(-0.1, 0.1, size=high.shape)
    return (np.where(high, 0.8, 0.3) + noise).astype(np.float32)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Normal tokens hold position and pixels, high ones, one or two of most images, the class, as [CLS] does."""
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
    pixels, _ = information.load_pixels(loaded, np.arange(IMAGES), preprocess)
    shown = patchify(preprocess.normalise(pixels), (SIDE, SIDE)).numpy()
    high = np.zeros((IMAGES, PATCHES), dtype=bool)
    for i in range(IMAGES):
        high[i, rng.permutation(PATCHES)[: rng.integers(0, 3)]] = True
    place, of_class = np.eye(PATCHES), np.eye(CLASSES)[labels[:IMAGES]]
    local = np.concatenate([np.tile(place, (IMAGES, 1, 1)), shown], axis=2)
    tokens = np.where(high[..., None], 0.0, local)
    knows = np.where(high[..., None], of_class[:, None], 0.0)
    tokens = np.concatenate([tokens, knows], axis=2) + 0.05 * rng.standard_normal((IMAGES, PATCHES, 12 + 12 + CLASSES))
    whole = np.zeros((IMAGES + 4, 28))
    whole[:IMAGES, -CLASSES:] = of_class
    norms = rng.uniform(1, 2, size=(IMAGES, 2, 1 + 2 + PATCHES)).astype(np.float32)
    norms[:, -1, 3:][high] += 50.0
    arrays = {
        "patches": tokens.astype(np.float16),
        "norms": norms,
        "neighbours": cosines_of(high),
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
    write_json(root / "found.json", {"found": True, "threshold": 20.0})
    write_json(root / "none.json", {"found": False, "threshold": 1e9})
    return root, high, norms


def run(made, cfg, registers="found.json", out="out.csv"):
    root = made[0]
    information.run(cfg, root / "data", root / "features", root / registers, root / out)
    table = metrics.read(root / out)
    assert set(table["readout"]) == {"information"}
    return table


def halves():
    order = generator(0, "information", "tiny", IMAGES).permutation(IMAGES)
    return np.sort(order[: IMAGES // 2]), np.sort(order[IMAGES // 2 :])


def test_high_tokens_lack_what_is_local_and_know_the_class(made):
    table = run(made, step())
    value = table[table["seed"].isna()].set_index("metric")["value"]
    assert value["high_are_artifacts"] == 1
    assert value["high_share"] == pytest.approx(made[1].mean())
    assert value["position_top1[normal]"] > 0.95
    assert value["position_top1[high]"] < 0.3
    assert value["position_l1[normal]"] < 0.2 < value["position_l1[high]"]
    for kind in ("linear", "mlp"):
        assert value[f"reconstruction_{kind}[normal]"] < 0.6 * value[f"reconstruction_{kind}[high]"]
    assert value["class_top1[high]"] > 0.9
    assert value["class_top1[cls]"] == 1.0
    assert value["class_top1[normal]"] < 0.5
    assert value["class_top1[register]"] < 0.5
    p = table.set_index("metric")["p"]
    for metric in ("neighbour_cosine", "position_top1", "reconstruction_linear", "class_top1"):
        assert p[f"{metric}_difference"] < 0.01
    assert value["class_top1_difference"] > 0.4
    assert value["position_top1_difference"] < -0.6


def test_means_and_differences_are_those_of_a_loop_over_patches(made):
    table = run(made, step()).set_index("metric")
    high = made[1]
    values = cosines_of(high)
    collected = {True: [], False: []}
    differences = []
    for image in range(IMAGES):
        of = {True: [], False: []}
        for patch in range(PATCHES):
            of[bool(high[image, patch])].append(float(values[image, patch]))
        collected = {kind: collected[kind] + of[kind] for kind in of}
        if of[True] and of[False]:
            differences.append(np.mean(of[True]) - np.mean(of[False]))
    for kind, name in ((True, "high"), (False, "normal")):
        row = table.loc[f"neighbour_cosine[{name}]"]
        assert row["value"] == pytest.approx(np.mean(collected[kind]))
        assert row["low"] <= row["value"] <= row["high"]
    row = table.loc["neighbour_cosine_difference"]
    assert (row["value"], row["n"]) == (pytest.approx(np.mean(differences)), len(differences))
    assert table.loc["neighbour_cosine[high]", "n"] == high.any(axis=1).sum()


def test_without_artifacts_the_highest_norms_stand_in(made):
    table = run(made, step(), "none.json").set_index("metric")
    assert table.loc["high_are_artifacts", "value"] == 0
    limit = np.percentile(made[2][:, -1, 3:], 90.0)
    assert table.loc["high_share", "value"] == pytest.approx((made[2][:, -1, 3:] > limit).mean())


def test_images_without_both_kinds_are_left_out_of_the_classes(made):
    table = run(made, step())
    both = made[1].any(axis=1)
    _, test = halves()
    mine = table[table["metric"].str.startswith("class_top1[")]
    assert set(mine["n"]) == {both[test].sum()}
    assert sorted(mine["seed"].dropna().unique()) == [0, 5]
    for _, group in mine.groupby("metric"):
        assert group["value"][group["seed"].isna()].item() == pytest.approx(
            group["value"][group["seed"].notna()].mean()
        )
    for kind in ("cls", "high"):
        draws = mine["value"][(mine["metric"] == f"class_top1[{kind}]") & mine["seed"].notna()]
        spread = table["value"][table["metric"] == f"class_top1_std[{kind}]"].item()
        assert spread == pytest.approx(sum((v - draws.mean()) ** 2 / 2 for v in draws) ** 0.5)


def test_too_few_high_patches_are_said_and_not_guessed(made):
    root = made[0]
    write_json(root / "rare.json", {"found": True, "threshold": float(np.sort(made[2][:, -1, 3:].ravel())[-2])})
    table = run(made, step(), "rare.json").set_index("metric")
    assert pd.isna(table.loc["class_top1[high]", "value"])
    assert "images have high patches and others" in table.loc["class_top1[high]", "note"]


def test_the_same_params_write_the_same_bytes(made):
    run(made, step(), out="one.csv")
    run(made, step(), out="two.csv")
    assert (made[0] / "one.csv").read_bytes() == (made[0] / "two.csv").read_bytes()


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
    found = token_probes.linear_pixels(x, y, z).reshape(24, 3).numpy()
    np.testing.assert_allclose(found, expected, atol=2e-3)
