"""LOST and DINO-seg on cached features, against a loop over images."""

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from vit_registers.core.errors import InputError
from vit_registers.core.numerics.boxes import best_iou, random_boxes
from vit_registers.core.seeds import generator
from vit_registers.core.stats import wilson
from vit_registers.experiments.object_discovery import dino_seg, lost, measure
from vit_registers.experiments.object_discovery.params import Config, DinoSeg, Lost
from vit_registers.extraction import store
from vit_registers.params.statistics import Gallery, Statistics

REASON = "no artifacts found: 0.00% of the patches exceed 12"
CONDITIONS = ["baseline", "append-4", "ttr-4"]
WIDTH, HEIGHT, SIZE = 40, 24, 16  # of an image, and of the model's input
SCALE = 20 / 24  # the shorter side is resized to 20, the longer one to 33
OFFSET = np.array([8.0, 2.0, 8.0, 2.0])  # (33 - 16) / 2 is 8.5 and goes to the even one, as in torchvision


def step(conditions=CONDITIONS, images=2, head=None, **changes):
    settings = {"feature": "k", "layer": -1, "k": 3, "normalise": False, "centre": True, "bias": 0.0, **changes}
    return Config(
        seed=0,
        dataset="tiny",
        model="m",
        conditions=list(conditions),
        statistics=Statistics(confidence=0.9, resamples=100),
        lost=Lost(**settings),
        dino_seg=DinoSeg(mass=0.6, head=head, skip_last_component=False),
        gallery=Gallery(images=images, candidates=1),
    )


def keys_of(dense, seed):
    """Background of 16 patches with one block of object patches each, and some noise; alike before centring."""
    rng = np.random.default_rng(seed)
    keys = np.tile([1.0, 0.0, 0.5], (len(dense), 4, 4, 1))
    for image in keys:
        y, x = rng.integers(0, 3, size=2)
        image[y : y + 2, x : x + 2] = [-1.0, 0.2, 0.5]
    return (3.0 + keys + 0.1 * rng.standard_normal(keys.shape)).reshape(len(dense), 16, 3).astype(np.float16)


def attention_of(dense, seed):
    """Attention (m, layers, [CLS], tokens): the last layer's is on a block of four patches."""
    rng = np.random.default_rng([seed, 1])
    given = rng.random((len(dense), 3, 1, 17)).astype(np.float16) / 100
    for image in given:
        image[2, 0, 1 + 4 * rng.integers(0, 2) + 1 + np.array([0, 1, 4, 5])] = 0.2
    return given


@pytest.fixture
def made(study):
    dense = study.rows("test")[:25]
    for i, condition in enumerate(CONDITIONS[:2]):
        arrays = {"k_02": keys_of(dense, i), "k_00": keys_of(dense, 9), "attention": attention_of(dense, i)}
        study.write_features(condition, arrays, dense)
    store.write_not_applicable(study.folder("ttr-4"), "key", REASON)
    return study


@pytest.fixture
def run(made, job):
    """Function that measures, and gives what was found: rows by condition and metric, hits by image, arrays."""

    def run(cfg, out="out"):
        done = job("object_discovery", out)
        measure.run(cfg, done)
        return done

    return run


def rows_of(done, head="lost"):
    """Rows of a method, and of boxes that look at no image, by condition and metric."""
    table = done.rows.frame()
    return table[(table["head"] == head) | table["head"].isna()].set_index(["intervention", "metric"])


def slow_iou(a, b):
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - width * height
    return width * height / union


def slow_box(patches):
    """A box in patches of 4 input pixels to pixels of the image."""
    in_image = (4 * np.array(patches) + OFFSET) / np.array([33 / WIDTH, SCALE] * 2)
    return np.clip(in_image, 0, [WIDTH, HEIGHT] * 2)


