import numpy as np
import pandas as pd
import pytest
from PIL import Image

from vit_registers import params
from vit_registers.core import table as metrics
from vit_registers.core.boxes import random_boxes
from vit_registers.core.errors import InputError
from vit_registers.core.seeds import generator
from vit_registers.core.stats import wilson
from vit_registers.experiments.comparisons import measure as compare
from vit_registers.experiments.object_discovery import dino_seg, lost
from vit_registers.experiments.object_discovery import measure as corloc
from vit_registers.extraction import store
from vit_registers.pipeline.slices import CompareStep, LostStep

REASON = "no artifacts found: 0.00% of the patches exceed 12"
CONDITIONS = ["baseline", "append-4", "ttr-4"]
WIDTH, HEIGHT, SIZE = 40, 24, 16  # of an image, and of the model's input
SCALE = 20 / 24  # the shorter side is resized to 20, the longer one to 33
OFFSET = np.array([8.0, 2.0, 8.0, 2.0])  # (33 - 16) / 2 is 8.5 and goes to the even one, as in torchvision


def step(conditions=CONDITIONS, images=2, head=None, **changes):
    settings = {"feature": "k", "layer": -1, "k": 3, "normalise": False, "centre": True, "bias": 0.0, **changes}
    return LostStep(
        seed=0,
        dataset="tiny",
        model="m",
        conditions=list(conditions),
        statistics=params.Statistics(confidence=0.9, resamples=100),
        lost=params.Lost(**settings),
        dino_seg=params.DinoSeg(mass=0.6, head=head, skip_last_component=False),
        gallery=params.Gallery(images=images),
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


def metrics_of(out, readout="lost"):
    table = metrics.read(out / "m.csv")
    return table[table["readout"] == readout]


@pytest.fixture
def made(study):
    dense = study.rows("test")[:25]
    for i, condition in enumerate(CONDITIONS[:2]):
        arrays = {"k_02": keys_of(dense, i), "k_00": keys_of(dense, 9), "attention": attention_of(dense, i)}
        study.write_features(condition, arrays, dense)
    store.write_not_applicable(study.folder("ttr-4"), "key", REASON)
    return study


def run(study, cfg, out="out"):
    corloc.run(cfg, study.data, study.features, study.root / out)
    return study.root / out


def slow_iou(a, b):
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - width * height
    return width * height / union


def slow_box(patches):
    """A box in patches of 4 input pixels to pixels of the image."""
    in_image = (4 * np.array(patches) + OFFSET) / np.array([33 / WIDTH, SCALE] * 2)
    return np.clip(in_image, 0, [WIDTH, HEIGHT] * 2)


def test_boxes_and_hits_are_those_of_a_loop_over_images(made):
    out = run(made, step())
    boxes = pd.read_parquet(out / "m.boxes.parquet").set_index(["intervention", "image_id"])
    images = pd.read_parquet(out / "m.images.parquet")
    assert images["readout"].value_counts().to_dict() == {"lost": 50, "dino_seg": 50}
    images = images[images["readout"] == "lost"].set_index(["intervention", "image_id"])
    rows = metrics_of(out).set_index(["intervention", "metric"])
    dense = made.rows("test")[:25]
    for i, condition in enumerate(CONDITIONS[:2]):
        keys = keys_of(dense, i).astype(np.float32)
        hits = []
        for at, row in enumerate(dense):
            centred = keys[at] - keys[at].mean(axis=0)
            found = lost.discover((centred @ centred.T)[None], (4, 4), 3).box[0]
            where = (condition, made.table["image_id"][row])
            np.testing.assert_allclose(boxes.loc[where, ["x0", "y0", "x1", "y1"]].to_numpy(float), slow_box(found))
            best = max(slow_iou(slow_box(found), truth) for truth in made.table["boxes"][row])
            assert boxes.loc[where, "iou"] == pytest.approx(best)
            assert images.loc[where, "value"] == float(best >= 0.5)
            hits.append(best >= 0.5)
        found = rows.loc[condition, "corloc"]
        assert 0 < sum(hits) < 25
        assert (found["value"], found["n"]) == (pytest.approx(np.mean(hits)), 25)
        assert (found["low"], found["high"]) == pytest.approx(wilson(sum(hits), 25, 0.9))
    assert set(images["metric"]) == {"corloc"}
    assert images["seed"].isna().all()


@pytest.mark.parametrize("head", [None, 1])
def test_attended_boxes_are_those_of_dino_seg_image_by_image(made, head):
    dense = made.rows("test")[:25]
    for i, condition in enumerate(CONDITIONS[:2]):
        heads = np.stack([attention_of(dense, 7), attention_of(dense, 8 + i)], axis=2)
        arrays = {"k_02": keys_of(dense, i), "attention": attention_of(dense, i), "attention_heads": heads}
        made.write_features(condition, arrays, dense)
    out = run(made, step(head=head))
    rows = metrics_of(out, "dino_seg").set_index("intervention")
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


def test_a_head_that_the_model_lacks_is_refused(made):
    dense = made.rows("test")[:25]
    arrays = {"k_02": keys_of(dense, 0), "attention_heads": np.stack([attention_of(dense, 7)] * 2, axis=2)}
    made.write_features("baseline", arrays, dense)
    with pytest.raises(InputError, match=r"dino_seg\.head: 2 of a model with 2 heads; lower it"):
        run(made, step(conditions=["baseline"], head=2))


def test_a_condition_that_does_not_apply_has_one_row_with_the_reason(made):
    out = run(made, step())
    rows = metrics_of(out)
    absent = rows[rows["intervention"] == "ttr-4"]
    assert absent["note"].tolist() == [REASON]
    assert absent["value"].isna().all()
    assert "ttr-4" not in set(pd.read_parquet(out / "m.images.parquet")["intervention"])


def test_the_centre_box_is_chosen_on_training_images_and_scored_on_dense_ones(made):
    rows = metrics_of(run(made, step())).set_index(["intervention", "metric"])

    def hits(share, split):
        w, h = share * WIDTH / 2, share * HEIGHT / 2
        box = [WIDTH / 2 - w, HEIGHT / 2 - h, WIDTH / 2 + w, HEIGHT / 2 + h]
        truths = made.table["boxes"][made.rows(split)[:25] if split == "test" else made.rows(split)]
        return [max(slow_iou(box, truth) for truth in boxes) >= 0.5 for boxes in truths]

    shares = [round(0.05 * i, 2) for i in range(2, 21)]
    best = max(shares, key=lambda share: (sum(hits(share, "train")), -share))
    centre = rows.loc["baseline", "corloc_centre_box"]
    assert centre["value"] == pytest.approx(np.mean(hits(best, "test")))
    assert centre["note"] == f"covers {best:g} of each side, chosen on the training split"
    assert centre["n"] == 25
    assert rows.loc["baseline", "corloc_random_box"]["n"] == 25
    assert "corloc_centre_box" not in rows.loc["append-4"].index


def test_random_boxes_are_the_same_for_every_model_of_a_data_set(made, monkeypatch):
    drawn = []

    def spy(sizes, rng):
        drawn.append(random_boxes(sizes, rng))
        return drawn[-1]

    monkeypatch.setattr(corloc, "random_boxes", spy)
    run(made, step())
    run(made, step(conditions=["baseline"], k=1), "again")
    expected = random_boxes(np.array([[WIDTH, HEIGHT]] * 25), generator(0, "random boxes", "tiny"))
    for found in drawn:
        np.testing.assert_array_equal(found, expected)
    assert len(drawn) == 2  # once for each data set and model, at the baseline


def test_a_training_split_without_boxes_chooses_no_centre_box(made):
    made.table["boxes"] = made.table["boxes"].where(made.table["split"] == "test", None)
    made.write_manifest()
    rows = metrics_of(run(made, step())).set_index(["intervention", "metric"])
    assert rows.loc["baseline", "corloc_centre_box"]["note"] == "no training image has a box to choose it on"
    assert pd.isna(rows.loc["baseline", "corloc_centre_box"]["value"])
    assert rows.loc["baseline", "corloc"]["value"] > 0


def test_a_data_set_without_boxes_has_boxes_found_and_none_scored(made):
    made.table = made.table.drop(columns="boxes")
    made.write_manifest()
    out = run(made, step())
    assert metrics.read(out / "m.csv")["value"].isna().all()
    rows = metrics_of(out).set_index("intervention")
    assert rows["note"].to_dict() == {
        "baseline": "the data set has no boxes",
        "append-4": "the data set has no boxes",
        "ttr-4": REASON,
    }
    boxes = pd.read_parquet(out / "m.boxes.parquet")
    assert len(boxes) == 50
    assert boxes[["x0", "y0", "x1", "y1"]].notna().all().all()
    assert boxes["iou"].isna().all()
    with np.load(out / "m.steps.npz") as arrays:
        assert np.isnan(arrays["truth"]).all()
    # and what follows goes on with the readouts that there are
    for name in ("lost", "probe", "dense"):
        (made.root / "readouts" / name / "tiny").mkdir(parents=True)
    images = pd.read_parquet(out / "m.images.parquet")
    for name in ("lost", "dense"):
        images.to_parquet(made.root / "readouts" / name / "tiny/m.images.parquet")
    hit = pd.DataFrame({"image_id": ["x", "y"], "readout": "knn[cls]", "metric": "top1", "value": [0.0, 1.0]})
    hit = pd.concat([hit.assign(intervention=name) for name in CONDITIONS[:2]])
    hit.assign(seed=pd.array([None] * 4, dtype="Int64")).to_parquet(made.root / "readouts/probe/tiny/m.images.parquet")
    question = params.Comparison(question="?", a="m/append-4", b="m/baseline")
    statistics = params.Statistics(confidence=0.9, resamples=10)
    cfg = CompareStep(seed=0, dataset="tiny", with_text=[], comparisons=[question], statistics=statistics)
    compare.run(cfg, made.root / "readouts", made.root / "compared.csv")
    assert metrics.read(made.root / "compared.csv")["readout"].tolist() == ["knn[cls]"]


def test_boxes_on_some_dense_images_only_are_refused(made):
    made.table["boxes"] = made.table["boxes"].where(made.table["image_id"] != "i64", None)
    made.write_manifest()
    with pytest.raises(InputError, match=r"'tiny': image 'i64' has no box while others have; CorLoc needs one on"):
        run(made, step())
    assert not (made.root / "out").exists()


def test_the_layer_chooses_the_keys(made):
    boxes = {
        layer: pd.read_parquet(run(made, step(layer=layer), f"out{layer}") / "m.boxes.parquet").drop(columns="iou")
        for layer in (-1, 2, 0, -3)
    }
    pd.testing.assert_frame_equal(boxes[-1], boxes[2])
    pd.testing.assert_frame_equal(boxes[0], boxes[-3])
    assert not boxes[0].equals(boxes[2])


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        (3, "lost.layer: 3 is not one of the 3 blocks"),
        (-4, "lost.layer: -4 is not one of the 3 blocks"),
        (1, "holds no k_01; add 1 to extraction.projections.k"),
    ],
)
def test_a_layer_without_k_is_refused(made, layer, reason):
    with pytest.raises(InputError, match=reason):
        run(made, step(layer=layer))


