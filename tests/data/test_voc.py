import logging

import pytest

from helpers.layouts.objects import voc
from helpers.layouts.objects import voc_annotation as annotation
from helpers.layouts.pictures import paint
from vit_registers.core.errors import InputError
from vit_registers.data import prepare
from vit_registers.data.manifest import Manifest
from vit_registers.data.sources.objects.voc import Voc
from vit_registers.pipeline.configs import PrepareConfig

CAT, DOG = ("cat", (1, 1, 12, 8), 0), ("dog", (3, 2, 6, 7), 0)
HARD = ("sheep", (1, 1, 12, 8), 1)


def run(root, out, **changes):
    source = Voc(kind="voc", path=str(root), **changes)
    prepare.run(PrepareConfig(seed=0, name="voc", source=source), out)
    return Manifest.load(out).table.set_index("image_id")


@pytest.fixture
def root(tmp_path):
    """Two cats and two dogs in VOC's list called test, one of each and an image with both in trainval."""
    folder = tmp_path / "VOC2007"
    images = {"000001": [CAT], "000002": [CAT], "000003": [DOG], "000004": [DOG], "000005": [DOG, CAT], "000006": [DOG]}
    voc(folder, images, {"test": ["000001", "000002", "000003", "000004"], "trainval": ["000005", "000006"]})
    return folder


def test_boxes_count_from_zero_and_the_largest_object_gives_the_label(root, tmp_path):
    (root / "Annotations/000006.xml").write_text(annotation([("dog", (2.5, 1.0, 7.25, 8), 0)]))
    table = run(root, tmp_path / "out")
    assert table["split"].tolist() == ["train"] * 4 + ["test"] * 2
    assert Manifest.load(tmp_path / "out").classes == ["cat", "dog"]
    assert table["label"].tolist() == [0, 0, 1, 1, 0, 1]
    boxes = [[list(box) for box in given] for given in table["boxes"]]
    assert boxes[4] == [[2, 1, 6, 7], [0, 0, 12, 8]]
    assert boxes[5] == [[1.5, 0, 7.25, 8]]
    assert table["path"].iloc[5] == "JPEGImages/000006.jpg"


def test_lists_are_named_in_params(root, tmp_path):
    table = run(root, tmp_path / "out", train="test", test="trainval")
    (root / "ImageSets/Main/some.txt").write_text("000006\n")
    assert len(run(root, tmp_path / "out", test="some")) == len(table) - 1


def test_difficult_objects_count_unless_they_are_dropped_and_with_them_images_of_nothing_else(root, tmp_path, caplog):
    (root / "Annotations/000001.xml").write_text(annotation([DOG, ("cat", (1, 1, 12, 8), 1)]))
    (root / "Annotations/000006.xml").write_text(annotation([("dog", (1, 1, 3, 3), 1)]))
    (root / "ImageSets/Main/test.txt").write_text("000001\n000002\n000003\n000004\n000007\n")
    (root / "Annotations/000007.xml").write_text(annotation([CAT]))
    paint(root / "JPEGImages/000007.jpg")
    table = run(root, tmp_path / "out")
    assert len(table["boxes"].iloc[0]) == 2
    assert table["label"].iloc[0] == 0
    assert len(table) == 7
    with caplog.at_level(logging.INFO):
        table = run(root, tmp_path / "out", difficult=False)
    assert len(table["boxes"].iloc[0]) == 1
    assert table["label"].iloc[0] == 1
    assert "JPEGImages/000006.jpg" not in table.index
    assert "1 of 2 test images left out: no object but difficult ones" in caplog.text
    assert "train images left out" not in caplog.text


@pytest.mark.parametrize(
    ("file", "text", "expected"),
    [
        ("ImageSets/Main/trainval.txt", None, r"trainval\.txt: no such list of images; correct datasets\.voc\.test"),
        ("ImageSets/Main/test.txt", "\n", r"test\.txt: names no images; .*correct datasets\.voc\.train"),
        ("ImageSets/Main/test.txt", "000001 -1\n", r"test\.txt: line 1: '000001 -1' is not the name of one image"),
        ("ImageSets/Main/trainval.txt", "000001\n", "image '000001' is in list 'test' and in 'trainval'"),
        ("Annotations/000002.xml", None, r"000002\.xml: no such annotation; restore it"),
        ("Annotations/000002.xml", "<annotation><size>", r"000002\.xml: not valid XML"),
        ("Annotations/000002.xml", "<annotation/>", r"000002\.xml: <annotation> has no size/width"),
        ("Annotations/000002.xml", annotation([]), r"000002\.xml: no object"),
        ("Annotations/000002.xml", annotation([(" ", (1, 1, 2, 2), 0)]), r"000002\.xml: object 1 has no name"),
        ("Annotations/000002.xml", annotation([("cat", (1, "one", 2, 2), 0)]), "bndbox/ymin is 'one'"),
        (
            "Annotations/000002.xml",
            annotation([("cat", (0, 1, 2, 2), 0)]),
            r"000002\.xml: box \[0.0, 1.0, .* leaves",
        ),
        ("Annotations/000002.xml", annotation([("cat", (1, 1, 13, 2), 0)]), r"leaves the image of 12x8"),
        ("Annotations/000002.xml", annotation([("cat", (1, 1, "nan", 2), 0)]), r"000002\.xml: box .* is empty or"),
        ("JPEGImages/000005.jpg", None, r"row 5: .*000005\.jpg: no such image"),
        ("Annotations/000005.xml", annotation([HARD]), "class 'sheep' is in no training image"),
    ],
)
def test_what_is_no_voc_is_refused_in_one_line(root, tmp_path, file, text, expected):
    if text is None:
        (root / file).unlink()
    else:
        (root / file).write_text(text)
    with pytest.raises(InputError, match=expected) as refused:
        run(root, tmp_path / "out")
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "out").exists()


def test_a_folder_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"no such folder; correct datasets\.voc\.path"):
        run(tmp_path / "nothing", tmp_path / "out")
