"""Segmentation and depth from patch tokens, on tokens that are made to know them."""

import dataclasses
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from helpers.measuring import job_of, written
from helpers.studies import load, only, study_of
from vit_registers.core.errors import InputError
from vit_registers.core.numerics.patches import patchify
from vit_registers.core.seeds import derive, generator
from vit_registers.core.stats import Bootstrap
from vit_registers.data import manifest
from vit_registers.data.depth import DepthScale
from vit_registers.experiments.dense_prediction import heads, measure, scores, targets
from vit_registers.experiments.dense_prediction.params import Config, DensePrediction
from vit_registers.experiments.job import IMAGE_COLUMNS
from vit_registers.extraction import store
from vit_registers.models.layout import TokenLayout
from vit_registers.models.preprocess import Preprocess
from vit_registers.params.statistics import Statistics
from vit_registers.report import text

WIDTH, HEIGHT = 40, 24
SIZE, RESIZE, GRID = (16, 20), (20, 24), (4, 5)
PATCHES, D, IMAGES = GRID[0] * GRID[1], 7, 40
CLASSES = ["a", "b", "c"]
REASON = "no artifacts found: 0.00% of the patches exceed 12"
PREPROCESS = Preprocess(SIZE, RESIZE, "bicubic", (0.5,) * 3, (0.5,) * 3)
SETTINGS = {
    "train_share": 0.5, "epochs": 30, "batch_size": 5, "lr": 0.05, "weight_decay": 1e-4, "every": 2, "ridge": 1e-3,
}  # fmt: skip


def settings(**changes):
    return DensePrediction(**{**SETTINGS, **changes})


def config(conditions=("baseline", "turned", "noise", "ttr-4"), **changes):
    statistics = Statistics(confidence=0.9, resamples=300)
    where = {"dataset": "tiny", "model": "m", "conditions": list(conditions)}
    return Config(seed=0, statistics=statistics, settings=settings(**changes), **where)


