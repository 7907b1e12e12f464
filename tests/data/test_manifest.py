import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from vit_registers.core.errors import InputError
from vit_registers.data import manifest, splits
from vit_registers.data.correspondence import Keypoints, Pair
from vit_registers.data.gallery import choose
from vit_registers.data.manifest import Manifest
from vit_registers.params.statistics import Gallery


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
    with pytest.raises(InputError, match=r"^mine: row 3: .*2\.png: not an image"):
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
    drawn = splits.stratified(labels, 0.2, np.random.default_rng(0), ["a", "b", "c"], "mine")
    assert [int(drawn[labels == c].sum()) for c in range(3)] == [20, 2, 1]
    with pytest.raises(InputError, match="class 'b' has one image"):
        splits.stratified(np.array([0, 0, 1]), 0.2, np.random.default_rng(0), ["a", "b"], "mine")


def test_columns_that_hold_nothing_are_not_written_and_read_back_as_null(folder):
    table = manifest.check(rows(), ["x", "y"], folder, "mine")
    manifest.write(folder, table, ["x", "y"], "mine", ".", "here", "CC0")
    written = pd.read_parquet(folder / "manifest.parquet")
    assert list(written) == ["image_id", "path", "split", "label", "width", "height", "boxes"]
    assert Manifest.load(folder).table[["mask", "depth", "semantic", "correspondence"]].isna().all(axis=None)
    recorded = json.loads((folder / "dataset.json").read_text())
    assert (recorded["semantic_classes"], recorded["ignore_index"]) == (None, None)


def test_a_data_set_may_be_without_labels(folder):
    table = manifest.check(rows().drop(columns="label"), [], folder, "mine")
    manifest.write(folder, table, [], "mine", ".", "here", "CC0")
    read = Manifest.load(folder)
    assert not read.labelled
    assert read.table["label"].isna().all()
    assert choose(read, np.array([1, 2, 3]), Gallery(images=2, candidates=1)).tolist() == [0, 1]
    with pytest.raises(InputError, match="row 1: label 0 is not one of the 0 classes"):
        manifest.check(rows(), [], folder, "mine")


@pytest.fixture
def mapped(folder):
    """The images with label maps of three semantic classes, 255 ignored, one of them as a palette, and masks."""
    (folder / "maps").mkdir()
    for i in range(4):
        values = np.arange(96, dtype=np.uint8).reshape(8, 12) % 3
        values[0, : i + 1] = 255
        picture = Image.fromarray(values)
        if i == 3:
            picture.putpalette(list(range(256)) * 3)
        picture.save(folder / "maps" / f"{i}.png")
    return folder


MAPS = [f"maps/{i}.png" for i in range(4)]
SEMANTIC = {"semantic_classes": ["sky", "grass", "sheep"], "ignore_index": 255}


def test_a_semantic_map_reads_back_with_its_classes(mapped):
    table = manifest.check(rows().assign(semantic=MAPS), ["x", "y"], mapped, "mine", **SEMANTIC)
    manifest.write(mapped, table, ["x", "y"], "mine", ".", "here", "CC0", **SEMANTIC)
    read = Manifest.load(mapped)
    assert read.semantic_classes == ["sky", "grass", "sheep"]
    assert read.ignore_index == 255
    for row in range(4):
        values = read.label_map(row)
        assert values.shape == (8, 12)
        assert (values == 255).sum() == row + 1
        assert values[1].tolist() == [0, 1, 2] * 4
    # Not every image needs one, and 16 bits are as good as 8.
    Image.fromarray(np.full((8, 12), 300, np.uint16)).save(mapped / "maps/0.png")
    wide = {"semantic_classes": [f"thing {i}" for i in range(301)], "ignore_index": None}
    table = rows().assign(semantic=["maps/0.png", None, None, None])
    assert manifest.check(table, ["x", "y"], mapped, "mine", **wide)["semantic"].notna().sum() == 1


