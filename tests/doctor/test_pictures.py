"""Images of a folder: all that can be read, spread over it; those that cannot be are named."""

from pathlib import Path

import pytest
from PIL import Image

from vit_registers.core.errors import InputError
from vit_registers.doctor.pictures import EXAMPLES, examples, read, spread


def folder(root: Path, count: int) -> Path:
    (root / "b").mkdir(parents=True)
    for i in range(count):
        Image.new("RGB", (10 + i, 8), (i, i, i)).save(root / ("b" if i % 2 else "") / f"{i}.png")
    return root


def test_images_of_all_folders_below_are_read_in_order(tmp_path: Path) -> None:
    seen = read(folder(tmp_path / "x", 4), 50)
    assert [Path(path).name for path in seen.manifest.table["path"]] == ["0.png", "2.png", "1.png", "3.png"]
    assert seen.manifest.table["width"].tolist() == [10, 12, 11, 13]
    assert seen.manifest.file(3) == (tmp_path / "x" / "b" / "3.png").resolve()
    assert (seen.broken, seen.found, seen.credits) == ([], 4, [])
    assert len(seen.manifest.rows("test")) == 4


def test_two_broken_images_are_named_and_left_out(tmp_path: Path) -> None:
    root = folder(tmp_path / "x", 3)
    (root / "text.jpg").write_text("no image")
    whole = (root / "0.png").read_bytes()
    (root / "half.png").write_bytes(whole[: len(whole) // 2])
    seen = read(root, 50)
    assert len(seen.manifest.table) == 3
    assert [line.partition(": ")[0] for line in seen.broken] == [str(root / "half.png"), str(root / "text.jpg")]
    assert all("not an image" in line and "\n" not in line and "row" not in line for line in seen.broken)


def test_where_none_can_be_read_the_first_says_why(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("no image")
    (tmp_path / "b.png").write_text("no image")
    with pytest.raises(InputError, match=r"none of 2 images can be read: .*a\.png: not an image .* \(and 1 more\)$"):
        read(tmp_path, 50)


def test_no_folder_and_no_image(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="gone: no such folder of images; correct the path"):
        read(tmp_path / "gone", 50)
    with pytest.raises(InputError, match=r"no images in this folder \(looked for \.bmp, \.jpeg, "):
        read(tmp_path, 50)


def test_a_single_image(tmp_path: Path) -> None:
    folder(tmp_path / "x", 1)
    assert len(read(tmp_path / "x" / "0.png", 50).manifest.table) == 1


def test_at_most_so_many_are_taken_from_all_over_the_folder() -> None:
    paths = [Path(str(i)) for i in range(10)]
    assert [int(str(path)) for path in spread(paths, 4)] == [0, 2, 5, 7]
    assert spread(paths, 10) == spread(paths, 99) == paths
    assert [int(str(path)) for path in spread(paths, 1)] == [0]


def test_examples_are_photographs_with_credits() -> None:
    there = examples()
    assert {path.name for path in there} <= set(EXAMPLES)
    assert len(there) >= 2
    seen = read(None, 50)
    assert len(seen.credits) == len(seen.manifest.table) == len(there)
    assert all("CC BY" in credit or "public domain" in credit for credit in seen.credits)
    assert seen.manifest.table["width"].min() > 300
