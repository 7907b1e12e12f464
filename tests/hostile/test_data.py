"""Data that is damaged or means harm: images, folders, CSV, VOC, COCO. One line with file and row; nothing is left."""

import json
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from vit_registers.data.images import load_image

Damage = Callable[[Path], Any]


def paint(path: Path, value: int = 0, size: tuple[int, int] = (12, 8)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (value, 40, 200)).save(path)


def bomb(width: int, height: int) -> bytes:
    """A PNG that says it is immense and holds nothing."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.fixture
def prepare(command, base, tmp_path):
    """Prepare a data set of some params, called ``mine``."""

    def called(**source: Any):
        change = {"datasets": {"mine": source}}
        (tmp_path / "mine.json").write_text(json.dumps(change))
        return command("prepare", "--dataset", "mine", "--params", str(base), "--params", "mine.json")

    return called


@pytest.fixture
def photos(tmp_path):
    """Images of two classes in folders, enough for a split."""
    for label in ("cat", "dog"):
        for i in range(4):
            paint(tmp_path / "photos" / label / f"{i}.png", i)
    return tmp_path / "photos"


# Folders and their images. Preparing makes data/prepared, and leaves it empty where it refuses.
EMPTY = {"data", "data/prepared", "data/prepared/smoke"}
IMAGES: dict[str, tuple[Damage, str]] = {
    "A5-bomb": (lambda f: f.write_bytes(bomb(50_000, 50_000)), "row 1: .*0.png: not an image .*exceeds limit"),
    "A5-wide": (lambda f: f.write_bytes(bomb(2**31 - 1, 1)), "0.png: not an image"),
    "A5-no-size": (lambda f: f.write_bytes(bomb(0, 0)), "0.png: not an image"),
    "no-pixels": (lambda f: f.write_bytes(bomb(12, 8)), "0.png: not an image"),
    "empty": (lambda f: f.write_bytes(b""), "0.png: not an image .*identify"),
    "text": (lambda f: f.write_bytes(b"<svg/>"), "0.png: not an image"),
    "html": (lambda f: f.write_bytes(b"<html>404</html>"), "0.png: not an image"),
    "short": (lambda f: f.write_bytes(f.read_bytes()[:40]), "0.png: not an image"),
    "zeros": (lambda f: f.write_bytes(bytes(5000)), "0.png: not an image"),
    "flipped": (lambda f: f.write_bytes(f.read_bytes()[:45] + b"xx" + f.read_bytes()[47:]), "0.png: not an image"),
    "B10-pipe": (lambda f: (f.unlink(), os.mkfifo(f)), "0.png: is no file but a pipe"),
    "device": (lambda f: (f.unlink(), f.symlink_to("/dev/zero")), "leaves the data set folder|is no file"),
    "dangling": (lambda f: (f.unlink(), f.symlink_to("nowhere.png")), "nowhere.png: no such image"),
    "loop": (lambda f: (f.unlink(), f.symlink_to(f.name)), "cat/0.png. leads nowhere"),
    "outside": (lambda f: (f.unlink(), f.symlink_to("/etc/hostname")), "leaves the data set folder"),
    "E2-float": (
        lambda f: (f.unlink(), Image.fromarray(np.ones((8, 12), np.float32)).save(f.with_suffix(".tif"))),
        r"0\.tif: holds floats, of which nothing says what is white",
    ),
    "E2-32-bit": (
        lambda f: (f.unlink(), Image.fromarray(np.ones((8, 12), np.int32)).save(f.with_suffix(".tif"))),
        r"0\.tif: holds 32-bit numbers",
    ),
    "A5-name": (
        lambda f: os.rename(f, os.fsencode(f.parent) + b"/caf\xe9.png"),
        r"its name is no text in UTF-8; rename it",
    ),
    "A5-class": (lambda f: os.rename(f.parent, os.fsencode(f.parent.parent) + b"/caf\xe9"), "no text in UTF-8; rename"),
    "name-newline": (lambda f: f.rename(f.with_name("a\nb.png")), "no text in UTF-8; rename"),
}


@pytest.mark.parametrize(("damage", "said"), IMAGES.values(), ids=IMAGES)
def test_an_image_of_a_folder(prepare, photos, damage, said):
    damage(photos / "cat" / "0.png")
    prepare(kind="folder", path="photos").refused(said, left=EMPTY)


FOLDERS: dict[str, tuple[Damage, str]] = {
    "missing": (lambda f: f.rename(f.with_name("other")), "photos: no such folder; correct datasets.mine.path"),
    "file": (lambda f: (f.rename(f.with_name("other")), f.write_text("")), "photos: no such folder"),
    "empty": (lambda f: [p.unlink() for p in f.rglob("*.png")], "no images in class folders"),
    "one-class-alone": (lambda f: [p.unlink() for p in sorted((f / "cat").iterdir())[1:]], "class 'cat' has one image"),
    "train-alone": (lambda f: paint(f / "train" / "a" / "0.png"), "holds 'train' but not the other"),
}


@pytest.mark.parametrize(("damage", "said"), FOLDERS.values(), ids=FOLDERS)
def test_a_folder_of_images(prepare, photos, damage, said):
    damage(photos)
    prepare(kind="folder", path="photos").refused(said, left=EMPTY)


def test_sixteen_bits_keep_their_ramp(tmp_path):
    """E2: PIL would clip them at 255."""
    ramp = np.linspace(0, 65535, 96).astype(np.uint16).reshape(8, 12)
    Image.fromarray(ramp).save(tmp_path / "ramp.png")
    Image.fromarray(ramp).save(tmp_path / "ramp.tif")
    for name in ("ramp.png", "ramp.tif"):
        assert np.array_equal(np.asarray(load_image(tmp_path / name))[..., 0], ramp >> 8)


def test_replaced_images_are_another_data_set(prepare, photos, tmp_path):
    """E1: features are keyed by the manifest's digest, which knows the bytes of all images."""
    from vit_registers.data.manifest import Manifest

    assert prepare(kind="folder", path="photos").status == 0
    before = Manifest.load(tmp_path / "data/prepared/smoke/mine").sha256
    assert prepare(kind="folder", path="photos").status == 0
    assert Manifest.load(tmp_path / "data/prepared/smoke/mine").sha256 == before
    paint(photos / "cat" / "0.png", 77)
    assert prepare(kind="folder", path="photos").status == 0
    assert Manifest.load(tmp_path / "data/prepared/smoke/mine").sha256 != before


