"""Published data sets with a class or a depth for every pixel, as small files in their true layout."""

import json

import numpy as np
import pytest

from helpers.layouts.dense import ade20k_classes, ade20k_scene, nyu_frame, nyu_lists
from helpers.published import contents, prepared, refused, splits

VALUES = np.arange(96).reshape(8, 12)


@pytest.fixture
def ade20k(tmp_path):
    root = tmp_path / "ADEChallengeData2016"
    for part, names in (("training", ("ADE_train_1", "ADE_train_2")), ("validation", ("ADE_val_1",))):
        for i, name in enumerate(names):
            ade20k_scene(root, part, name, VALUES + 55 * i)
    ade20k_classes(root)
    return root


def test_ade20k_has_its_150_classes_by_their_numbers_and_0_is_not_scored(ade20k, tmp_path):
    before = contents(ade20k)
    made = prepared(tmp_path / "out", "ade20k", ade20k)
    assert splits(made) == {"train": ["ADE_train_1", "ADE_train_2"], "test": ["ADE_val_1"]}
    assert not made.labelled
    assert len(made.semantic_classes) == 151
    assert made.semantic_classes[150] == "class 150"
    assert made.ignore_index == 0
    assert np.array_equal(made.label_map(1), VALUES + 55)
    assert made.file(2, "semantic") == (ade20k / "annotations/validation/ADE_val_1.png").resolve()
    assert contents(ade20k) == before


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            lambda root: (root / "objectInfo150.txt").unlink(),
            r"objectInfo150\.txt: no such file; wanted in .*ADEChallengeData2016: images/training, ",
        ),
        (lambda root: (root / "objectInfo150.txt").write_text("Idx\tName\n1\twall\n"), "expected a header and a line"),
        (
            lambda root: (root / "annotations/validation/ADE_val_1.png").unlink(),
            r"annotations/validation/ADE_val_1\.png: no such map of image ADE_val_1\.jpg",
        ),
        (
            lambda root: (root / "annotations").rename(root / "maps"),
            r"annotations/training: no such folder; wanted in .*ADEChallengeData2016\.zip",
        ),
        (lambda root: (root / "images/validation/ADE_val_1.jpg").unlink(), r"images/validation: no images"),
        (
            lambda root: ade20k_scene(root, "training", "ADE_train_2", VALUES + 60),
            r"row 2: semantic 'annotations/training/ADE_train_2\.png' has the value 151",
        ),
        (
            lambda root: ade20k_scene(root, "training", "ADE_train_2", VALUES.T),
            r"row 2: .* has 8x12 pixels, its image 12x8",
        ),
    ],
)
def test_ade20k_that_is_not_as_published_is_refused(ade20k, tmp_path, change, expected):
    change(ade20k)
    refused(tmp_path / "out", expected, "ade20k", ade20k)


@pytest.fixture
def nyu(tmp_path):
    root = tmp_path / "nyu"
    frames = {"train": (("attic", "1"), ("attic", "2")), "test": (("bath", "1"),)}
    nyu_lists(root, {s: [nyu_frame(root, *each, 1000 * VALUES / 8) for each in of] for s, of in frames.items()})
    return root


def test_nyu_has_the_pairs_of_its_lists_in_metres(nyu, tmp_path):
    before = contents(nyu)
    made = prepared(tmp_path / "out", "nyu", nyu, crop=(1, 2, 11, 8))
    assert splits(made) == {"train": ["attic/rgb_1.jpg", "attic/rgb_2.jpg"], "test": ["bath/rgb_1.jpg"]}
    assert made.file(2, "depth") == (nyu / "bath/depth_1.png").resolve()
    scale = made.depth_scale
    assert (scale.per_metre, scale.nearest, scale.farthest, scale.window) == (1000, 0.001, 10, (1, 2, 11, 8))
    stored = (1000 * VALUES / 8).astype(np.int32)
    inside = [[y >= 2 and 1 <= x < 11 and 1 < stored[y, x] < 10_000 for x in range(12)] for y in range(8)]
    assert np.array_equal(scale.scored(stored), np.where(inside, stored, 0))
    assert (stored >= 10_000).any()
    assert contents(nyu) == before


def test_the_crop_of_nyu_is_that_of_eigen_unless_another_is_asked_for(nyu, tmp_path):
    assert prepared(tmp_path / "a", "nyu", nyu).depth_scale.window == (41, 45, 601, 471)
    assert prepared(tmp_path / "b", "nyu", nyu, crop=None).depth_scale.window is None
    assert "depth_scale" in json.loads((tmp_path / "b/dataset.json").read_text())


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            lambda root: (root / "nyu_test.txt").unlink(),
            r"nyu_test\.txt: no such file; wanted in .*nyu_train\.txt, nyu_t",
        ),
        (
            lambda root: (root / "nyu_test.txt").write_text("a b\n"),
            r"nyu_test\.txt: line 1: 'a b' is not: image, depth",
        ),
        (lambda root: (root / "bath/rgb_1.jpg").unlink(), r"nyu_test\.txt: line 1: no image 'bath/rgb_1\.jpg'"),
        (
            lambda root: (root / "attic/depth_2.png").unlink(),
            r"nyu_train\.txt: line 2: no depth map 'attic/depth_2\.png'",
        ),
        (lambda root: nyu_frame(root, "attic", "2", VALUES, np.uint8), r"row 2: .*expected a 16-bit depth map of 12x8"),
        (
            lambda root: nyu_frame(root, "attic", "2", VALUES.T),
            r"row 2: .*8x12 pixels; expected a 16-bit depth map of 12x8",
        ),
        (lambda root: (root / "nyu_test.txt").write_text(""), "split 'test' is empty"),
    ],
)
def test_nyu_that_is_not_as_published_is_refused(nyu, tmp_path, change, expected):
    change(nyu)
    refused(tmp_path / "out", expected, "nyu", nyu)


def test_an_impossible_range_or_crop_is_refused(nyu, tmp_path):
    with pytest.raises(ValueError, match="window: expected x0 < x1"):
        prepared(tmp_path / "out", "nyu", nyu, crop=(5, 0, 5, 8))