def test_an_image_without_a_box_is_a_miss(made):
    dense = made.rows("test")[:25]
    arrays = {"k_02": np.zeros((25, 16, 3), dtype=np.float16), "attention": attention_of(dense, 0)}
    made.write_features("append-4", arrays, dense)
    out = run(made, step(conditions=["baseline", "append-4"]))
    boxes = pd.read_parquet(out / "m.boxes.parquet")
    boxes = boxes[boxes["intervention"] == "append-4"]
    assert boxes[["x0", "y0", "x1", "y1"]].isna().all().all()
    assert boxes["iou"].eq(0).all()
    rows = metrics_of(out).set_index(["intervention", "metric"])
    assert rows.loc["append-4", "corloc"]["value"] == 0


def test_pictures_show_each_step_in_pixels_of_what_the_model_saw(made):
    out = run(made, step(images=3))
    dense = made.rows("test")[:25]
    steps = lost.discover(lost.similarity(keys_of(dense, 0), False, True), (4, 4), 3)
    with np.load(out / "m.steps.npz") as arrays:
        names = [f"{c}/{what}" for c in CONDITIONS[:2] for what in ("box", "degree", "kept", "mask", "seed")]
        assert sorted(arrays) == sorted([*names, "grids", "image_id", "images", "sizes", "truth"])
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