def test_what_a_run_in_another_container_left_is_no_obstacle(prepare, photos, tmp_path):
    """E8: process ids come again; what the dead left goes."""
    left = tmp_path / "data/prepared/smoke" / f".mine.{os.getpid()}-1.partial"
    left.mkdir(parents=True)
    assert prepare(kind="folder", path="photos").status == 0
    assert not left.exists()


# CSV.
ROWS = "path,label,split\ncat/0.png,cat,train\ncat/1.png,cat,train\ncat/2.png,cat,test\ndog/0.png,dog,train\ndog/1.png,dog,train\ndog/2.png,dog,test\n"
TABLES: dict[str, tuple[bytes, str]] = {
    "A6-nul": (ROWS.replace("cat/1", "cat\0/1").encode(), "list.csv: .*a NUL byte in line 3"),
    "A6-trailing-commas": (ROWS.replace("\n", ",\n").replace("split,", "split", 1).encode(), "row 1 has 4 fields where the header has 3"),
    "few-fields": (ROWS.replace("cat/1.png,cat,train", "cat/1.png,cat").encode(), "row 2 has 2 fields"),
    "empty": (b"", "not a CSV file with a header"),
    "blank-lines": (b"\n\n\n", "not a CSV file with a header"),
    "header": (b"path,label,split\n", "no images"),
    "utf16": (ROWS.encode("utf-16"), "no text in UTF-8"),
    "latin1": (ROWS.replace("cat/0", "caf\xe9/0").encode("latin1"), "no text in UTF-8"),
    "binary": (bytes(range(256)) * 10, "no text in UTF-8"),
    "quote": (ROWS.replace("cat/1.png", '"cat/1.png').encode(), "not a CSV file with a header"),
    "long-field": (("path,label,split\n" + "x" * 200_000 + ",a,train\n").encode(), "field larger than field limit"),
    "column": (ROWS.replace("label", "kind").encode(), "no column 'label'; its columns are path, kind, split"),
    "column-twice": (ROWS.replace("path,label", "label,label").encode(), "column 'label' is there twice"),
    "empty-label": (ROWS.replace("cat/0.png,cat", "cat/0.png,").encode(), "row 1: 'label' is empty"),
    "E12-split-space": (ROWS.replace("cat,train", "cat,train ", 1).encode(), "row 1: 'split' is 'train '; take the spaces"),
    "label-space": (ROWS.replace(",dog,", ", dog,", 1).encode(), "'label' is ' dog'; take the spaces"),
    "no-test": (ROWS.replace("test", "train").encode(), "split 'test' is empty"),
    "path-twice": ((ROWS + "cat/0.png,cat,test\n").encode(), "row 7: image_id 'cat/0.png' is there already"),
    "path-up": (ROWS.replace("cat/1.png", "../secret.png").encode(), "row 2: path '../secret.png' leaves"),
    "path-absolute": (ROWS.replace("cat/1.png", "/etc/passwd").encode(), "row 2: path '/etc/passwd' leaves"),
    "path-folder": (ROWS.replace("cat/1.png", "cat").encode(), "row 2: .*cat: is a folder, expected an image"),
    "path-nowhere": (ROWS.replace("cat/1.png", "cat/9.png").encode(), "row 2: .*9.png: no such image"),
    "path-long": (ROWS.replace("cat/1.png", "x" * 300).encode(), "row 2: .*File name too long"),
    "class-in-test-alone": (ROWS.replace("dog,train", "dog,test").encode(), "class 'dog' is in no training image"),
    "class-of-one": (ROWS.replace("dog/1.png,dog,train\n", "").encode(), "class 'dog' has this training image alone"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "said"), TABLES.values(), ids=TABLES)
