"""Correspondence against loops over images and patches, and where the answer is known."""

import json
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from helpers.jobs import job as job_of
from vit_registers.core.errors import InputError
from vit_registers.data import manifest as manifests
from vit_registers.data.correspondence import Pair
from vit_registers.data.manifest import Manifest
from vit_registers.experiments.correspondence import asking, measure
from vit_registers.experiments.correspondence.params import Config, Correspondence
from vit_registers.extraction import extract, store
from vit_registers.models import fetch
from vit_registers.models.sources.pixels import Pixels
from vit_registers.models.sources.untrained import UntrainedModel
from vit_registers.params.passes import Extraction
from vit_registers.params.statistics import Statistics
from vit_registers.pipeline.configs import ExtractConfig, FetchConfig

REASON = "no artifacts found"
P, D = 16, 6  # patches, four by four of four pixels, and channels
VIEW = (36, 30)  # width and height of second views; images have 40 and 24


def config(conditions=("baseline",), **changes):
    settings = Correspondence(targets=changes.pop("targets", 2), reach=changes.pop("reach", 0.3))
    given = {"seed": 0, "statistics": Statistics(confidence=0.9, resamples=300), "dataset": "tiny", "model": "m"}
    return Config(**{**given, **changes}, conditions=list(conditions), settings=settings)


def known(study, entries):
    """The data set with ``entries`` of column correspondence by row."""
    study.table["correspondence"] = [entries.get(row) for row in range(len(study.table))]
    study.write_manifest()


def run(study, job, cfg, out="out"):
    one = job("correspondence", out)
    measure.run(cfg, one)
    one.write(images=True, arrays=False)
    return one.rows.frame(), pd.read_parquet(one.out / "images.parquet")


def value(rows, metric="correspondence", **axes):
    for axis, wanted in axes.items():
        rows = rows[rows[axis].isna() if wanted is None else rows[axis] == wanted]
    (found,) = rows.loc[rows["metric"] == metric, "value"]
    return found


# --- second views ----------------------------------------------------------------------------------------------------


def write_views(study, rows, seed=0):
    """Second views of some images, turned and shifted."""
    draw, entries = np.random.default_rng(seed), {}
    (study.data / "views").mkdir()
    for row in rows:
        Image.fromarray(draw.integers(0, 256, (*VIEW[::-1], 3), dtype=np.uint8)).save(study.data / f"views/{row}.png")
        angle, scale = draw.uniform(-0.4, 0.4), draw.uniform(0.7, 1.3)
        cos, sin = scale * np.cos(angle), scale * np.sin(angle)
        matrix = ((cos, -sin, draw.uniform(-4, 8)), (sin, cos, draw.uniform(-6, 6)))
        entries[int(row)] = Pair(pair=f"views/{row}.png", matrix=matrix).model_dump_json()
    known(study, entries)