@pytest.mark.parametrize(
    ("changes", "semantic", "expected"),
    [
        ({"semantic": (1, "no.png")}, SEMANTIC, "row 2: semantic 'no.png': no such file"),
        ({"semantic": (1, "../a.png")}, SEMANTIC, "row 2: semantic '../a.png' leaves the data set folder"),
        ({"semantic": (1, "maps/1.png")}, {}, "row 2: semantic 'maps/1.png', but the data set has no semantic classes"),
        (
            {"semantic": (2, "maps/2.png")},
            SEMANTIC | {"ignore_index": None},
            r"row 3: semantic 'maps/2.png' has the value 255; expected 0 to 2 .* or the ignore index \(none\)",
        ),
        (
            {"semantic": (2, "maps/2.png")},
            {"semantic_classes": ["sky", "grass"], "ignore_index": 255},
            r"row 3: semantic 'maps/2.png' has the value 2; expected 0 to 1 .* \(255\)",
        ),
        ({"semantic": (0, "0.png")}, SEMANTIC, r"row 1: .*0\.png: not a label map: PIL's mode RGB"),
        ({"semantic": (0, "small.png")}, SEMANTIC, "row 1: semantic 'small.png' has 4x3 pixels, its image 12x8"),
        ({"semantic": (0, None)}, SEMANTIC, "semantic classes, but no image has a label map"),
        ({"mask": (3, "no.png")}, {}, "row 4: mask 'no.png': no such file"),
        ({"mask": (3, "../no.png")}, {}, "row 4: mask '../no.png' leaves the data set folder"),
        ({"depth": (3, "maps")}, {}, "row 4: depth 'maps': no such file"),
    ],
)
def test_a_wrong_map_is_refused_in_one_line_with_its_row(mapped, changes, semantic, expected):
    Image.fromarray(np.zeros((3, 4), np.uint8)).save(mapped / "small.png")
    table = rows()
    for column in changes:
        table[column] = None
    for column, (row, value) in changes.items():
        table.loc[row, column] = value
    with pytest.raises(InputError, match=f"^mine: {expected}") as refused:
        manifest.check(table, ["x", "y"], mapped, "mine", **semantic)
    assert "\n" not in str(refused.value)


PAIR = {"pair": "1.png", "matrix": [[1, 0, 0.5], [0, 1, -2]]}
KEYPOINTS = {"keypoints": [[0, 7.5, True], [-1, -1, False], [11.9, 0, True]]}


def test_correspondence_reads_back_in_both_forms(folder):
    texts = [json.dumps(PAIR), None, json.dumps(KEYPOINTS), None]
    table = manifest.check(rows().assign(correspondence=texts), ["x", "y"], folder, "mine")
    manifest.write(folder, table, ["x", "y"], "mine", ".", "here", "CC0")
    read = Manifest.load(folder)
    assert read.correspondence(0) == Pair(pair="1.png", matrix=((1, 0, 0.5), (0, 1, -2)))
    assert read.correspondence(2) == Keypoints(keypoints=[(0, 7.5, True), (-1, -1, False), (11.9, 0, True)])
    assert read.table["correspondence"].isna().tolist() == [False, True, False, True]
    assert read.correspondence(1) is None
    assert (read.second_view(0), read.keypoints(0)) == (read.correspondence(0), None)
    assert (read.second_view(2), read.keypoints(2)) == (None, read.correspondence(2))


def test_second_views_have_numbers_of_their_own_behind_the_last_row(folder):
    texts = [None, json.dumps(PAIR), None, None]
    table = manifest.check(rows().assign(correspondence=texts), ["x", "y"], folder, "mine")
    manifest.write(folder, table, ["x", "y"], "mine", ".", "here", "CC0")
    read = Manifest.load(folder)
    (number,) = read.numbers_of_views(np.array([1]))
    assert number == len(read.table) + 1
    assert read.row_of(number) == read.row_of(1) == 1
    assert read.picture(number) == read.root / "1.png"
    assert [read.picture(row) for row in range(4)] == [read.file(row) for row in range(4)]
    with pytest.raises(ValueError, match="row 2 has no second view"):
        read.picture(number + 1)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (PAIR | {"pair": "no.png"}, "pair 'no.png': no such file"),
        (PAIR | {"pair": "../no.png"}, "pair '../no.png' leaves the data set folder"),
        (PAIR | {"matrix": [[1, 0, 0]]}, "correspondence .* is neither a pair with a 2x3 matrix nor keypoints"),
        (PAIR | {"matrix": [[1, 0, 0], [0, 1, float("nan")]]}, "correspondence .* is neither a pair"),
        (PAIR | KEYPOINTS, "correspondence .* is neither a pair"),
        ({"keypoints": []}, "correspondence .* is neither a pair"),
        ({"keypoints": [[1, 2]]}, "correspondence .* is neither a pair"),
        ({"keypoints": [[1, 2, True], [12, 2, True]]}, r"keypoint \[12, 2\] leaves the image of 12x8 pixels"),
        ({"keypoints": [[1, -0.5, True]]}, r"keypoint \[1, -0.5\] leaves the image of 12x8 pixels"),
    ],
)
def test_wrong_correspondence_is_refused_in_one_line_with_its_row(folder, given, expected):
    table = rows().assign(correspondence=[None, json.dumps(given), None, None])
    with pytest.raises(InputError, match=f"^mine: row 2: {expected}") as refused:
        manifest.check(table, ["x", "y"], folder, "mine")
    assert "\n" not in str(refused.value)