def test_a_table_of_images(prepare, photos, tmp_path, text, said):
    (tmp_path / "list.csv").write_bytes(text)
    prepare(kind="csv", csv="list.csv", root="photos").refused("list.csv", said, left=EMPTY)


def test_a_folder_in_place_of_a_table(prepare, photos, tmp_path):
    """A6."""
    (tmp_path / "list.csv").mkdir()
    prepare(kind="csv", csv="list.csv", root="photos").refused("list.csv: is a folder", left=EMPTY)


@pytest.mark.parametrize(
    ("corners", "said"),
    [
        ("0,0,4,four", "row 1: box .* is not four numbers"),
        ("0,0,4,nan", "row 1: box .* is not four finite numbers"),
        ("0,0,inf,4", "row 1: box .* is not four finite numbers"),
        ("4,0,0,4", "row 1: box .* is empty or leaves the image"),
        ("0,0,99,4", "row 1: box .* leaves the image"),
        ("-1,0,4,4", "row 1: box .* leaves the image"),
    ],
)
def test_boxes_of_a_table(prepare, photos, tmp_path, corners, said):
    header, *rows = ROWS.split()
    lines = [f"{header},a,b,c,d", f"{rows[0]},{corners}", *(f"{row},0,0,4,4" for row in rows[1:])]
    (tmp_path / "list.csv").write_text("\n".join(lines))
    columns = ["a", "b", "c", "d"]
    prepare(kind="csv", csv="list.csv", root="photos", box_columns=columns).refused(said, left=EMPTY)


# PASCAL VOC.
OBJECT = "<object><name>{}</name><difficult>0</difficult><bndbox><xmin>{}</xmin><ymin>1</ymin><xmax>6</xmax><ymax>6</ymax></bndbox></object>"
SIZE = "<size><width>12</width><height>8</height></size>"


def annotation(*objects: str, dtd: str = "") -> str:
    return f"<?xml version='1.0'?>{dtd}<annotation>{SIZE}{''.join(objects)}</annotation>"


@pytest.fixture
def voc(tmp_path):
    root = tmp_path / "VOC"
    for i in range(1, 9):
        paint(root / "JPEGImages" / f"{i}.jpg", i)
        (root / "Annotations").mkdir(exist_ok=True)
        (root / "Annotations" / f"{i}.xml").write_text(annotation(OBJECT.format("cat" if i % 2 else "dog", 1)))
    (root / "ImageSets/Main").mkdir(parents=True)
    (root / "ImageSets/Main/test.txt").write_text("1\n2\n3\n4\n")
    (root / "ImageSets/Main/trainval.txt").write_text("5\n6\n7\n8\n")
    return root


LAUGHS = (
    "<!DOCTYPE a [<!ENTITY a 'ha'>"
    + "".join(f"<!ENTITY {b} '{f'&{a};' * 10}'>" for a, b in zip("abcdefgh", "bcdefghi", strict=True))
    + "]>"
)
OUTSIDE = "<!DOCTYPE a [<!ENTITY x SYSTEM 'file:///etc/passwd'>]>"


def remade(name: str, text: str | bytes) -> Damage:
    return lambda root: (root / name).write_bytes(text if isinstance(text, bytes) else text.encode())


def folder(name: str) -> Damage:
    return lambda root: ((root / name).unlink(), (root / name).mkdir())


