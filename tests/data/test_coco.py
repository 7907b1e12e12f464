import json
import logging

import pytest

from helpers.layouts.objects import coco_content, coco_object
from helpers.layouts.pictures import paint
from vit_registers.core.errors import InputError
from vit_registers.data import prepare
from vit_registers.data.manifest import Manifest
from vit_registers.data.sources.objects.coco import Coco
from vit_registers.pipeline.configs import PrepareConfig


@pytest.fixture
def root(tmp_path):
    """Five cats (images 0 to 4) and five dogs (5 to 9) of 12x8 pixels."""
    for i in range(10):
        paint(tmp_path / f"{i}.png")
    return tmp_path


def content():
    return coco_content({f"{i}.png": 7 if i < 5 else 3 for i in range(10)}, {7: "cat", 3: "dog"})


def run(root, given, **changes):
    (root / "instances.json").write_text(given if isinstance(given, str) else json.dumps(given))
    changes = {"train_share": 0.4, **changes}
    source = Coco(kind="coco", images=str(root), annotations=str(root / "instances.json"), **changes)
    prepare.run(PrepareConfig(seed=0, name="coco", source=source), root / "out")
    return Manifest.load(root / "out").table.set_index("image_id")


def test_a_share_of_every_class_trains_and_the_others_test(root):
    table = run(root, content())
    assert Manifest.load(root / "out").classes == ["cat", "dog"]
    assert table["label"].tolist() == [0] * 5 + [1] * 5
    assert table.groupby(["split", "label"]).size().to_dict() == {
        ("test", 0): 3, ("test", 1): 3, ("train", 0): 2, ("train", 1): 2
    }  # fmt: skip
    assert [list(box) for box in table["boxes"].iloc[0]] == [[1, 2, 5, 7]]
    assert run(root, content())["split"].tolist() == table["split"].tolist()


def test_crowds_and_empty_boxes_go_boxes_are_clipped_and_the_largest_gives_the_label(root, caplog):
    given = content()
    given["annotations"] += [
        coco_object(105, 7, [-2, 1.5, 20, 6]),
        coco_object(100, 3, [0, 0, 12, 8], iscrowd=1),
        coco_object(101, 3, [3, 3, 5, 0]),
    ]
    with caplog.at_level(logging.INFO):
        table = run(root, given)
    assert [list(box) for box in table["boxes"].loc["5.png"]] == [[1, 2, 5, 7], [0, 1.5, 12, 7.5]]
    assert table["label"].tolist() == [0] * 6 + [1] * 4
    assert [len(boxes) for boxes in table["boxes"]] == [1] * 5 + [2] + [1] * 4
    assert "1 boxes left out" in caplog.text


def test_a_list_chooses_images_in_its_order_and_images_of_crowds_alone_are_left_out(root, caplog):
    given = content()
    given["annotations"][9]["iscrowd"] = 1
    (root / "list.txt").write_text("".join(f"train2014/{i}.png\n" for i in (9, 8, 7, 6, 5, 2, 1, 0, 3)))
    with caplog.at_level(logging.INFO):
        table = run(root, given, list=str(root / "list.txt"))
    assert table.index.tolist() == [f"{i}.png" for i in (8, 7, 6, 5, 2, 1, 0, 3)]
    assert "1 of 9 images left out: no object but crowds" in caplog.text


def test_all_listed_images_test_and_others_train(root, caplog):
    """As objects are discovered on all of COCO20k: nothing is drawn from its list, and no rare class left out."""
    given = content()
    given["annotations"] += [coco_object(104, 3, [0, 0, 12, 8], iscrowd=1)]
    (root / "coco_20k_filenames.txt").write_text("".join(f"train2014/{i}.png\n" for i in (7, 8, 0)))
    with caplog.at_level(logging.WARNING):
        table = run(root, given, list=str(root / "coco_20k_filenames.txt"), unlisted=5)
    assert table.index[:3].tolist() == ["7.png", "8.png", "0.png"]
    assert table["split"].tolist() == ["test"] * 3 + ["train"] * 5
    train = table[table["split"] == "train"]
    assert not set(train.index) & {"7.png", "8.png", "0.png"}
    assert sorted(train["label"].value_counts()) == [2, 3]  # as many of each class up to one
    assert caplog.records[-1].getMessage() == (
        "data set 'coco' differs from coco20k as published: list has 3 images, published are 19,817"
    )
    again = run(root, given, list=str(root / "coco_20k_filenames.txt"), unlisted=5)
    assert again.index.tolist() == table.index.tolist()
    whole = run(root, given, list=str(root / "coco_20k_filenames.txt"), unlisted=99)
    assert sorted(whole.index) == [f"{i}.png" for i in range(10)]


