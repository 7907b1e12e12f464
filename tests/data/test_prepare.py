import json

import numpy as np
import pytest
from PIL import Image

from vit_registers.core.errors import InputError
from vit_registers.data import prepare
from vit_registers.data.manifest import Manifest
from vit_registers.pipeline.configs import PrepareConfig


def step(**source):
    return PrepareConfig.model_validate_json(json.dumps({"seed": 0, "name": "mine", "source": source}))


def paint(path, grey=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((8, 8, 3), grey, np.uint8)).save(path)


@pytest.mark.slow
def test_a_smaller_generated_data_set_is_the_beginning_of_a_larger_one(tmp_path):
    prepare.run(step(kind="generated", train=100, test=6), tmp_path / "small")
    prepare.run(step(kind="generated", train=260, test=8), tmp_path / "large")
    small, large = Manifest.load(tmp_path / "small"), Manifest.load(tmp_path / "large")
    assert len(small.table) == 106
    for split in ("train", "test"):
        for a, b in zip(small.rows(split), large.rows(split), strict=False):
            for column in ("path", "mask", "depth"):
                assert small.file(a, column).read_bytes() == large.file(b, column).read_bytes()


@pytest.mark.slow
def test_a_grey_data_set_is_the_same_without_colour(tmp_path):
    prepare.run(step(kind="generated", train=100, test=4), tmp_path / "colour")
    prepare.run(step(kind="generated", train=100, test=4, grey=True), tmp_path / "grey")
    colour, grey = Manifest.load(tmp_path / "colour"), Manifest.load(tmp_path / "grey")
    assert grey.table["label"].tolist() == colour.table["label"].tolist()
    for row in range(104):
        with Image.open(grey.file(row)) as picture, Image.open(colour.file(row)) as original:
            pixels = np.asarray(picture)
            assert (pixels == pixels[..., :1]).all()
            assert np.abs(pixels[..., 0].astype(int) - np.asarray(original.convert("L"))).max() <= 1
        assert grey.file(row, "mask").read_bytes() == colour.file(row, "mask").read_bytes()


def test_a_folder_gets_a_stratified_split_or_keeps_its_own(tmp_path):
    for i in range(10):
        paint(tmp_path / "drawn" / "ab"[i % 2] / "nested" / f"{i}.png", i)
        paint(tmp_path / "given" / ("test" if i < 4 else "train") / "ab"[i % 2] / f"{i}.PNG", i)
    prepare.run(step(kind="folder", path=str(tmp_path / "drawn"), test_share=0.4), tmp_path / "out")
    drawn = Manifest.load(tmp_path / "out")
    assert drawn.classes == ["a", "b"]
    assert drawn.table.groupby(["split", "label"]).size().to_dict() == {
        ("test", 0): 2, ("test", 1): 2, ("train", 0): 3, ("train", 1): 3
    }  # fmt: skip
    prepare.run(step(kind="folder", path=str(tmp_path / "given")), tmp_path / "out")
    given = Manifest.load(tmp_path / "out")
    assert len(given.rows("test")) == 4
    assert given.file(0).is_file()


def test_a_folder_called_val_is_the_test_split_unless_there_is_one_called_test(tmp_path):
    for i in range(8):
        paint(tmp_path / "photos" / ("val" if i < 2 else "train") / "ab"[i % 2] / f"{i}.png", i)
    prepare.run(step(kind="folder", path=str(tmp_path / "photos")), tmp_path / "out")
    table = Manifest.load(tmp_path / "out").table
    assert table["path"][table["split"] == "test"].tolist() == ["val/a/0.png", "val/b/1.png"]
    assert (table["split"] == "train").sum() == 6
    paint(tmp_path / "photos" / "test" / "b" / "9.png")
    prepare.run(step(kind="folder", path=str(tmp_path / "photos")), tmp_path / "out")
    table = Manifest.load(tmp_path / "out").table
    assert table["path"][table["split"] == "test"].tolist() == ["test/b/9.png"]
    assert len(table) == 7


def test_a_csv_keeps_its_split_its_nested_paths_and_its_boxes(tmp_path):
    lines = ["file,kind,part,x0,y0,x1,y1"]
    for i in range(6):
        paint(tmp_path / "images" / "deep" / "er" / f"{i}.png", i)
        lines.append(f"deep/er/{i}.png,{'cat' if i % 2 else 'dog'},{'test' if i < 2 else 'train'},0,1,{i + 2},8")
    (tmp_path / "list.csv").write_text("\n".join(lines))
    source = {
        "kind": "csv", "csv": str(tmp_path / "list.csv"), "root": str(tmp_path / "images"), "path_column": "file",
        "label_column": "kind", "split_column": "part", "box_columns": ("x0", "y0", "x1", "y1"),
    }  # fmt: skip
    prepare.run(step(**source), tmp_path / "out")
    read = Manifest.load(tmp_path / "out")
    assert read.classes == ["cat", "dog"]
    assert read.table["boxes"].iloc[3][0].tolist() == [0, 1, 5, 8]
    assert read.rows("test").tolist() == [0, 1]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("path,label,split\n0.png,,train\n", "row 1: 'label' is empty"),
        ("path,kind,split\n0.png,a,train\n", "no column 'label'; its columns are path, kind, split"),
        ("path,label,split\nno.png,a,train\n", r"row 1: .*no\.png: no such image"),
        ("path,label,split\n", "no images"),
        ("", "not a CSV file with a header"),
        ("path,label,split,image_id\n0.png,a,train,1\n0.png,a,train,2\n", "split 'test' is empty"),
        (
            "path,label,split,image_id\n0.png,b,test,1\n0.png,a,train,2\n0.png,a,train,3\n0.png,b,train,4\n",
            "row 4: class 'b' has this training image alone",
        ),
    ],
)
def test_a_bad_csv_leaves_the_older_data_set_as_it_was(tmp_path, text, expected):
    paint(tmp_path / "0.png")
    prepare.run(step(kind="generated", train=100, test=2), tmp_path / "out")
    before = (tmp_path / "out" / "manifest.parquet").read_bytes()
    (tmp_path / "list.csv").write_text(text)
    with pytest.raises(InputError, match=expected):
        prepare.run(step(kind="csv", csv=str(tmp_path / "list.csv"), root=str(tmp_path)), tmp_path / "out")
    assert (tmp_path / "out" / "manifest.parquet").read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["0.png", "list.csv", "out"]


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ([], "no images in class folders"),
        (["a/0.png"], "class 'a' has one image"),
        (["train/a/0.png"], "holds 'train' but not the other"),
        (["val/a/0.png"], "holds 'val' but not the other"),
        (["test/a/0.png", "val/a/0.png"], "holds 'test' but not the other"),
        (
            ["train/a/0.png", "train/a/1.png", "train/b/0.png", "test/b/0.png"],
            "class 'b' has this training image alone",
        ),
        (["a/0.png", "a/1.png"], "class 'a' has this training image alone"),
    ],
)
def test_a_bad_folder_is_refused(tmp_path, files, expected):
    (tmp_path / "photos").mkdir()
    for file in files:
        paint(tmp_path / "photos" / file)
    with pytest.raises(InputError, match=expected):
        prepare.run(step(kind="folder", path=str(tmp_path / "photos")), tmp_path / "out")
    assert not (tmp_path / "out").exists()