def test_truth_that_is_found_whole_has_overlap_one(made):
    """Ground truth that fills patches exactly, through crop and scale, is hit with an overlap of 1."""
    dense = made.rows("test")[:25]
    keys = np.tile([1.0, 0.0], (25, 4, 4, 1))
    keys[:, 1:3, 2:4] = [-1.0, 0.0]
    arrays = {"k_02": keys.reshape(25, 16, 2).astype(np.float16), "attention": attention_of(dense, 0)}
    made.write_features("baseline", arrays, dense)
    box = slow_box([2, 1, 4, 3]).tolist()
    made.table["boxes"] = [[box]] * len(made.table)
    made.write_manifest()
    boxes = pd.read_parquet(run(made, step(conditions=["baseline"])) / "m.boxes.parquet")
    np.testing.assert_allclose(boxes["iou"], 1.0)


def test_chunks_do_not_show_and_same_params_make_same_bytes(made, monkeypatch):
    first = run(made, step())
    monkeypatch.setattr(corloc, "CHUNK", 7)
    second = run(made, step(), "again")
    names = ["m.boxes.parquet", "m.csv", "m.images.parquet", "m.steps.npz"]
    assert sorted(path.name for path in first.iterdir()) == names
    for name in names:
        assert (first / name).read_bytes() == (second / name).read_bytes()


def test_an_unreadable_image_leaves_nothing_behind(made):
    Image.new("RGB", (WIDTH, HEIGHT)).save(made.data / "images/61.png")
    (made.data / "images/61.png").write_bytes(b"not an image")
    with pytest.raises(InputError, match=r"61\.png"):
        run(made, step())
    assert not (made.root / "out").exists()