def preprocess_map(values):
    """The obvious way: the preprocessing of images itself, with the map as an image that takes its nearest pixels."""
    whole = dataclasses.replace(PREPROCESS, interpolation="nearest")
    return whole.pixels(Image.fromarray(values).convert("RGB"))[0].numpy()


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Tokens that hold the class (three channels) and the depth of their patch; ``turned`` hold them otherwise."""
    root = tmp_path_factory.mktemp("dense")
    rng = np.random.default_rng(0)
    for folder in ("images", "masks", "depth"):
        (root / "data" / folder).mkdir(parents=True)
    table = []
    for i in range(IMAGES + 4):
        mask = np.zeros((HEIGHT, WIDTH), np.uint8)
        y, x = rng.integers(2, 10), rng.integers(8, 18)
        mask[y : y + 12, x : x + 14] = 255
        depth = np.where(mask > 0, rng.integers(5000, 20000), 60000).astype(np.uint16)
        depth[:8] = 0  # not known
        Image.fromarray(rng.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)).save(root / f"data/images/{i}.png")
        Image.fromarray(mask).save(root / f"data/masks/{i}.png")
        Image.fromarray(depth).save(root / f"data/depth/{i}.png")
        files = {"path": f"images/{i}.png", "mask": f"masks/{i}.png", "depth": f"depth/{i}.png"}
        table.append({"image_id": f"i{i:02d}", "split": "test" if i < IMAGES else "train", "label": i % 3, **files})
    write_manifest(root / "data", pd.DataFrame(table))
    rows = np.arange(IMAGES)
    truth = targets.load(manifest.Manifest.load(root / "data"), rows, PREPROCESS)
    patch = (SIZE[0] // GRID[0], SIZE[1] // GRID[1])
    of_class = torch.from_numpy(np.stack([truth.classes == c for c in (1, 2, 3)], axis=1)).float()
    channels = [patchify(of_class[:, [c]], patch).mean(-1) for c in range(3)]
    channels.append(patchify(torch.from_numpy(truth.depth.astype(np.float32))[:, None], patch).mean(-1) / 65535)
    tokens = torch.stack(channels, dim=-1).numpy()
    tokens = np.concatenate([tokens, np.zeros((IMAGES, PATCHES, D - 4))], axis=2)
    tokens += 0.02 * rng.standard_normal(tokens.shape)
    conditions = {"baseline": tokens, "turned": -3 * tokens[:, :, ::-1] + 5, "noise": rng.standard_normal(tokens.shape)}
    for name, array in conditions.items():
        write_features(root, name, array, rows)
    store.write_not_applicable(store.condition_folder(root / "features", "tiny", "m", "ttr-4"), "key", REASON)
    return root, truth, tokens.astype(np.float16)


def write_manifest(folder, table, classes=CLASSES):
    checked = manifest.check(table, classes, folder, "test")
    manifest.write(folder, checked, classes, "tiny", ".", "the test", "MIT")


def write_features(root, name, tokens, rows):
    arrays = {"patches": tokens.astype(np.float16), "dense_rows": rows}
    specs = {key: store.Spec(a.shape[1:], str(a.dtype), "dense", "", "") for key, a in arrays.items()}
    writer = store.Writer(
        store.condition_folder(root / "features", "tiny", "m", name), "key", specs, {"dense": len(rows)}
    )
    writer.write(arrays, {"dense": np.arange(len(rows))})
    patch = [SIZE[0] // GRID[0], SIZE[1] // GRID[1]]
    layout = TokenLayout(1, 0, GRID).to_json()
    writer.finish({"layout": layout, "preprocess": PREPROCESS.to_json(), "patch": patch, "depth": 3})


def write_features_of_both_splits(root, tokens, rows, train, train_rows):
    """Features of the model as it is, which keep tokens of training images as well."""
    arrays = {"patches": tokens, "dense_rows": rows, "train_patches": train, "train_rows": train_rows}
    groups = {"patches": "dense", "dense_rows": "dense", "train_patches": "train", "train_rows": "train"}
    specs = {key: store.Spec(a.shape[1:], str(a.dtype), groups[key], "", "") for key, a in arrays.items()}
    folder = store.condition_folder(root / "features", "tiny", "m", "baseline")
    writer = store.Writer(folder, "key", specs, {"dense": len(rows), "train": len(train_rows)})
    writer.write(arrays, {"dense": np.arange(len(rows)), "train": np.arange(len(train_rows))})
    patch = [SIZE[0] // GRID[0], SIZE[1] // GRID[1]]
    layout = TokenLayout(1, 0, GRID).to_json()
    writer.finish({"layout": layout, "preprocess": PREPROCESS.to_json(), "patch": patch, "depth": 3})


def run(made, cfg=None, out="out"):
    job = job_of("dense_prediction", made[0], out, dataset="tiny", model="m")
    measure.run(cfg or config(), job)
    return written(job, "dense_prediction"), pd.read_parquet(job.out / "images.parquet")


@pytest.fixture(scope="module")
def measured(made):
    return run(made)


def value(rows, condition, head, metric):
    mine = rows[(rows["intervention"] == condition) & (rows["head"] == head)]
    return mine[mine["metric"] == metric].iloc[0]


def halves():
    order = generator(0, "dense", "tiny", IMAGES).permutation(IMAGES)
    return np.sort(order[: IMAGES // 2]), np.sort(order[IMAGES // 2 :])


# Truth on the pixels that the model sees.


def test_maps_go_the_way_of_the_pixels(made):
    root, truth, _ = made
    for i in range(6):
        mask = np.asarray(Image.open(root / f"data/masks/{i}.png"))
        assert np.array_equal(truth.classes[i], np.where(preprocess_map(mask) > 0, i % 3 + 1, 0))
        depth = np.asarray(Image.open(root / f"data/depth/{i}.png"))
        low, high = (preprocess_map(part.astype(np.uint8)).astype(int) for part in (depth % 256, depth // 256))
        assert np.array_equal(truth.depth[i], 256 * high + low)
        assert set(np.unique(truth.depth[i])) <= set(np.unique(depth))  # no depth in between
    assert truth.classes.shape == (IMAGES, *SIZE)
    assert len(np.unique(truth.classes)) == 4


def test_without_maps_the_rows_say_why(made, tmp_path):
    root = tmp_path / "none"
    shutil.copytree(made[0], root)
    table = pd.read_parquet(root / "data/manifest.parquet")
    write_manifest(root / "data", table.assign(mask=None))
    rows, images = run((root,))
    none = rows[rows["metric"].isin(["miou", "pixel_accuracy"])].set_index("intervention")
    assert none["value"].isna().all()
    assert set(none.drop("ttr-4")["note"]) == {"the data set has no masks of labelled images and no label maps"}
    assert none.loc["ttr-4", "note"].eq(REASON).all()
    assert value(rows, "baseline", "refitted", "rmse")["value"] > 0
    assert images.empty
    write_manifest(root / "data", table.assign(label=None), [])
    rows, _ = run((root,))
    assert rows[rows["metric"].isin(["miou", "pixel_accuracy"])]["value"].isna().all()
    assert value(rows, "baseline", "refitted", "rmse")["value"] > 0
    write_manifest(root / "data", table.assign(mask=None, depth=None))
    rows, images = run((root,))
    assert rows["value"].isna().all()
    assert len(rows) == 4 * 2 * 3
    assert images.empty
    assert list(images.columns) == IMAGE_COLUMNS
    write_manifest(root / "data", table.assign(mask=[None if i == 1 else m for i, m in enumerate(table["mask"])]))
    with pytest.raises(InputError, match="image 'i01' has no mask while others have"):
        run((root,))


@pytest.mark.parametrize(
    ("file", "values", "expected"),
    [
        ("masks/3.png", np.full((HEIGHT, WIDTH), 7, np.uint8), r"3\.png: holds 7; expected a mask of 0 and 255"),
        ("masks/3.png", np.zeros((5, 6), np.uint8), "L of 6x5 pixels; expected a mask of 0 and 255 of 40x24"),
        ("depth/3.png", np.zeros((HEIGHT, WIDTH), np.uint8), "expected a 16-bit depth map of 40x24"),
        ("depth/3.png", None, "no such image"),
    ],
)
def test_maps_that_are_something_else_are_refused_in_one_line(made, tmp_path, file, values, expected):
    shutil.copytree(made[0], tmp_path / "odd")
    path = tmp_path / "odd/data" / file
    path.unlink()
    if values is not None:
        Image.fromarray(values).save(path)
    with pytest.raises(InputError, match=expected) as refused:
        run((tmp_path / "odd",))
    assert "\n" not in str(refused.value)


def test_depth_of_which_nothing_is_known_is_refused(made, tmp_path):
    shutil.copytree(made[0], tmp_path / "dark")
    for path in (tmp_path / "dark/data/depth").iterdir():
        Image.fromarray(np.zeros((HEIGHT, WIDTH), np.uint16)).save(path)
    with pytest.raises(InputError, match="no pixel of the depth maps is above 0"):
        run((tmp_path / "dark",))


def write_scene(root, name, values, depth, **given):
    """A data set of six images with a label map and a depth map each, their values given."""
    folder = root / name
    folder.mkdir()
    table = []
    for i in range(6):
        Image.fromarray(np.zeros((HEIGHT, WIDTH, 3), np.uint8)).save(folder / f"{i}.png")
        Image.fromarray(values[i].astype(np.uint8)).save(folder / f"{i}-map.png")
        Image.fromarray(depth[i].astype(np.uint16)).save(folder / f"{i}-depth.png")
        table.append({"image_id": f"i{i}", "path": f"{i}.png", "split": "test" if i else "train",
                      "semantic": f"{i}-map.png", "depth": f"{i}-depth.png"})  # fmt: skip
    classes = {"semantic_classes": ["none", *(f"c{i}" for i in range(1, 151))], "ignore_index": 0}
    checked = manifest.check(pd.DataFrame(table), [], folder, "test", **classes)
    scale = DepthScale(per_metre=1000, nearest=0.001, farthest=10, window=(4, 2, 36, 22))
    manifest.write(folder, checked, [], name, ".", "the test", "MIT", **classes, depth_scale=scale)
    return manifest.Manifest.load(folder)


@pytest.fixture
def scene(tmp_path):
    rng = np.random.default_rng(1)
    values = rng.integers(0, 151, (6, HEIGHT, WIDTH))
    values[2] = 0
    depth = rng.integers(0, 12_000, (6, HEIGHT, WIDTH))
    return write_scene(tmp_path, "scene", values, depth), values, depth


def test_label_maps_give_their_own_classes_without_the_ignored_one(scene):
    read, values, _ = scene
    found = targets.load(read, np.arange(6), PREPROCESS)
    assert found.count == 150
    for i in range(6):
        assert np.array_equal(found.classes[i], preprocess_map(values[i].astype(np.uint8)).astype(int) - 1)
    assert found.classes.max() == 149
    assert (found.classes == targets.IGNORED).any()
    assert found.scored.tolist() == [0, 1, 3, 4, 5]


def test_an_ignore_index_outside_of_the_classes_and_padding_are_of_no_class(tmp_path):
    Image.fromarray(np.zeros((HEIGHT, WIDTH, 3), np.uint8)).save(tmp_path / "0.png")
    values = np.tile(np.array([0, 1, 255, 1], np.uint8), (HEIGHT, WIDTH // 4))
    Image.fromarray(values).save(tmp_path / "map.png")
    row = {"path": "0.png", "semantic": "map.png"}
    table = pd.DataFrame([{"image_id": s, "split": s, **row} for s in ("train", "test")])
    classes = {"semantic_classes": ["a", "b"], "ignore_index": 255}
    checked = manifest.check(table, [], tmp_path, "test", **classes)
    manifest.write(tmp_path, checked, [], "t", ".", "the test", "MIT", **classes)
    padded = Preprocess((HEIGHT + 8, WIDTH + 8), None, "bicubic", (0.5,) * 3, (0.5,) * 3)
    found = targets.load(manifest.Manifest.load(tmp_path), np.arange(1), padded)
    expected = np.full((HEIGHT + 8, WIDTH + 8), targets.IGNORED)
    expected[:HEIGHT, :WIDTH] = np.where(values == 255, targets.IGNORED, values.astype(int))
    assert np.array_equal(found.classes[0], expected)


def test_depths_in_metres_are_scored_in_their_range_and_window_alone(scene):
    read, _, depth = scene
    found = targets.load(read, np.arange(6), PREPROCESS)
    assert found.unit == 1000
    for i in range(6):
        kept = np.zeros_like(depth[i])
        for y in range(2, 22):
            for x in range(4, 36):
                if 1 < depth[i, y, x] < 10_000:
                    kept[y, x] = depth[i, y, x]
        low, high = (preprocess_map(part.astype(np.uint8)).astype(int) for part in (kept % 256, kept // 256))
        assert np.array_equal(found.depth[i], 256 * high + low)
    assert (found.depth == 0).any()


def test_pixels_of_no_class_do_not_count_in_the_score(made):
    _, truth, tokens = made
    x, bootstrap = torch.from_numpy(tokens), Bootstrap(IMAGES, 20, 0.9, np.random.default_rng(0))
    ignored = truth.classes.copy()
    ignored[:, :, 12:] = targets.IGNORED  # whole patches: their tokens then change nothing but by the upsampling
    other = x.clone().view(IMAGES, *GRID, D)
    other[:, :, 4:] = 7.0  # pixels up to 12 lie between patches 0 to 3
    torch.manual_seed(0)
    head = heads.SegmentationHead(torch.zeros(D), torch.randn(D, 4), torch.zeros(4))
    a, b = (scores.segmentation(scores.counts(head, t, ignored, GRID), bootstrap)
            for t in (x, other.view(IMAGES, PATCHES, D)))  # fmt: skip
    assert [score.value for score in a.scores] == [score.value for score in b.scores]
    shaped = head(x).transpose(1, 2).reshape(IMAGES, 4, *GRID)
    predicted = F.interpolate(shaped, size=SIZE, mode="bilinear", align_corners=False).argmax(1).numpy()[:, :, :12]
    assert a.scores[0].value == pytest.approx(slow_iou(predicted, truth.classes[:, :, :12]))
    assert a.images["pixel_accuracy"] == pytest.approx((predicted == truth.classes[:, :, :12]).mean((1, 2)))


def test_a_class_of_pixels_that_are_ignored_has_no_part_in_the_loss(made):
    """A head fitted with pixels ignored is that of the same images whose loss the obvious way leaves them out."""
    _, truth, tokens = made
    classes, x = truth.classes[:10].copy(), torch.from_numpy(tokens[:10])
    classes[classes == 2] = targets.IGNORED
    classes[3] = targets.IGNORED  # a whole image
    cfg = settings(epochs=200, every=1, weight_decay=0.0, batch_size=10, ridge=1e-9)
    head = heads.fit_segmentation(x, classes, 4, GRID, cfg, torch.Generator().manual_seed(1))
    shaped = head(x).transpose(1, 2).reshape(10, 4, *GRID)
    predicted = F.interpolate(shaped, size=SIZE, mode="bilinear", align_corners=False).argmax(1).numpy()
    assert not (predicted == 2).any()
    known = classes != targets.IGNORED
    assert (predicted[known] == classes[known]).mean() > 0.9


def test_predictions_in_metres_are_clipped_to_the_range(made):
    _, truth, tokens = made
    x = torch.from_numpy(tokens)
    head = heads.DepthHead(5 * torch.randn(D + 1, generator=torch.Generator().manual_seed(2)))
    total, known = scores.squared_errors(head, x, truth.depth, GRID, 6000.0, (0.5, 4.0))
    shaped = head(x).reshape(IMAGES, 1, *GRID)
    predicted = F.interpolate(shaped, size=SIZE, mode="bilinear", align_corners=False)[:, 0].double().numpy()
    assert predicted.min() < 0.5
    assert predicted.max() > 4
    error = (np.minimum(np.maximum(predicted, 0.5), 4.0) - truth.depth / 6000) ** 2
    there = truth.depth > 0
    assert total == pytest.approx(np.where(there, error, 0).sum((1, 2)), rel=1e-5)
    assert known == pytest.approx(there.sum((1, 2)))


def test_a_data_set_of_label_maps_and_metres_is_measured_without_the_image_that_has_no_class(made, tmp_path):
    root = tmp_path / "scenes"
    root.mkdir()
    rng = np.random.default_rng(2)
    values, depth = np.full((6, HEIGHT, WIDTH), 150), np.full((6, HEIGHT, WIDTH), 3000)
    values[:, :, : WIDTH // 2], depth[:, :, : WIDTH // 2] = 7, 1000
    values[2] = 0
    write_scene(root, "data", values, depth)
    tokens = np.zeros((6, *GRID, D))
    tokens[:, :, :2, 0] = 1.0
    tokens += 0.01 * rng.standard_normal(tokens.shape)
    write_features(root, "baseline", tokens.reshape(6, PATCHES, D), np.arange(6))
    store.write_not_applicable(store.condition_folder(root / "features", "tiny", "m", "ttr-4"), "key", REASON)
    rows, images = run((root,), config(("baseline", "ttr-4"), batch_size=2, ridge=1e-6))
    assert set(rows["metric"]) == {"miou", "pixel_accuracy", "rmse_metres"}
    assert value(rows, "baseline", "refitted", "miou")["value"] > 0.6
    assert value(rows, "baseline", "refitted", "miou")["n"] == 3  # of the five with a class half train, rounded
    assert value(rows, "baseline", "refitted", "rmse_metres")["value"] < 0.6
    assert "i2" not in set(images["image_id"])
    assert rows.loc[rows["intervention"] == "ttr-4", "note"].eq(REASON).all()


# Heads.


@pytest.mark.parametrize(("grid", "size"), [((4, 5), (16, 20)), ((3, 3), (42, 42)), ((7, 2), (14, 30))])
def test_upsampling_is_that_of_torch(grid, size):
    maps = torch.randn(2, grid[0] * grid[1], 3)
    shaped = maps.transpose(1, 2).reshape(2, 3, *grid)
    slow = F.interpolate(shaped, size=size, mode="bilinear", align_corners=False).permute(0, 2, 3, 1)
    assert torch.allclose(heads.Upsampling.between(grid, size)(maps), slow, atol=1e-5)
    some = heads.Upsampling.between(grid, size, 4)(maps)
    assert torch.allclose(some, slow[:, 2::4, 2::4], atol=1e-5)


def test_whitened_channels_are_uncorrelated_and_those_that_never_change_stay_small():
    draw = torch.Generator().manual_seed(0)
    mixed = torch.randn(150, 6, 4, generator=draw) @ torch.randn(4, 4, generator=draw)
    mixed *= torch.tensor([1.0, 100.0, 0.1, 1.0])
    tokens = torch.cat([mixed, torch.full((150, 6, 1), 3.0)], dim=2)
    mean, white = heads.whitening(tokens, 1e-9)
    whitened = ((tokens - mean) @ white).flatten(0, 1)
    expected = torch.diag(torch.tensor([1.0, 1, 1, 1, 0]))
    assert torch.allclose(whitened.T @ whitened / len(whitened), expected, atol=2e-2)


def test_segmentation_reaches_the_optimum_that_the_obvious_training_reaches(made):
    """The plain way: F.interpolate to all pixels, cross-entropy, plain gradient descent until nothing changes."""
    _, truth, tokens = made
    classes, x = truth.classes[:10], torch.from_numpy(tokens[:10])
    draw = torch.Generator().manual_seed(1)
    cfg = settings(epochs=200, every=1, weight_decay=0.0, batch_size=10, ridge=1e-9)
    head = heads.fit_segmentation(x, classes, 4, GRID, cfg, draw)

    def loss(logits):
        shaped = logits.transpose(1, 2).reshape(10, 4, *GRID)
        pixels = F.interpolate(shaped, size=SIZE, mode="bilinear", align_corners=False)
        return F.cross_entropy(pixels, torch.from_numpy(classes).long())

    slow = torch.nn.Linear(D, 4)
    optimizer = torch.optim.LBFGS(slow.parameters(), max_iter=400, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        total = loss(slow(x.float()))
        total.backward()
        return total

    optimizer.step(closure)
    assert loss(head(x)) == pytest.approx(float(loss(slow(x.float())).detach()), rel=0.1)
    assert loss(head(x)) < 0.5 * loss(torch.zeros(10, PATCHES, 4))


def test_depth_is_the_weighted_ridge_regression_of_the_mean_depth_of_each_patch(made):
    _, truth, tokens = made
    cfg = settings(ridge=0.01)
    head = heads.fit_depth(torch.from_numpy(tokens), truth.depth, GRID, cfg)
    xs, ys, weights = [], [], []
    for i in range(IMAGES):
        for p in range(PATCHES):
            y, x = 4 * (p // GRID[1]), 4 * (p % GRID[1])
            pixels = truth.depth[i, y : y + 4, x : x + 4].astype(float)
            known = pixels[pixels > 0]
            if len(known):
                xs.append([*tokens[i, p].astype(float), 1.0])
                ys.append(known.mean() / 65535)
                weights.append(len(known))
    xs, ys, weights = np.array(xs), np.array(ys), np.array(weights)
    root = np.sqrt(weights)[:, None]
    ridge = 0.01 * np.mean(((root * xs)[:, :D] ** 2).sum(axis=0))
    penalty = np.sqrt(ridge) * np.eye(D, D + 1)
    slow = np.linalg.lstsq(np.vstack([root * xs, penalty]), np.concatenate([root[:, 0] * ys, np.zeros(D)]))[0]
    assert head.weight.numpy() == pytest.approx(slow, abs=1e-4)
    assert len(ys) < IMAGES * PATCHES  # patches of which nothing is known are left out
    assert len(set(weights)) > 1


# Scores.


def slow_iou(predicted, target):
    shares = []
    for c in range(4):
        union = ((predicted == c) | (target == c)).sum()
        if union:
            shares.append(((predicted == c) & (target == c)).sum() / union)
    return np.mean(shares)


def test_scores_are_those_of_counting_pixel_by_pixel(made, monkeypatch):
    _, truth, tokens = made
    monkeypatch.setattr(scores, "LOGITS", SIZE[0] * SIZE[1] * 4 * 3)  # three images at a time
    x = torch.from_numpy(tokens)
    torch.manual_seed(0)
    head = heads.SegmentationHead(torch.zeros(D), torch.randn(D, 4), torch.zeros(4))
    bootstrap = Bootstrap(IMAGES, 50, 0.9, np.random.default_rng(0))
    scored = scores.segmentation(scores.counts(head, x, truth.classes, GRID), bootstrap)
    shaped = head(x).transpose(1, 2).reshape(IMAGES, 4, *GRID)
    predicted = F.interpolate(shaped, size=SIZE, mode="bilinear", align_corners=False).argmax(1).numpy()
    found = {score.metric: score for score in scored.scores}
    assert found["miou"].value == pytest.approx(slow_iou(predicted, truth.classes))
    assert found["pixel_accuracy"].value == pytest.approx((predicted == truth.classes).mean())
    assert scored.images["pixel_accuracy"] == pytest.approx(
        [(p == t).mean() for p, t in zip(predicted, truth.classes, strict=True)]
    )
    again = np.repeat(np.arange(IMAGES), bootstrap.counts[3].astype(int))
    assert found["miou"].resampled[3] == pytest.approx(slow_iou(predicted[again], truth.classes[again]))

    far = heads.DepthHead(torch.randn(D + 1))
    total, known = scores.squared_errors(far, x, truth.depth, GRID)
    scored = scores.depths("rmse", total, known, bootstrap)
    predicted = F.interpolate(far(x).reshape(IMAGES, 1, *GRID), size=SIZE, mode="bilinear", align_corners=False)[:, 0]
    error = (predicted.double().numpy() - truth.depth / 65535) ** 2
    there = truth.depth > 0
    assert not there.all()
    assert scored.scores[0].value == pytest.approx(np.sqrt(error[there].mean()), rel=1e-5)
    assert not scored.images
    assert scored.scores[0].resampled[3] == pytest.approx(np.sqrt(error[again][there[again]].mean()), rel=1e-5)


# The step.


def test_tokens_that_know_maps_give_them_and_noise_does_not(measured):
    rows, _ = measured
    for head in ("refitted", "frozen"):
        assert value(rows, "baseline", head, "miou")["value"] > 0.7
        assert value(rows, "baseline", head, "rmse")["value"] < 0.7 * value(rows, "noise", "refitted", "rmse")["value"]
    assert value(rows, "noise", "refitted", "miou")["value"] < 0.4


def test_what_a_turned_token_holds_a_refitted_head_finds_and_a_frozen_one_does_not(measured):
    rows, _ = measured
    for metric, worse in (("miou", -0.3), ("rmse", 0.5)):
        plain, refitted, frozen = (
            value(rows, condition, head, metric)["value"]
            for condition, head in (("baseline", "refitted"), ("turned", "refitted"), ("turned", "frozen"))
        )
        assert refitted == pytest.approx(plain, abs=0.02)  # a linear layer undoes what is linear
        assert (frozen - plain) / worse > 1, metric
    for metric in ("miou", "pixel_accuracy", "rmse"):
        frozen, refitted = (value(rows, "baseline", head, metric)["value"] for head in ("frozen", "refitted"))
        assert frozen == refitted


def test_rows_have_n_and_interval_and_say_why_a_condition_has_none(measured):
    rows, images = measured
    complete = rows[rows["intervention"] != "ttr-4"]
    assert len(complete) == 3 * 2 * 3
    assert complete["n"].eq(IMAGES // 2).all()
    assert (complete["low"] <= complete["value"]).all()
    assert (complete["value"] <= complete["high"]).all()
    assert rows.loc[rows["intervention"] == "ttr-4", "note"].eq(REASON).all()
    assert len(rows[rows["intervention"] == "ttr-4"]) == 6
    _, test = halves()
    assert set(images["image_id"]) == {f"i{i:02d}" for i in test}
    for (condition, head), group in images[images["metric"] == "pixel_accuracy"].groupby(["intervention", "head"]):
        assert group["value"].mean() == pytest.approx(value(rows, condition, head, "pixel_accuracy")["value"])


def test_heads_trained_on_images_of_split_train_are_tested_on_all_dense_ones(made, tmp_path):
    """As when the training part is handed over as dense images, one by one: the same heads, the same scores."""
    root, truth, tokens = made
    train, test = np.arange(10, 30), np.r_[0:10, 30:40]
    shutil.copytree(root / "data", tmp_path / "data")
    write_features_of_both_splits(tmp_path, tokens[test], test, tokens[train], train)
    write_features(tmp_path, "turned", -3 * tokens[test][:, :, ::-1] + 5, test)
    rows, images = run((tmp_path,), config(("baseline", "turned"), train_share=None))
    draw = torch.Generator().manual_seed(derive(0, "segmentation", "tiny"))
    head = heads.fit_segmentation(torch.from_numpy(tokens[train]), truth.classes[train], 4, GRID, settings(), draw)
    found = scores.counts(head, torch.from_numpy(tokens[test]), truth.classes[test], GRID)
    expected = scores.mean_iou(*(part.sum(0) for part in (found.intersection, found.predicted, found.target)))
    for kind in ("refitted", "frozen"):
        assert value(rows, "baseline", kind, "miou")["value"] == pytest.approx(float(expected))
        assert value(rows, "baseline", kind, "miou")["n"] == 20
    depth = heads.fit_depth(torch.from_numpy(tokens[train]), truth.depth[train], GRID, settings())
    total, known = scores.squared_errors(depth, torch.from_numpy(tokens[test]), truth.depth[test], GRID)
    assert value(rows, "baseline", "frozen", "rmse")["value"] == pytest.approx(np.sqrt(total.sum() / known.sum()))
    assert set(images["image_id"]) == {f"i{i:02d}" for i in test}
    turned = rows[rows["intervention"] == "turned"].set_index("head")
    assert turned.loc["refitted", "value"].isna().all()
    assert set(turned.loc["refitted", "note"]) == {measure.NOT_REFITTED}
    assert turned.loc["frozen", "value"].notna().all()


def test_params_that_train_heads_on_images_that_keep_no_tokens_are_refused():
    run = {"dataset": "shapes", "models": ["vit-r0"], "interventions": [], "experiments": ["dense_prediction"]}
    change = only({"runs": [run]}) | {"experiments": {"single_tokens": None, "dense_prediction": {"train_share": None}}}
    study = load("embedded", change)
    assert "trained on images of the training split and tested on the dense images" in text.methods(
        study, study_of(study)
    )
    with pytest.raises(InputError, match="train_share: null trains heads on images of split train; set extraction"):
        load("embedded", change | {"extraction": {"train_dense_images": 0}})


def test_without_tokens_of_training_images_heads_cannot_be_trained_on_them(made):
    with pytest.raises(InputError, match="no tokens of training images, which heads are trained on; set extraction"):
        run(made, config(train_share=None))


def test_a_condition_has_the_same_numbers_alone_and_twice_the_same_bytes(made, measured):
    alone, _ = run(made, config(("baseline", "turned")), "alone")
    together = measured[0][measured[0]["intervention"].isin(["baseline", "turned"])]
    assert alone["value"].tolist() == together["value"].tolist()
    run(made, out="again")
    for name in ("rows.csv", "images.parquet"):
        assert (made[0] / "out" / name).read_bytes() == (made[0] / "again" / name).read_bytes()


def test_values_that_are_not_finite_are_refused(made, tmp_path):
    shutil.copytree(made[0], tmp_path / "odd")
    tokens = made[2].astype(np.float32)
    tokens[0, 0, 0] = np.inf
    write_features(tmp_path / "odd", "turned", tokens, np.arange(IMAGES))
    with pytest.raises(InputError, match=r"patches\.npy: holds values that are not finite"):
        run((tmp_path / "odd",))
