"""Published data sets with a class for every image, as small files in their true layout."""

import json
import logging

import numpy as np
import pytest
from scipy.io import savemat
from torchvision.datasets import FGVCAircraft
from torchvision.datasets import Flowers102 as Flowers

from helpers.layouts import classification as files
from helpers.layouts.pictures import paint
from helpers.published import contents, prepared, refused


@pytest.fixture
def caltech(tmp_path):
    root = tmp_path / "caltech101"
    files.caltech101(root, {"BACKGROUND_Google": 3, "crab": 6, "ant": 5})
    return root


def test_caltech_101_has_so_many_training_images_of_each_class_and_no_background(caltech, tmp_path, caplog):
    before = contents(caltech)
    with caplog.at_level(logging.WARNING):
        made = prepared(tmp_path / "out", "caltech101", caltech, train_per_class=3)
    assert made.classes == ["ant", "crab"]
    counts = made.table.groupby(["split", "label"]).size().to_dict()
    assert counts == {("train", 0): 3, ("train", 1): 3, ("test", 0): 2, ("test", 1): 3}
    assert all(made.classes[label] in path for label, path in zip(made.table["label"], made.table["path"], strict=True))
    assert [record.getMessage() for record in caplog.records] == [
        "data set 'mine' differs from caltech101 as published: all has 11 images, published are 8,677 (a number from "
        "memory)"
    ]
    assert contents(caltech) == before
    again = prepared(tmp_path / "again", "caltech101", caltech, train_per_class=3)
    assert again.sha256 == made.sha256


def test_a_caltech_101_that_is_not_whole_is_refused(caltech, tmp_path):
    refused(tmp_path / "out", "split 'test' is empty", "caltech101", caltech, train_per_class=6)
    refused(tmp_path / "out", "this training image alone", "caltech101", caltech, train_per_class=1)
    expected = (
        r"none/101_ObjectCategories: no such folder; wanted in .*none: 101_ObjectCategories/<class>; to be had "
        r"\(unpack caltech-101\.zip\) from https://data\.caltech\.edu"
    )
    refused(tmp_path / "out", expected, "caltech101", tmp_path / "none")


def flowers_files(root, train=(1, 2, 3, 4), val=(5, 8), test=(7, 6), labels=(3, 3, 102, 102, 3, 102, 3, 3)):
    files.flowers102(root, labels, train, val, test)


@pytest.fixture
def flowers(tmp_path):
    root = tmp_path / "flowers-102"
    root.mkdir()
    flowers_files(root)
    return root


def test_flowers_102_has_the_split_and_the_labels_that_torchvision_reads(flowers, tmp_path, monkeypatch):
    before = contents(flowers)
    made = prepared(tmp_path / "out", "flowers102", flowers)
    monkeypatch.setattr(Flowers, "_check_integrity", lambda self: True)  # which knows the published files alone
    for split in ("train", "val", "test"):
        read = Flowers(flowers.parent, split)
        mine = made.table[made.table["split"] == split]
        assert mine["label"].tolist() == read._labels
        assert [flowers / path for path in mine["path"]] == read._image_files
    assert len(made.classes) == 102
    assert made.classes[2] == "canterbury bells"
    assert contents(flowers) == before


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda root: (root / "setid.mat").unlink(), r"setid\.mat: no such file; wanted in .*102flowers\.tgz, image"),
        (lambda root: (root / "imagelabels.mat").write_bytes(b"x" * 200), r"imagelabels\.mat: not a MATLAB file"),
        (lambda root: savemat(root / "setid.mat", {"trnid": [[1]]}), r"setid\.mat: has no 'valid'"),
        (lambda root: flowers_files(root, test=(9,)), r"setid\.mat: tstid: 9 is not one of 1 to 8"),
        (lambda root: flowers_files(root, labels=(0, *[3] * 7)), r"labels: 0 is not one of 1 to 102"),
        (lambda root: (root / "jpg/image_00007.jpg").unlink(), r"setid\.mat: row 7: .*image_00007\.jpg: no such image"),
    ],
)
def test_flowers_102_that_is_not_as_published_is_refused(flowers, tmp_path, change, expected):
    change(flowers)
    refused(tmp_path / "out", expected, "flowers102", flowers)


AIRCRAFT = {
    "variant": (["707-320", "A330 200"], {"train": "01 21 02 22", "val": "03", "test": "23 04"}),
    "manufacturer": (["Airbus", "Boeing"], {"train": "21 01 22 02", "val": "03", "test": "23 04"}),
}  # the first digit of an image is 0 for the 707, 2 for the A330


def labels_of(level):
    """The class of every image of each split."""
    of = {"0": "707-320", "2": "A330 200"} if level == "variant" else {"0": "Boeing", "2": "Airbus"}
    return {split: {image: of[image[0]] for image in images.split()} for split, images in AIRCRAFT[level][1].items()}


@pytest.fixture
def aircraft(tmp_path):
    root = tmp_path / "fgvc-aircraft-2013b"
    files.aircraft(root, {level: (classes, labels_of(level)) for level, (classes, _) in AIRCRAFT.items()})
    return root