def counterpart(pair, patch):
    """The patch of the second view that holds the centre of a patch, by hand: an image is resized to 33x20 pixels and
    cut at 8 and 2, its view to 24x20 and cut at 4 and 2.
    """
    x, y = 4 * (patch % 4) + 2, 4 * (patch // 4) + 2
    x, y = (x + 8) * 40 / 33, (y + 2) * 24 / 20
    (a, b, c), (d, e, f) = pair.matrix
    x, y = a * x + b * y + c, d * x + e * y + f
    if not (0 <= x < VIEW[0] and 0 <= y < VIEW[1]):
        return None
    x, y = x * 24 / VIEW[0] - 4, y * 20 / VIEW[1] - 2
    return int(y // 4) * 4 + int(x // 4) if 0 <= x < 16 and 0 <= y < 16 else None


def slow(data, rows, patches, views, chosen=None):
    """Shares of patches found, image by image."""
    shares = {}
    for place, row in enumerate(rows):
        found = []
        for patch in range(P):
            target = counterpart(data.second_view(int(row)), patch)
            if target is None or (chosen is not None and not chosen[place, patch]):
                continue
            token = patches[place, patch]
            cosines = [token @ v / np.linalg.norm(token) / np.linalg.norm(v) for v in views[place]]
            found.append(int(np.argmax(cosines)) == target)
        if found:
            shares[data.table["image_id"].iloc[row]] = np.mean(found)
    return shares


@pytest.fixture
def made(study):
    """Views of twelve of the dense images; ``noise`` is another condition, ``ttr-4`` does not apply."""
    dense = study.rows("test")
    pairs = dense[3:27:2]
    write_views(study, pairs)
    data, draw = Manifest.load(study.data), np.random.default_rng(1)
    tokens = {}
    for condition in ("baseline", "noise"):
        patches = draw.normal(size=(len(dense), P, D)).astype(np.float32)
        views = draw.normal(size=(len(pairs), P, D)).astype(np.float32)
        if condition == "baseline":  # half of the patches are found
            for place, row in enumerate(pairs):
                for patch in range(0, P, 2):
                    target = counterpart(data.second_view(int(row)), patch)
                    if target is not None:
                        views[place, target] = 3 * patches[np.searchsorted(dense, row), patch]
        given = {"patches": patches.astype(np.float16), "pair_patches": views.astype(np.float16)}
        given |= {"patches_01": patches[:, ::-1].copy(), "pair_patches_01": views}
        study.write_features(condition, given, dense, pairs)
        tokens[condition] = {name: array.astype(float) for name, array in given.items()}
    store.write_not_applicable(study.folder("ttr-4"), "key", REASON)
    return study, data, dense, pairs, tokens


def test_every_condition_and_block_is_that_of_a_loop(made, job):
    study, data, dense, pairs, tokens = made
    rows, images = run(study, job, config(["baseline", "noise", "ttr-4"]))
    at = np.searchsorted(dense, pairs)
    for condition, arrays in tokens.items():
        expected = slow(data, pairs, arrays["patches"][at], arrays["pair_patches"])
        assert value(rows, intervention=condition, group=None) == pytest.approx(np.mean(list(expected.values())))
        kept = images[images["intervention"] == condition].set_index("image_id")["value"]
        assert kept.to_dict() == pytest.approx(expected)
        at_block = slow(data, pairs, arrays["patches_01"][at], arrays["pair_patches_01"])
        found = value(rows, "block_correspondence", intervention=condition, group=None, layer=1)
        assert found == pytest.approx(np.mean(list(at_block.values())))
    whole = rows[(rows["metric"] == "correspondence") & (rows["intervention"] == "baseline") & rows["group"].isna()]
    assert 0 < whole["low"].iloc[0] < whole["value"].iloc[0] < whole["high"].iloc[0] < 1
    assert whole["n"].iloc[0] == len(expected)
    assert set(images["metric"]) == {"correspondence"}
    assert rows[rows["intervention"] == "ttr-4"]["note"].tolist() == [REASON]


@pytest.mark.parametrize("masks", [False, True])
def test_objects_and_background_are_apart(made, job, masks):
    study, data, dense, pairs, tokens = made
    draw = np.random.default_rng(2)
    if masks:  # which say more than boxes
        (study.data / "masks").mkdir()
        for row in range(len(study.table)):
            mask = (draw.random((3, 5)) < 0.5).repeat(8, 0).repeat(8, 1)  # squares of eight pixels
            Image.fromarray(mask.astype(np.uint8) * 255).save(study.data / f"masks/{row}.png")
        study.table["mask"] = [f"masks/{row}.png" for row in range(len(study.table))]
        study.write_manifest()

    def share(place, patch):
        """Of the patch that is object, by pixels of the input."""
        row, inside = int(pairs[place]), 0
        for y in range(4 * (patch // 4), 4 * (patch // 4) + 4):
            for x in range(4 * (patch % 4), 4 * (patch % 4) + 4):
                in_image = (x + 0.5 + 8) * 40 / 33, (y + 0.5 + 2) * 24 / 20
                if masks:
                    with Image.open(study.data / f"masks/{row}.png") as mask:
                        inside += mask.getpixel(tuple(int(place) for place in in_image)) == 255
                else:
                    boxes = data.table["boxes"].iloc[row]
                    inside += any(a <= in_image[0] < c and b <= in_image[1] < d for a, b, c, d in boxes)
        return inside / 16

    on_object = np.array([[share(place, patch) >= 0.5 for patch in range(P)] for place in range(len(pairs))])
    assert 0.1 < on_object.mean() < 0.9
    rows, _ = run(study, job, config())
    at, arrays = np.searchsorted(dense, pairs), tokens["baseline"]
    for group, wanted in (("object", True), ("background", False)):
        expected = slow(data, pairs, arrays["patches"][at], arrays["pair_patches"], on_object == wanted)
        assert value(rows, group=group) == pytest.approx(np.mean(list(expected.values())))
        ns = rows[(rows["metric"] == "correspondence") & (rows["group"] == group)]["n"]
        assert ns.tolist() == [len(expected)]


def test_baselines_are_pixels_the_same_place_and_chance(made, job):
    study, data, _, pairs, _ = made
    rows, _ = run(study, job, config())
    at_place, by_pixels, counts = [], [], []

    def patches(path, size, cut):
        """Pixels of every patch as the model takes them."""
        with Image.open(path) as image:
            small = np.asarray(image.resize(size, Image.Resampling.BICUBIC), dtype=float)
        small = small[cut[1] : cut[1] + 16, cut[0] : cut[0] + 16]
        return [small[y : y + 4, x : x + 4].ravel() for y in range(0, 16, 4) for x in range(0, 16, 4)]

    for row in pairs:
        pair = data.second_view(int(row))
        image, view = patches(data.file(int(row)), (33, 20), (8, 2)), patches(data.root / pair.pair, (24, 20), (4, 2))
        targets = {patch: counterpart(pair, patch) for patch in range(P) if counterpart(pair, patch) is not None}
        counts.append(len(targets))
        at_place.append(np.mean([patch == target for patch, target in targets.items()]))
        nearest = {
            patch: min(range(P), key=lambda v, p=patch: np.square(image[p] - view[v]).sum()) for patch in targets
        }
        by_pixels.append(np.mean([nearest[patch] == target for patch, target in targets.items()]))
    axes = {"group": None, "intervention": "baseline"}
    assert value(rows, "correspondence_points", **axes) == pytest.approx(np.mean(counts))
    assert value(rows, "correspondence_baseline", baseline="same place", **axes) == pytest.approx(np.mean(at_place))
    assert value(rows, "correspondence_baseline", baseline="pixels", **axes) == pytest.approx(np.mean(by_pixels))
    assert value(rows, "correspondence_baseline", baseline="chance", **axes) == pytest.approx(1 / P)
    chance = rows[rows["baseline"] == "chance"]
    assert chance["note"].eq(measure.COUNTED).all()


def test_an_image_in_itself_is_found_whole_and_in_shuffled_patches_by_chance(study, job):
    dense = study.rows("test")
    entries = {int(row): Pair(pair=study.table["path"][row], matrix=((1, 0, 0), (0, 1, 0))).model_dump_json()
               for row in dense}  # fmt: skip
    known(study, entries)
    draw = np.random.default_rng(3)
    patches = draw.normal(size=(len(dense), P, D)).astype(np.float16)
    shuffled = np.stack([image[draw.permutation(P)] for image in patches])
    study.write_features("baseline", {"patches": patches, "pair_patches": patches}, dense, dense)
    study.write_features("shuffled", {"patches": patches, "pair_patches": shuffled}, dense, dense)
    rows, _ = run(study, job, config(["baseline", "shuffled"]))
    axes = {"group": None, "intervention": "baseline"}
    assert value(rows, **axes) == 1.0
    assert value(rows, "correspondence_points", **axes) == P
    assert value(rows, "correspondence_baseline", baseline="pixels", **axes) == 1.0
    assert value(rows, "correspondence_baseline", baseline="same place", **axes) == 1.0
    mine = rows[(rows["metric"] == "correspondence") & (rows["intervention"] == "shuffled") & rows["group"].isna()]
    assert mine["low"].iloc[0] <= 1 / P <= mine["high"].iloc[0]


def test_views_that_show_nothing_of_their_images_say_so(study, job):
    dense = study.rows("test")
    far = ((1, 0, 1000), (0, 1, 0))
    known(study, {int(row): Pair(pair=study.table["path"][row], matrix=far).model_dump_json() for row in dense})
    patches = np.ones((len(dense), P, D), dtype=np.float16)
    study.write_features("baseline", {"patches": patches, "pair_patches": patches}, dense, dense)
    rows, images = run(study, job, config())
    assert rows["note"].tolist() == [measure.NOTHING_SHOWN]
    assert images.empty


def test_a_data_set_with_neither_form_says_so(study, job):
    dense = study.rows("test")
    study.write_features("baseline", {"patches": np.ones((len(dense), P, D), dtype=np.float16)}, dense)
    rows, images = run(study, job, config())
    assert rows["note"].tolist() == [measure.NOTHING_KNOWN]
    assert rows["value"].isna().all()
    assert images.empty


# --- from images to rows, through extraction -------------------------------------------------------------------------

SIDE, PATCH = 32, 8


def extracted(root, sources, shift):
    """Eight images of noise; of each a second view, shifted by whole pixels and filled up with other noise."""
    data, draw, rows = root / "data", np.random.default_rng(0), []
    (data / "images").mkdir(parents=True)
    for i in range(8):
        image, view = draw.integers(0, 256, (2, SIDE, SIDE, 3), dtype=np.uint8)
        dx, dy = shift
        view[dy:, dx:] = image[: SIDE - dy, : SIDE - dx]
        Image.fromarray(image).save(data / f"images/{i}.png")
        Image.fromarray(view).save(data / f"images/{i}-view.png")
        entry = Pair(pair=f"images/{i}-view.png", matrix=((1, 0, dx), (0, 1, dy))).model_dump_json()
        split = "train" if i < 2 else "test"
        rows.append({"image_id": f"i{i}", "path": f"images/{i}.png", "split": split, "label": i % 2,
                     "correspondence": entry})  # fmt: skip
    table = manifests.check(pd.DataFrame(rows), ["a", "b"], data, "test")
    manifests.write(data, table, ["a", "b"], "tiny", ".", "the test", "MIT")
    settings = Extraction(batch_size=3, memory_mb=500, precision="fp32", dense_split="test", dense_images=6,
                          projections={"k": [-1]}, pairs=5, patch_layers=[0])  # fmt: skip
    for name, source in sources.items():
        fetch.run(FetchConfig(seed=0, name=name, source=source), root / "models" / name)
        cfg = ExtractConfig(seed=0, device="cpu", dataset="tiny", model=name, extraction=settings,
                            interventions={"baseline": None})  # fmt: skip
        extract.run(cfg, data, root / "models" / name, root / "features", None)


def job_at(root, model):
    return job_of("correspondence", root, dataset="tiny", model=model)


SIZES = {"image_size": SIDE, "patch_size": PATCH}


@pytest.mark.parametrize(("shift", "shown"), [((8, 0), 12), ((16, 8), 6), ((0, 0), 16)])
def test_a_shift_by_whole_patches_is_found_by_a_model_whose_tokens_are_the_pixels(tmp_path, shift, shown):
    extracted(tmp_path, {"pixels": Pixels(kind="pixels", **SIZES)}, shift)
    one = job_at(tmp_path, "pixels")
    measure.run(config(model="pixels"), one)
    rows = one.rows.frame()
    axes = {"group": None, "intervention": "baseline"}
    assert value(rows, **axes) == 1.0
    assert value(rows, "block_correspondence", layer=0, **axes) == 1.0
    assert value(rows, "correspondence_baseline", baseline="pixels", **axes) == 1.0
    assert value(rows, "correspondence_points", **axes) == shown
    assert value(rows, "correspondence_baseline", baseline="same place", **axes) == (1.0 if shift == (0, 0) else 0.0)
    assert rows.loc[rows["metric"] == "correspondence", "n"].tolist() == [5]


def test_a_model_finds_an_image_that_is_its_own_view_and_loses_what_half_a_patch_moves(tmp_path):
    untrained = UntrainedModel(kind="untrained", width=32, depth=2, heads=2, **SIZES)
    found = {}
    for shift in ((0, 0), (4, 4)):
        root = tmp_path / str(shift[0])
        extracted(root, {"m": untrained, "pixels": Pixels(kind="pixels", **SIZES)}, shift)
        for model in ("m", "pixels"):
            one = job_at(root, model)
            measure.run(config(model=model), one)
            found[model, shift[0]] = value(one.rows.frame(), group=None, intervention="baseline")
    assert found["m", 0] == found["pixels", 0] == 1.0
    assert found["pixels", 4] < 0.9


# --- keypoints -------------------------------------------------------------------------------------------------------


def write_keypoints(study, count=5, hidden=0.3):
    """Keypoints of the test images, some of them not visible, some beyond what the model sees."""
    draw, entries = np.random.default_rng(0), {}
    for row in study.rows("test"):
        points = [(float(draw.uniform(0, 40)), float(draw.uniform(0, 24)), bool(draw.random() > hidden))
                  for _ in range(count)]  # fmt: skip
        entries[int(row)] = json.dumps({"keypoints": points})
    known(study, entries)


def in_input(point):
    """A point of an image in the model's input, and the patch that holds it."""
    x, y = point[0] * 33 / 40 - 8, point[1] * 20 / 24 - 2
    return int(y // 4) * 4 + int(x // 4) if 0 <= x < 16 and 0 <= y < 16 else None


def slow_pck(data, pairs, dense, patches, reach):
    """Shares of keypoints found, by source image."""
    found = {}
    for source, target in pairs:
        ours, theirs = (data.keypoints(int(dense[place])).keypoints for place in (source, target))
        boxes = data.table["boxes"].iloc[dense[target]]
        side = max(max(x1 - x0, y1 - y0) for x0, y0, x1, y1 in boxes)
        for (x, y, seen), (tx, ty, there) in zip(ours, theirs, strict=True):
            cell = in_input((x, y))
            if not (seen and there) or cell is None or in_input((tx, ty)) is None:
                continue
            token = patches[source, cell]
            cosines = [token @ v / np.linalg.norm(token) / np.linalg.norm(v) for v in patches[target]]
            best = int(np.argmax(cosines))
            cx, cy = (4 * (best % 4) + 2 + 8) * 40 / 33, (4 * (best // 4) + 2 + 2) * 24 / 20
            name = data.table["image_id"].iloc[dense[source]]
            found.setdefault(name, []).append(np.hypot(cx - tx, cy - ty) <= reach * side)
    return {name: np.mean(each) for name, each in found.items()}


def drawn(study, cfg, dense):
    """Pairs of dense images that the measure makes."""
    cached = store.Features.open(study.folder("baseline"))
    return list(asking._pairs(cfg, Manifest.load(study.data), cached, list(range(len(dense)))))


def test_pck_is_that_of_a_loop_over_pairs_and_keypoints(study, job):
    write_keypoints(study)
    dense, draw = study.rows("test"), np.random.default_rng(1)
    patches = draw.normal(size=(len(dense), P, D)).astype(np.float16)
    noise = draw.normal(size=(len(dense), P, D)).astype(np.float16)
    for condition, given in (("baseline", patches), ("noise", noise)):
        study.write_features(condition, {"patches": given, "patches_02": given[:, ::-1].astype(np.float32)}, dense)
    cfg = config(["baseline", "noise"], targets=3, reach=0.5)
    rows, images = run(study, job, cfg)
    data, pairs = Manifest.load(study.data), drawn(study, cfg, dense)
    for condition, given in (("baseline", patches), ("noise", noise)):
        expected = slow_pck(data, pairs, dense, given.astype(float), 0.5)
        assert value(rows, "pck", intervention=condition) == pytest.approx(np.mean(list(expected.values())))
        kept = images[images["intervention"] == condition].set_index("image_id")["value"]
        assert kept.to_dict() == pytest.approx(expected)
    at_block = slow_pck(data, pairs, dense, patches[:, ::-1].astype(float), 0.5)
    found = value(rows, "block_pck", intervention="baseline", layer=2)
    assert found == pytest.approx(np.mean(list(at_block.values())))
    baselines = rows[rows["metric"] == "pck_baseline"].set_index("baseline")["value"]
    assert 0 < baselines["chance"] < 1
    assert {"pixels", "same place"} <= set(baselines.index)
    assert "correspondence" not in set(rows["metric"])


def test_keypoints_whose_tokens_name_them_are_found(study, job):
    """Each keypoint has a channel of its own, at the patch that holds it in each image."""
    draw, dense, entries = np.random.default_rng(4), study.rows("test"), {}
    patches = np.zeros((len(dense), P, P + 3), dtype=np.float16)
    for place, row in enumerate(dense):
        cells = draw.permutation(P)[:3]
        centres = [((4 * (c % 4) + 2 + 8) * 40 / 33, (4 * (c // 4) + 2 + 2) * 24 / 20) for c in cells]
        entries[int(row)] = json.dumps({"keypoints": [(x, y, True) for x, y in centres]})
        patches[place, np.arange(P), np.arange(P)] = 1.0
        patches[place, cells] = 0.0
        patches[place, cells, P + np.arange(3)] = 1.0
    known(study, entries)
    study.write_features("baseline", {"patches": patches}, dense)
    rows, _ = run(study, job, config(reach=0.01))
    assert value(rows, "pck") == 1.0
    assert value(rows, "pck_points") == 2 * 3  # two targets each
    assert value(rows, "pck_baseline", baseline="chance") == pytest.approx(1 / P)


@pytest.mark.parametrize("targets", [1, 3, 100])
def test_every_image_is_source_and_target_equally_often_within_its_class(study, targets):
    write_keypoints(study)
    dense = study.rows("test")  # ten of each of three classes
    study.write_features("baseline", {"patches": np.ones((len(dense), P, D), dtype=np.float16)}, dense)
    pairs = drawn(study, config(targets=targets), dense)
    labels = study.table["label"].to_numpy()[dense]
    assert all(labels[source] == labels[target] and source != target for source, target in pairs)
    assert len(set(pairs)) == len(pairs) == len(dense) * min(targets, 9)
    for side in (0, 1):
        assert set(np.bincount([pair[side] for pair in pairs])) == {min(targets, 9)}
    assert pairs == drawn(study, config(targets=targets), dense)
    assert targets == 100 or pairs != drawn(study, config(targets=targets, seed=1), dense)
    assert all(a <= b for a, b in pairwise(source for source, _ in pairs))


def test_a_class_with_one_image_has_no_pairs(study, job):
    write_keypoints(study)
    dense = study.rows("test")[:3]  # one of each class
    study.write_features("baseline", {"patches": np.ones((3, P, D), dtype=np.float16)}, dense)
    rows, _ = run(study, job, config())
    assert rows["note"].tolist() == [measure.NOTHING_KNOWN]


def test_images_of_a_class_with_other_numbers_of_keypoints_are_refused_in_one_line(study, job):
    write_keypoints(study)
    study.table.loc[63, "correspondence"] = json.dumps({"keypoints": [[1, 1, True]]})
    study.write_manifest()
    dense = study.rows("test")
    study.write_features("baseline", {"patches": np.ones((len(dense), P, D), dtype=np.float16)}, dense)
    with pytest.raises(InputError, match="image 'i63' has 1 keypoints and 'i60', of the same class, 5") as refused:
        run(study, job, config())
    assert "\n" not in str(refused.value)