VOCS: dict[str, tuple[Damage, str]] = {
    "A7-list-folder": (folder("ImageSets/Main/test.txt"), "test.txt: is a folder, expected a list of images"),
    "A7-annotation-folder": (folder("Annotations/2.xml"), "2.xml: is a folder, expected valid XML"),
    "A7-list-nul": (remade("ImageSets/Main/test.txt", "1\n2\0\n"), "test.txt: .*a NUL byte in line 2"),
    "list-latin1": (remade("ImageSets/Main/test.txt", b"caf\xe9\n"), "test.txt: .*no text in UTF-8"),
    "list-up": (remade("ImageSets/Main/test.txt", "1\n../../../etc/passwd\n"), "test.txt: line 2: .*is not the name of one image"),
    "list-empty": (remade("ImageSets/Main/test.txt", ""), "test.txt: names no images"),
    "list-missing": (lambda root: (root / "ImageSets/Main/test.txt").unlink(), "test.txt: no such list of images"),
    "list-pipe": (lambda root: ((root / "ImageSets/Main/test.txt").unlink(), os.mkfifo(root / "ImageSets/Main/test.txt")), "test.txt: is no file"),
    "annotation-missing": (lambda root: (root / "Annotations/2.xml").unlink(), "2.xml: no such annotation"),
    "annotation-empty": (remade("Annotations/2.xml", ""), "2.xml: not valid XML"),
    "annotation-short": (remade("Annotations/2.xml", annotation()[:60]), "2.xml: not valid XML"),
    "annotation-binary": (remade("Annotations/2.xml", bytes(range(256))), "2.xml: not valid XML"),
    "entities": (remade("Annotations/2.xml", annotation(OBJECT.format("&i;", 1), dtd=LAUGHS)), "2.xml: not valid XML .*DTD"),
    "entity-file": (remade("Annotations/2.xml", annotation(OBJECT.format("&x;", 1), dtd=OUTSIDE)), "2.xml: not valid XML .*DTD"),
    "no-object": (remade("Annotations/2.xml", annotation()), "2.xml: no object"),
    "no-name": (remade("Annotations/2.xml", annotation(OBJECT.format(" ", 1))), "2.xml: object 1 has no name"),
    "box-word": (remade("Annotations/2.xml", annotation(OBJECT.format("cat", "one"))), "bndbox/xmin is 'one'"),
    "box-nan": (remade("Annotations/2.xml", annotation(OBJECT.format("cat", "nan"))), "2.xml: box .* is empty or leaves"),
    "box-infinite": (remade("Annotations/2.xml", annotation(OBJECT.format("cat", "-inf"))), "2.xml: box .* leaves"),
    "image-missing": (lambda root: (root / "JPEGImages/2.jpg").unlink(), "2.jpg: no such image"),
}  # fmt: skip


@pytest.mark.parametrize(("damage", "said"), VOCS.values(), ids=VOCS)
def test_pascal_voc(prepare, voc, damage, said):
    damage(voc)
    prepare(kind="voc", path="VOC").refused(said, left=EMPTY)


# COCO.
@pytest.fixture
def coco(tmp_path):
    for i in range(10):
        paint(tmp_path / "images" / f"{i}.png", i)
    return {
        "images": [{"id": i, "file_name": f"{i}.png", "width": 12, "height": 8} for i in range(10)],
        "annotations": [{"image_id": i, "category_id": i % 2, "bbox": [1, 1, 5, 5]} for i in range(10)],
        "categories": [{"id": 0, "name": "cat"}, {"id": 1, "name": "dog"}],
    }