def test_boxes_and_hits_are_those_of_a_loop_over_images(made, run):
    done = run(step())
    images = pd.concat(done.images)
    assert images["head"].value_counts().to_dict() == {"lost": 50, "dino_seg": 50}
    images = images[images["head"] == "lost"].set_index(["intervention", "image_id"])
    rows = rows_of(done)
    dense = made.rows("test")[:25]
    for i, condition in enumerate(CONDITIONS[:2]):
        keys = keys_of(dense, i).astype(np.float32)
        hits = []
        for at, row in enumerate(dense):
            centred = keys[at] - keys[at].mean(axis=0)
            found = lost.discover((centred @ centred.T)[None], (4, 4), 3).box[0]
            np.testing.assert_allclose(done.arrays[f"{condition}/boxes"][at], slow_box(found))
            best = max(slow_iou(slow_box(found), truth) for truth in made.table["boxes"][row])
            assert images.loc[(condition, made.table["image_id"][row]), "value"] == float(best >= 0.5)
            hits.append(best >= 0.5)
        found = rows.loc[condition, "corloc"]
        assert 0 < sum(hits) < 25
        assert (found["value"], found["n"]) == (pytest.approx(np.mean(hits)), 25)
        assert (found["low"], found["high"]) == pytest.approx(wilson(sum(hits), 25, 0.9))
    assert set(images["metric"]) == {"corloc"}
    assert images["seed"].isna().all()


def test_an_overlap_of_exactly_one_half_counts_as_in_lost_on_whole_pixels():
    """LOST's ``bbox_iou`` adds 1e-7 to sides and union: float32 loses that, and 64-bit boxes miss by it."""
    box, truth = [0, 0, 10, 10], [[0, 0, 10, 20]]

    def published(dtype):
        a, b = torch.tensor(box, dtype=dtype), torch.tensor(truth, dtype=dtype).T
        inter = (torch.min(a[2], b[2]) - torch.max(a[0], b[0])).clamp(0) * (
            torch.min(a[3], b[3]) - torch.max(a[1], b[1])
        ).clamp(0)
        w1, h1, w2, h2 = a[2] - a[0], a[3] - a[1] + 1e-7, b[2] - b[0], b[3] - b[1] + 1e-7
        return bool((inter / (w1 * h1 + w2 * h2 - inter + 1e-7) >= 0.5).any())

    assert best_iou(np.array([box], dtype=float), [np.array(truth, dtype=float)])[0] >= measure.HIT
    assert best_iou(np.array([[0, 0, 10, 9.999]]), [np.array(truth, dtype=float)])[0] < measure.HIT
    assert published(torch.int64)
    assert not published(torch.float64)


@pytest.mark.parametrize("head", [None, 1])
def test_attended_boxes_are_those_of_dino_seg_image_by_image(made, run, head):
    dense = made.rows("test")[:25]
    for i, condition in enumerate(CONDITIONS[:2]):
        heads = np.stack([attention_of(dense, 7), attention_of(dense, 8 + i)], axis=2)
        arrays = {"k_02": keys_of(dense, i), "attention": attention_of(dense, i), "attention_heads": heads}
        made.write_features(condition, arrays, dense)
    rows = run(step(head=head)).rows.frame()
    rows = rows[rows["head"] == "dino_seg"].set_index("intervention")
    assert rows["metric"].eq("corloc").all()
    for i, condition in enumerate(CONDITIONS[:2]):
        given = attention_of(dense, i if head is None else 8 + i)[:, 2, 0, 1:].astype(np.float32)
        found = dino_seg.discover(given, (4, 4), 0.6, False)
        hits = [
            max(slow_iou(slow_box(box), truth) for truth in made.table["boxes"][row]) >= 0.5
            for box, row in zip(found, dense, strict=True)
        ]
        assert 0 < sum(hits) < 25
        assert rows.loc[condition, "value"] == pytest.approx(np.mean(hits))
        assert (rows.loc[condition, "low"], rows.loc[condition, "high"]) == pytest.approx(wilson(sum(hits), 25, 0.9))
    assert rows.loc["ttr-4", "note"] == REASON


def test_a_head_that_the_model_lacks_is_refused(made, run):
    dense = made.rows("test")[:25]
    arrays = {"k_02": keys_of(dense, 0), "attention_heads": np.stack([attention_of(dense, 7)] * 2, axis=2)}
    made.write_features("baseline", arrays, dense)
    with pytest.raises(InputError, match=r"dino_seg\.head: 2 of a model with 2 heads; lower it"):
        run(step(conditions=["baseline"], head=2))


