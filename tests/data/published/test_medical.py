"""Published data sets of medical images, as small files in their true layout."""

import numpy as np
import pandas as pd
import pytest
from sklearn.model_selection import train_test_split

from helpers.layouts.medical import aptos_part, orthonet_part, pacemaker
from helpers.layouts.pictures import paint
from helpers.published import contents, prepared, refused, splits


@pytest.fixture
def aptos(tmp_path):
    root = tmp_path / "aptos"
    aptos_part(root, "train_1.csv", "train", [0, 1, 2, 3, 4, 0, 1, 2, 3, 4])
    aptos_part(root, "valid.csv", "val", [4, 0])
    aptos_part(root, "test.csv", "test", [2, 1, 3])
    return root


def test_aptos_has_the_three_parts_and_the_grades(aptos, tmp_path):
    before = contents(aptos)
    made = prepared(tmp_path / "out", "aptos", aptos)
    assert {split: len(images) for split, images in splits(made).items()} == {"train": 10, "val": 2, "test": 3}
    assert made.table["label"].tolist() == [0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 4, 0, 2, 1, 3]
    assert made.classes[4] == "proliferative"
    assert made.table["path"].iloc[10] == "val_images/val_images/val0.png"
    assert contents(aptos) == before


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            lambda root: (root / "train_1.csv").unlink(),
            r"train_1\.csv: no such file; wanted in .*aptos: train_1\.csv, ",
        ),
        (lambda root: (root / "valid.csv").write_text("id_code,grade\nval0,4\n"), r"valid\.csv: no column 'diagnosis'"),
        (
            lambda root: (root / "valid.csv").write_text("id_code,diagnosis\nval0,\n"),
            r"valid\.csv: row 1: 'diagnosis' is empty",
        ),
        (
            lambda root: (root / "valid.csv").write_text("id_code,diagnosis\nval0,4\nval1,5\n"),
            r"valid\.csv: row 2: diagnosis '5' is not a grade",
        ),
        (
            lambda root: (root / "test_images/test_images/test2.png").unlink(),
            r"test\.csv: row 3: no image 'test_images/test_images/test2\.png'",
        ),
    ],
)
def test_aptos_that_is_not_as_published_is_refused(aptos, tmp_path, change, expected):
    change(aptos)
    refused(tmp_path / "out", expected, "aptos", aptos)


@pytest.fixture
def pacemakers(tmp_path):
    root = tmp_path / "pacemakers"
    pacemaker(root, ["BIO - Actros", "MDT - Adapta"])
    return root


def test_a_fifth_of_the_training_pacemakers_validate_as_the_published_code_draws_them(pacemakers, tmp_path):
    before = contents(pacemakers)
    made = prepared(tmp_path / "out", "pacemaker", pacemakers)
    found = splits(made)
    images = [f"Train/{label}/{label[:3]}{i}.JPG" for label in ("BIO - Actros", "MDT - Adapta") for i in range(10)]
    train, val = train_test_split(images, test_size=0.2, random_state=42, stratify=[p.split("/")[1] for p in images])
    assert set(found["train"]) == set(train)
    assert set(found["val"]) == set(val)
    assert len(val) == 4
    assert len(found["test"]) == 4
    assert made.table[made.table["split"] == "val"]["label"].value_counts().to_dict() == {0: 2, 1: 2}
    assert made.classes == ["BIO - Actros", "MDT - Adapta"]
    assert contents(pacemakers) == before


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            lambda root: (root / "Test").rename(root / "test"),
            r"/Test: no such folder; wanted in .*Train/<class>, Test/<",
        ),
        (lambda root: paint(root / "Test/New - One/0.JPG"), "class 'New - One' is in no training image"),
        (lambda root: paint(root / "Train/New - One/0.JPG"), "Train: no stratified split of it can be drawn"),
        (
            lambda root: [path.unlink() for path in (root / "Test").rglob("*.JPG")],
            r"/Test: no images in class folders; wanted in",
        ),
    ],
)
def test_pacemakers_that_are_not_as_published_are_refused(pacemakers, tmp_path, change, expected):
    change(pacemakers)
    refused(tmp_path / "out", expected, "pacemaker", pacemakers)


@pytest.fixture
def orthonet(tmp_path):
    root = tmp_path / "orthonet-data"
    orthonet_part(root, "train", ["Hip_Zimmer", "Knee_DePuy"] * 10)
    orthonet_part(root, "test", ["Knee_DePuy", "Hip_Zimmer"])
    return root


def test_a_fifth_of_the_training_rows_of_orthonet_validate_as_the_published_code_draws_them(orthonet, tmp_path):
    before = contents(orthonet)
    made = prepared(tmp_path / "out", "orthonet", orthonet)
    given = pd.read_csv(orthonet / "train.csv")
    train, val = train_test_split(given, test_size=0.2, random_state=42, stratify=given["labels"])
    found = splits(made)
    assert set(found["train"]) == set(train["filenames"])
    assert set(found["val"]) == set(val["filenames"])
    assert found["test"] == ["test0.png", "test1.png"]
    assert made.classes == ["Hip_Zimmer", "Knee_DePuy"]
    assert np.array_equal(made.table["label"].iloc[-2:], [1, 0])
    assert made.table["path"].iloc[-1] == "orthonet data/orthonet data/test1.png"
    assert contents(orthonet) == before


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            lambda root: (root / "train.csv").unlink(),
            r"train\.csv: no such file; wanted in .*orthonet-data: train\.csv, ",
        ),
        (
            lambda root: orthonet_part(root, "test", ["Knee_New"]),
            r"test\.csv: row 1: label 'Knee_New' is not in .*train\.csv",
        ),
        (
            lambda root: (root / "test.csv").write_text("filenames,labels\nno.png,Hip_Zimmer\n"),
            r"test\.csv: row 1: no image 'orthonet data/orthonet data/no\.png'",
        ),
        (lambda root: (root / "test.csv").write_text("file\nx\n"), r"test\.csv: no column 'filenames'"),
        (
            lambda root: orthonet_part(root, "train", ["Hip_Zimmer"] * 6 + ["Knee_DePuy"]),
            r"train\.csv: no stratified split of it can be drawn",
        ),
    ],
)
def test_orthonet_that_is_not_as_published_is_refused(orthonet, tmp_path, change, expected):
    change(orthonet)
    refused(tmp_path / "out", expected, "orthonet", orthonet)