INFINITE, NAN = float("inf"), float("nan")
COCOS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "A8-image-id-infinite": (lambda c: c["images"][1].update(id=INFINITE), "image 2: expected id"),
    "A8-category-id-infinite": (lambda c: c["categories"][1].update(id=INFINITE), "categories: expected an id"),
    "image-id-fraction": (lambda c: c["images"][1].update(id=1.5), "image 2: expected id"),
    "image-id-text": (lambda c: c["images"][1].update(id="one"), "image 2: expected id"),
    "image-id-true": (lambda c: c["images"][2].update(id=True), "image 3: expected id"),
    "image-id-list": (lambda c: c["images"][1].update(id=[1]), "image 2: expected id"),
    "image-id-twice": (lambda c: c["images"][1].update(id=0), "image 2: id 0 or file '1.png' is there already"),
    "B5-width-nan": (lambda c: c["images"][1].update(width=NAN), "image 2: expected id, file_name, width"),
    "B5-width-negative": (lambda c: c["images"][1].update(width=-3), "image 2: expected id, file_name, width"),
    "width-text": (lambda c: c["images"][1].update(width="12"), "image 2: expected id, file_name, width"),
    "file-number": (lambda c: c["images"][1].update(file_name=7), "image 2: expected id, file_name"),
    "file-up": (lambda c: c["images"][1].update(file_name="../base.json"), "leaves the data set folder"),
    "file-surrogate": (lambda c: c["images"][1].update(file_name="\ud800.png"), "half of a character"),
    "images-number": (lambda c: c.update(images=5), "no list 'images'"),
    "image-number": (lambda c: c["images"].append(5), "image 11: expected id"),
    "no-categories": (lambda c: c.pop("categories"), "no list 'categories'"),
    "B5-category-name-twice": (lambda c: c["categories"][1].update(name="cat"), "categories: 'cat' is there twice"),
    "category-id-twice": (lambda c: c["categories"][1].update(id=0), "categories: 0 is there twice"),
    "category-no-name": (lambda c: c["categories"][1].update(name=""), "categories: expected an id and a name"),
    "B5-box-nan": (lambda c: c["annotations"][2].update(bbox=[1, NAN, 5, 5]), "annotation 3: .*finite"),
    "B5-box-infinite": (lambda c: c["annotations"][2].update(bbox=[1, 1, INFINITE, 5]), "annotation 3: .*finite"),
    "B5-box-negative": (lambda c: c["annotations"][2].update(bbox=[5, 5, -4, 2]), "annotation 3: .*not negative"),
    "box-text": (lambda c: c["annotations"][2].update(bbox=["1", 1, 5, 5]), "annotation 3"),
    "box-null": (lambda c: c["annotations"][2].update(bbox=None), "annotation 3"),
    "box-three": (lambda c: c["annotations"][2].update(bbox=[1, 1, 5]), "annotation 3"),
    "annotation-list": (lambda c: c["annotations"].__setitem__(2, []), "annotation 3"),
    "annotation-of-nothing": (lambda c: c["annotations"][2].update(image_id=99), "annotation 3"),
    "annotation-of-list": (lambda c: c["annotations"][2].update(image_id=[1]), "annotation 3"),
    "category-of-nothing": (lambda c: c["annotations"][2].update(category_id=7), "annotation 3"),
    "rare": (lambda c: [a.update(category_id=0) for a in c["annotations"][2:]], "'dog' is the largest object of 1 images"),
}  # fmt: skip


@pytest.mark.parametrize(("damage", "said"), COCOS.values(), ids=COCOS)
def test_coco(prepare, coco, tmp_path, damage, said):
    damage(coco)
    (tmp_path / "instances.json").write_text(json.dumps(coco))
    ended = prepare(kind="coco", images="images", annotations="instances.json", train_share=0.4)
    ended.refused("instances.json", said, left=EMPTY)


TEXTS: dict[str, tuple[bytes, str]] = {
    "A8-deep": (b'{"images": ' + b"[" * 200_000, "not valid JSON: nested too deeply"),
    "nul": (b'{"images": "\0"}', "a NUL byte in line 1"),
    "utf16": ("{}".encode("utf-16"), "no text in UTF-8"),
    "short": (b'{"images": [', "not valid JSON"),
    "empty": (b"", "not valid JSON"),
    "number": (b"5", "no list 'images'"),
    "huge-number": (b'{"images": 1' + b"0" * 5000 + b"}", "not valid JSON .*digits"),
}


@pytest.mark.parametrize(("text", "said"), TEXTS.values(), ids=TEXTS)
def test_annotations_that_are_none(prepare, coco, tmp_path, text, said):
    (tmp_path / "instances.json").write_bytes(text)
    ended = prepare(kind="coco", images="images", annotations="instances.json")
    ended.refused("instances.json", said, left=EMPTY)


def test_what_lists_of_coco_must_not_name(prepare, coco, tmp_path):
    (tmp_path / "instances.json").write_text(json.dumps(coco))
    (tmp_path / "list.txt").write_text("0.png\n../../etc/passwd\n")
    ended = prepare(kind="coco", images="images", annotations="instances.json", list="list.txt")
    ended.refused("list.txt: image '../../etc/passwd' is not in", left=EMPTY)


# Generated data, which no file can spoil, and what a data set is called.
def test_names_with_a_plus_are_names(prepare, photos, tmp_path):
    """E13 (names of wildcards in Snakemake are in test_snakemake.py)."""
    assert prepare(kind="folder", path="photos", licence="{x} \\input{/etc/passwd} <script>").status == 0
