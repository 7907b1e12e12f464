import logging

import pytest

from helpers.layouts.objects import spair, spair_annotation, spair_image
from vit_registers.core.errors import InputError
from vit_registers.data import prepare
from vit_registers.data.manifest import Manifest
from vit_registers.data.sources.objects.spair import SPair
from vit_registers.pipeline.configs import PrepareConfig

LISTS = {"trn": ["1-a-b:cat", "2-b-a:cat", "3-a-c:dog"], "val": ["1-d-e:dog"], "test": ["1-f-g:cat", "2-g-f:cat"]}


@pytest.fixture
def root(tmp_path):
    """An image of two classes, and others of one."""
    folder = tmp_path / "SPair-71k"
    spair(folder, LISTS)
    return folder


def run(root, out):
    prepare.run(PrepareConfig(seed=0, name="spair", source=SPair(kind="spair", path=str(root))), out)
    return Manifest.load(out)


def test_images_of_the_lists_stand_once_with_box_class_and_keypoints_in_the_order_of_their_numbers(root, tmp_path):
    made = run(root, tmp_path / "out")
    table = made.table.set_index("image_id")
    assert table["split"].to_dict() == {
        "cat/a": "train", "cat/b": "train", "dog/a": "train", "dog/c": "train", "dog/d": "val", "dog/e": "val",
        "cat/f": "test", "cat/g": "test",
    }  # fmt: skip
    assert made.classes == ["cat", "dog"]
    assert table["label"].tolist() == [0, 0, 1, 1, 1, 1, 0, 0]
    assert [list(box) for box in table["boxes"].iloc[0]] == [[1, 2, 11, 8]]
    assert made.keypoints(0).keypoints == [(3, 2, True), (-1, -1, False), (11, 7, True)]
    assert made.second_view(0) is None
    assert made.file(2) == (root / "JPEGImages/dog/a.jpg").resolve()


def test_a_keypoint_outside_of_its_image_is_not_visible(root, tmp_path, caplog):
    spair_image(root, "cat", "f", spair_annotation(kps={"0": [12, 3], "2": [4, 4], "10": None}))
    with caplog.at_level(logging.INFO):
        made = run(root, tmp_path / "out")
    row = made.table["image_id"].tolist().index("cat/f")
    assert [visible for _, _, visible in made.keypoints(row).keypoints] == [False, True, False]
    assert [record.getMessage() for record in caplog.records if "keypoints outside" in record.getMessage()]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda root: (root / "Layout/large/val.txt").unlink(), r"val\.txt: no such list of pairs"),
        (lambda root: (root / "Layout/large/val.txt").write_text(""), r"val\.txt: names no pair"),
        (
            lambda root: (root / "Layout/large/test.txt").write_text("1-f-g:cat\nfg:cat"),
            r"test\.txt: line 2: 'fg:cat' is not number-image-image:class",
        ),
        (lambda root: (root / "ImageAnnotation/cat/f.json").unlink(), r"cat/f\.json: no such annotation"),
        (lambda root: (root / "ImageAnnotation/cat/f.json").write_text("{"), r"cat/f\.json: not valid JSON"),
        (lambda root: (root / "ImageAnnotation/cat/f.json").write_text("[]"), r"cat/f\.json: not an object"),
        (lambda root: spair_image(root, "cat", "f", {"kps": {}}), r"cat/f\.json: lacks image_width"),
        (lambda root: spair_image(root, "cat", "f", spair_annotation(kps=[[1, 2]])), r"cat/f\.json: lacks image_width"),
        (lambda root: (root / "JPEGImages/cat/g.jpg").unlink(), r"row 8: .*g\.jpg: no such image"),
        (
            lambda root: spair_image(root, "cat", "f", spair_annotation(bndbox=[0, 0, 13, 8])),
            "row 7: box .* leaves the image",
        ),
        (lambda root: spair_image(root, "cat", "f", spair_annotation(kps={})), "cat/f"),
    ],
)
def test_what_is_not_as_published_is_refused_in_one_line(root, tmp_path, change, expected):
    change(root)
    with pytest.raises(InputError, match=expected) as refused:
        run(root, tmp_path / "out")
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "out").exists()