def test_a_condition_that_does_not_apply_has_one_row_for_each_method_with_the_reason(run):
    done = run(step())
    absent = done.rows.frame()
    absent = absent[absent["intervention"] == "ttr-4"]
    assert sorted(absent["head"]) == ["dino_seg", "lost"]
    assert set(absent["note"]) == {REASON}
    assert absent["value"].isna().all()
    assert "ttr-4" not in set(pd.concat(done.images)["intervention"])


def test_the_centre_box_is_chosen_on_training_images_and_scored_on_dense_ones(made, run):
    rows = rows_of(run(step()))

    def hits(share, split):
        w, h = share * WIDTH / 2, share * HEIGHT / 2
        box = [WIDTH / 2 - w, HEIGHT / 2 - h, WIDTH / 2 + w, HEIGHT / 2 + h]
        truths = made.table["boxes"][made.rows(split)[:25] if split == "test" else made.rows(split)]
        return [max(slow_iou(box, truth) for truth in boxes) >= 0.5 for boxes in truths]

    shares = [round(0.05 * i, 2) for i in range(2, 21)]
    best = max(shares, key=lambda share: (sum(hits(share, "train")), -share))
    centre = rows.loc["baseline", "corloc_centre_box"]
    assert centre["value"] == pytest.approx(np.mean(hits(best, "test")))
    assert centre["n"] == 25
    assert rows.loc["baseline", "corloc_random_box"]["n"] == 25
    assert "corloc_centre_box" not in rows.loc["append-4"].index


def test_random_boxes_are_the_same_for_every_model_of_a_data_set(made, run, monkeypatch):
    drawn = []

    def spy(sizes, rng):
        drawn.append(random_boxes(sizes, rng))
        return drawn[-1]

    monkeypatch.setattr(measure, "random_boxes", spy)
    run(step())
    run(step(conditions=["baseline"], k=1), "again")
    expected = random_boxes(np.array([[WIDTH, HEIGHT]] * 25), generator(0, "random boxes", "tiny"))
    for found in drawn:
        np.testing.assert_array_equal(found, expected)
    assert len(drawn) == 2  # once for each data set and model, at the baseline


def test_a_training_split_without_boxes_chooses_no_centre_box(made, run):
    made.table["boxes"] = made.table["boxes"].where(made.table["split"] == "test", None)
    made.write_manifest()
    rows = rows_of(run(step()))
    assert rows.loc["baseline", "corloc_centre_box"]["note"] == "no training image has a box to choose it on"
    assert pd.isna(rows.loc["baseline", "corloc_centre_box"]["value"])
    assert rows.loc["baseline", "corloc"]["value"] > 0


def test_a_data_set_without_boxes_has_boxes_found_and_none_scored(made, run):
    made.table = made.table.drop(columns="boxes")
    made.write_manifest()
    done = run(step())
    rows = done.rows.frame()
    assert rows["value"].isna().all()
    notes = rows[rows["head"] == "lost"].set_index("intervention")["note"].to_dict()
    reason = "the data set has no boxes"
    assert notes == {"baseline": reason, "append-4": reason, "ttr-4": REASON}
    for condition in CONDITIONS[:2]:
        assert np.isfinite(done.arrays[f"{condition}/boxes"]).all()
    assert np.isnan(done.arrays["truth"]).all()
    done.write(images=True, arrays=True)
    assert len(pd.read_parquet(done.out / "images.parquet")) == 0


def test_boxes_on_some_dense_images_only_are_refused(made, run):
    made.table["boxes"] = made.table["boxes"].where(made.table["image_id"] != "i64", None)
    made.write_manifest()
    with pytest.raises(InputError, match=r"'tiny': image 'i64' has no box while others have; CorLoc needs one on"):
        run(step())


def test_the_layer_chooses_the_keys(run):
    boxes = {layer: run(step(layer=layer), f"out{layer}").arrays["baseline/boxes"] for layer in (-1, 2, 0, -3)}
    np.testing.assert_array_equal(boxes[-1], boxes[2])
    np.testing.assert_array_equal(boxes[0], boxes[-3])
    assert not np.array_equal(boxes[0], boxes[2])


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        (3, "lost.layer: 3 is not one of the 3 blocks"),
        (-4, "lost.layer: -4 is not one of the 3 blocks"),
        (1, "holds no k_01; add 1 to extraction.projections.k"),
    ],
)
def test_a_layer_without_k_is_refused(run, layer, reason):
    with pytest.raises(InputError, match=reason):
        run(step(layer=layer))