@pytest.mark.parametrize("level", AIRCRAFT)
def test_aircraft_has_the_split_and_the_classes_of_a_level_that_torchvision_reads(aircraft, tmp_path, level):
    before = contents(aircraft)
    made = prepared(tmp_path / "out", "aircraft", aircraft, level=level)
    for split in ("train", "val", "test"):
        read = FGVCAircraft(aircraft.parent, split, level)
        mine = made.table[made.table["split"] == split]
        assert made.classes == read.classes
        assert mine["label"].tolist() == read._labels
        assert [str(aircraft / path) for path in mine["path"]] == read._image_files
    assert contents(aircraft) == before


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            lambda data: (data / "variants.txt").unlink(),
            r"variants\.txt: no such file; wanted in .*fgvc-aircraft-2013b",
        ),
        (lambda data: (data / "images_variant_val.txt").unlink(), r"images_variant_val\.txt: no such file; wanted"),
        (lambda data: (data / "images_variant_val.txt").write_text("03 A380\n"), r"_val\.txt: line 1: 'A380' is no cl"),
        (lambda data: (data / "images/23.jpg").unlink(), r"_test\.txt: line 1: no image 'data/images/23\.jpg' in"),
    ],
)
def test_aircraft_that_is_not_as_published_is_refused(aircraft, tmp_path, change, expected):
    change(aircraft / "data")
    refused(tmp_path / "out", expected, "aircraft", aircraft)


CATEGORIES = [{"id": 1, "name": "Corvus corax"}, {"id": 0, "name": "Apis mellifera"}]


def listing(images):
    """A JSON file of iNaturalist; ``images`` are category and number."""
    return {
        "images": [{"id": n, "file_name": f"train_val2018/Group/{c}/{n}.jpg"} for c, n in images],
        "annotations": [{"id": i, "image_id": n, "category_id": c} for i, (c, n) in enumerate(images)],
        "categories": CATEGORIES,
    }


TRAIN, VAL = [(1, 10), (0, 20), (1, 11), (0, 21)], [(0, 22), (1, 12)]


@pytest.fixture
def nature(tmp_path):
    root = tmp_path / "inaturalist"
    for category, number in TRAIN + VAL:
        paint(root / f"train_val2018/Group/{category}/{number}.jpg")
    for name, images in (("train", TRAIN), ("val", VAL)):
        (root / f"{name}2018.json").write_text(json.dumps(listing(images)))
    return root


def test_inaturalist_2018_has_the_images_of_its_json_files_and_classes_by_their_ids(nature, tmp_path):
    before = contents(nature)
    made = prepared(tmp_path / "out", "inaturalist", nature)
    assert made.classes == ["Apis mellifera", "Corvus corax"]
    assert made.table["label"].tolist() == [1, 0, 1, 0, 0, 1]
    assert made.table["split"].tolist() == ["train"] * 4 + ["test"] * 2
    assert made.table["path"].iloc[4] == "train_val2018/Group/0/22.jpg"
    assert contents(nature) == before


def rewrite(root, name, **changes):
    path = root / f"{name}2018.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda root: (root / "val2018.json").unlink(), r"val2018\.json: no such file; wanted in .*train_val2018\.tar"),
        (lambda root: (root / "val2018.json").write_text("{"), r"val2018\.json: not valid JSON"),
        (
            lambda root: rewrite(root, "val", images=[{"id": 1}]),
            r"val2018\.json: expected lists images \(id, file_name",
        ),
        (lambda root: rewrite(root, "val", annotations=[]), r"val2018\.json: image 22 has no annotation"),
        (
            lambda root: rewrite(root, "val", categories=[{"id": 0, "name": "Apis mellifera"}]),
            r"val2018\.json: image 12 is of category 1, which is not listed",
        ),
        (
            lambda root: rewrite(root, "val", categories=[*CATEGORIES, {"id": 2, "name": "x"}]),
            r"val2018\.json: has other categories than the training file",
        ),
        (lambda root: (root / "train_val2018/Group/1/12.jpg").unlink(), r"image 12: no file 'train_val2018/Group/1/12"),
    ],
)
def test_inaturalist_2018_that_is_not_as_published_is_refused(nature, tmp_path, change, expected):
    change(nature)
    refused(tmp_path / "out", expected, "inaturalist", nature)


@pytest.mark.parametrize(("names", "mini"), [(("train", "val"), False), (("2021_train_mini", "2021_valid"), True)])
def test_inaturalist_2021_has_the_species_of_its_folders(tmp_path, names, mini):
    root = tmp_path / "inaturalist2021"
    species = ["00000_Animalia_A_B_C_D_E_f", "00001_Plantae_A_B_C_D_E_f"]
    for name, number in zip(names, (2, 1), strict=True):
        for each in species:
            for i in range(number):
                paint(root / name / each / f"{name}-{each}-{i}.jpg")
    made = prepared(tmp_path / "out", "inaturalist", root, year=2021, mini=mini)
    assert made.classes == species
    assert made.table.groupby(["split", "label"]).size().to_dict() == {
        ("train", 0): 2, ("train", 1): 2, ("test", 0): 1, ("test", 1): 1
    }  # fmt: skip
    assert np.all([made.classes[label] in path for label, path in made.table[["label", "path"]].to_numpy()])
    expected = r"2021/val: no such folder; wanted in" if mini else r"2021/train_mini: no such folder; wanted in"
    if mini:
        (root / names[1]).rename(root / "gone")
    refused(tmp_path / "other", expected, "inaturalist", root, year=2021, mini=True)


def test_only_2021_has_a_mini_training_set(tmp_path):
    with pytest.raises(ValueError, match="mini: only 2021 has it"):
        prepared(tmp_path / "out", "inaturalist", tmp_path, mini=True)