def test_what_unlisted_images_cannot_train_is_refused(root):
    given = content()
    (root / "list.txt").write_text("".join(f"{i}.png\n" for i in range(4)))  # leaves a single cat
    with pytest.raises(InputError, match="class 'cat' has this training image alone"):
        run(root, given, list=str(root / "list.txt"), unlisted=6)
    (root / "list.txt").write_text("".join(f"{i}.png\n" for i in range(5)))
    with pytest.raises(InputError, match="class 'cat' is in no training image"):
        run(root, given, list=str(root / "list.txt"), unlisted=6)
    with pytest.raises(ValueError, match="unlisted: expected a list of the images to test on"):
        run(root, given, unlisted=6)


def test_a_class_too_rare_to_split_is_refused_or_dropped(root, caplog):
    given = content()
    given["categories"].append({"id": 9, "name": "axe"})
    given["annotations"][0]["category_id"] = 9
    with pytest.raises(InputError, match=r"'axe' is the largest object of 1 images, .* set datasets\.coco\.rare to"):
        run(root, given)
    with caplog.at_level(logging.INFO):
        table = run(root, given, rare="drop")
    assert Manifest.load(root / "out").classes == ["cat", "dog"]
    assert len(table) == 9
    assert "1 images left out: of classes too rare to split: axe" in caplog.text


@pytest.mark.parametrize(("share", "training"), [(0.3, 2), (0.5, 2), (0.9, 4)])
def test_two_of_every_class_train_and_one_tests_whatever_the_share(root, share, training):
    table = run(root, content(), train_share=share)
    assert table.groupby(["split", "label"]).size().to_dict() == {
        ("test", 0): 5 - training, ("test", 1): 5 - training, ("train", 0): training, ("train", 1): training
    }  # fmt: skip
    with pytest.raises(InputError, match="no images"):
        run(root, content(), train_share=0.1, rare="drop")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda c: c.pop("categories"), "no list 'categories'"),
        (lambda c: c["categories"][0].pop("name"), "categories: expected an id and a name each"),
        (lambda c: c["images"][1].pop("width"), "image 2: expected id, file_name, width and height"),
        (lambda c: c["images"][1].update(id=100), "image 2: id 100 or file '1.png' is there already"),
        (lambda c: c["images"][1].update(file_name="0.png"), "image 2: id 101 or file '0.png' is there already"),
        (lambda c: c["annotations"][2].update(image_id=9), "annotation 3: expected image_id and category_id"),
        (lambda c: c["annotations"][2].update(category_id=1), "annotation 3: expected image_id and category_id"),
        (lambda c: c["annotations"][2].update(bbox=[1, 2, 3]), "annotation 3: .* bbox of four numbers"),
        (lambda c: c["images"][1].update(file_name="no.png"), r"row 2: .*no\.png: no such image"),
    ],
)
def test_what_is_no_coco_is_refused_in_one_line(root, change, expected):
    given = content()
    change(given)
    with pytest.raises(InputError, match=rf"instances\.json: {expected}") as refused:
        run(root, given)
    assert "\n" not in str(refused.value)
    assert not (root / "out").exists()


@pytest.mark.parametrize(("text", "expected"), [("{", "not valid JSON"), ("[]", "no list 'images'")])
def test_what_is_no_json_of_coco_is_refused(root, text, expected):
    with pytest.raises(InputError, match=rf"instances\.json: {expected}"):
        run(root, text)


def test_a_list_of_other_images_is_refused(root):
    (root / "list.txt").write_text("0.png\ntrain2014/77.png\n")
    with pytest.raises(InputError, match=r"list\.txt: image 'train2014/77\.png' is not in .*correct datasets\.coco\.l"):
        run(root, content(), list=str(root / "list.txt"))
    with pytest.raises(InputError, match=r"none\.txt: no such list of images; correct datasets\.coco\.list"):
        run(root, content(), list=str(root / "none.txt"))