def test_an_image_without_a_box_is_a_miss(made, run):
    dense = made.rows("test")[:25]
    arrays = {"k_02": np.zeros((25, 16, 3), dtype=np.float16), "attention": attention_of(dense, 0)}
    made.write_features("append-4", arrays, dense)
    done = run(step(conditions=["baseline", "append-4"]))
    assert np.isnan(done.arrays["append-4/boxes"]).all()
    assert rows_of(done).loc["append-4", "corloc"]["value"] == 0


def test_pictures_show_each_step_in_pixels_of_what_the_model_saw(made, run):
    arrays = run(step(images=3)).arrays
    dense = made.rows("test")[:25]
    steps = lost.discover(lost.similarity(keys_of(dense, 0), False, True), (4, 4), 3)
    names = [f"{c}/{what}" for c in CONDITIONS[:2] for what in ("box", "boxes", "degree", "kept", "mask", "seed")]
    assert sorted(arrays) == sorted([*names, "grids", "groups", "image_id", "images", "outliers", "sizes", "truth"])
    assert arrays["image_id"].tolist() == ["i60", "i61", "i62"]  # the first dense image of each class
    assert arrays["images"].shape == (3, SIZE, SIZE, 3)
    np.testing.assert_array_equal(arrays["baseline/degree"], steps.degree[:3].reshape(3, 4, 4))
    np.testing.assert_array_equal(arrays["baseline/kept"], steps.kept[:3].reshape(3, 4, 4))
    np.testing.assert_array_equal(arrays["baseline/mask"], steps.mask[:3])
    np.testing.assert_array_equal(arrays["baseline/seed"], steps.seed[:3])
    np.testing.assert_allclose(arrays["baseline/box"], 4 * steps.box[:3], atol=1e-9)
    assert arrays["truth"].shape == (3, 2, 4)
    assert np.isnan(arrays["truth"][0, 1]).all()
    for i, row in enumerate(dense[:3]):
        for j, truth in enumerate(made.table["boxes"][row]):
            expected = np.array(truth) * np.array([33 / WIDTH, SCALE] * 2) - OFFSET
            np.testing.assert_allclose(arrays["truth"][i, j], expected)


def test_truth_that_is_found_whole_has_overlap_one(made, run):
    """Ground truth that fills patches exactly, through crop and scale, is hit with an overlap of 1."""
    dense = made.rows("test")[:25]
    keys = np.tile([1.0, 0.0], (25, 4, 4, 1))
    keys[:, 1:3, 2:4] = [-1.0, 0.0]
    arrays = {"k_02": keys.reshape(25, 16, 2).astype(np.float16), "attention": attention_of(dense, 0)}
    made.write_features("baseline", arrays, dense)
    box = slow_box([2, 1, 4, 3]).tolist()
    made.table["boxes"] = [[box]] * len(made.table)
    made.write_manifest()
    boxes = run(step(conditions=["baseline"])).arrays["baseline/boxes"]
    np.testing.assert_allclose([slow_iou(found, box) for found in boxes], 1.0)


def test_chunks_do_not_show_and_same_params_make_same_bytes(run, monkeypatch):
    first = run(step())
    monkeypatch.setattr(measure, "CHUNK", 7)
    second = run(step(), "again")
    names = ["arrays.npz", "images.parquet", "rows.csv"]
    for done in (first, second):
        done.write(images=True, arrays=True)
        assert sorted(path.name for path in done.out.iterdir()) == names
    for name in names:
        assert (first.out / name).read_bytes() == (second.out / name).read_bytes()


def test_an_unreadable_image_is_named(made, run):
    Image.new("RGB", (WIDTH, HEIGHT)).save(made.data / "images/61.png")
    (made.data / "images/61.png").write_bytes(b"not an image")
    with pytest.raises(InputError, match=r"61\.png"):
        run(step())
