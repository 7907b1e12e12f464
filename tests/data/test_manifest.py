import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from vit_registers.core.errors import InputError
from vit_registers.data import manifest
from vit_registers.data.manifest import Manifest


@pytest.fixture
def folder(tmp_path):
    for i in range(4):
        Image.fromarray(np.full((8, 12, 3), 40 * i, np.uint8)).save(tmp_path / f"{i}.png")
    return tmp_path


def rows(**changes):
    table = pd.DataFrame(
        {
            "image_id": ["a", "b", "c", "d"],
            "path": ["0.png", "1.png", "2.png", "3.png"],
            "split": ["train", "train", "test", "test"],
            "label": [0, 1, 0, 1],
            "boxes": [[[0.0, 0.0, 4.0, 4.0]]] * 4,
        }
    )
    for column, (row, value) in changes.items():
        table[column] = table[column].astype(object)
        table.loc[[row], column] = pd.Series([value], index=[row])
    return table


def test_a_manifest_reads_back_as_it_was_written(folder):
    table = manifest.check(rows(), ["x", "y"], folder, "mine")
    manifest.write(folder, table, ["x", "y"], "mine", ".", "here", "CC0")
    read = Manifest.load(folder)
    assert list(read.table["width"]) == [12] * 4
    assert list(read.table["height"]) == [8] * 4
    assert read.classes == ["x", "y"]
    assert read.rows("test").tolist() == [2, 3]
    assert read.file(1) == (folder / "1.png").resolve()
    with pytest.raises(InputError, match="no image in split 'val'; its splits are test, train"):
        read.rows("val")


def test_the_same_rows_give_the_same_bytes(folder):
    table = manifest.check(rows(), ["x", "y"], folder, "mine")
    written = []
    for name in ("one", "two"):
        manifest.write(folder / name, table, ["x", "y"], "mine", ".", "here", "CC0")
        written.append((folder / name / "manifest.parquet").read_bytes())
    assert written[0] == written[1]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"image_id": (2, "a")}, "row 3: image_id 'a' is there already"),
        ({"path": (1, "no.png")}, r"row 2: .*no\.png: no such image"),
        ({"path": (1, "../escape.png")}, "row 2: path '../escape.png' leaves the data set folder"),
        ({"label": (3, 2)}, "row 4: label 2 is not one of the 2 classes"),
        ({"label": (3, None)}, "row 4: label None"),
        ({"split": (0, "")}, "row 1: no split"),
        ({"boxes": (0, [[0.0, 0.0, float("nan"), 4.0]])}, "row 1: box .* not four finite numbers"),
        ({"boxes": (0, [[4.0, 0.0, 2.0, 4.0]])}, "row 1: box .* is empty or leaves the image of 12x8"),
        ({"boxes": (0, [[0.0, 0.0, 13.0, 4.0]])}, "row 1: box .* leaves the image of 12x8"),
    ],
)
def test_a_bad_row_is_refused_in_one_line_with_its_number(folder, changes, expected):
    with pytest.raises(InputError, match=f"^mine: {expected}") as refused:
        manifest.check(rows(**changes), ["x", "y"], folder, "mine")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("content", [b"not an image", None])
def test_an_image_that_does_not_decode_is_refused_with_its_row(folder, content):
    whole = (folder / "2.png").read_bytes()
    (folder / "2.png").write_bytes(content or whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"^mine: row 3: .*2\.png: cannot be read as an image"):
        manifest.check(rows(), ["x", "y"], folder, "mine")


def test_a_class_without_training_images_is_refused(folder):
    table = rows()
    table["label"] = [0, 0, 0, 1]
    with pytest.raises(InputError, match="row 4: class 'y' is in no training image"):
        manifest.check(table, ["x", "y"], folder, "mine")


def test_no_images_and_empty_splits_are_refused(folder):
    with pytest.raises(InputError, match="no images"):
        manifest.check(rows().iloc[:0], ["x", "y"], folder, "mine")
    table = manifest.check(rows().iloc[:2], ["x", "y"], folder, "mine")
    with pytest.raises(InputError, match="split 'test' is empty"):
        manifest.write(folder / "out", table, ["x", "y"], "mine", ".", "here", "CC0")
    assert not (folder / "out").exists()


def test_a_manifest_that_was_changed_by_hand_is_refused(folder):
    table = manifest.check(rows(), ["x", "y"], folder, "mine")
    manifest.write(folder, table, ["x", "y"], "mine", ".", "here", "CC0")
    metadata = json.loads((folder / "dataset.json").read_text())
    (folder / "dataset.json").write_text(json.dumps({**metadata, "sha256": "0" * 64}))
    with pytest.raises(InputError, match=r"not the file that dataset\.json records"):
        Manifest.load(folder)


def test_a_stratified_draw_takes_its_share_of_every_class_and_leaves_some():
    labels = np.repeat([0, 1, 2], [100, 10, 2])
    drawn = manifest.stratified(labels, 0.2, np.random.default_rng(0), ["a", "b", "c"], "mine")
    assert [int(drawn[labels == c].sum()) for c in range(3)] == [20, 2, 1]
    with pytest.raises(InputError, match="class 'b' has one image"):
        manifest.stratified(np.array([0, 0, 1]), 0.2, np.random.default_rng(0), ["a", "b"], "mine")
