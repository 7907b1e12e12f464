"""The manifest: one checked table per data set, and everything downstream reads only it."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vit_registers.core.doors import door, is_text, read_json, shown
from vit_registers.core.errors import InputError, reason
from vit_registers.core.files import digest, replacing, sha256, write_json
from vit_registers.data import first_look
from vit_registers.data.correspondence import Keypoints, Pair, parse
from vit_registers.data.depth import DepthScale
from vit_registers.data.images import load_depth, load_image, load_label_map

REQUIRED = ["image_id", "path", "split", "width", "height"]
COLUMNS = ["image_id", "path", "split", "label", "width", "height", "boxes", "mask", "depth", "semantic",
           "correspondence"]  # fmt: skip


@dataclass(frozen=True)
class Manifest:
    """A data set as downstream sees it. ``sha256`` is of its table and of all files that it names.

    ``table`` has one row per image: ``image_id`` (unique), ``path`` relative to ``root``, ``split``, ``width`` and
    ``height`` in pixels; and, null where unknown,

    - ``label``: index into ``classes``, on all images or on none,
    - ``boxes``: list of [x0, y0, x1, y1] in pixels, 0-based, half-open,
    - ``mask``: PNG of 0 and 255, 255 on the object of the image's class,
    - ``depth``: 16-bit PNG of the image's size, 0 where it is not known; in metres by ``depth_scale`` if there is one,
      else 1 is the largest value that a map can hold,
    - ``semantic``: label map, a PNG of the image's size whose values index ``semantic_classes``; pixels of value
      ``ignore_index`` are of no class and not scored (it may lie inside the class table or outside of it),
    - ``correspondence``: JSON text, see :mod:`vit_registers.data.correspondence`.
    """

    name: str
    table: pd.DataFrame
    classes: list[str]
    root: Path
    sha256: str
    semantic_classes: list[str] | None = None
    ignore_index: int | None = None
    depth_scale: DepthScale | None = None

    @classmethod
    def load(cls, folder: Path | str) -> "Manifest":
        """Read ``folder``'s dataset.json and manifest.parquet; refuse a manifest that is not the one recorded."""
        folder = Path(folder)
        again = f"run `vit-registers prepare --dataset {folder.name}` again"
        keys = ("name", "classes", "root", "sha256")
        metadata = read_json(folder / "dataset.json", *keys, damaged=again, missing=again)
        path = folder / "manifest.parquet"
        scale = metadata.get("depth_scale")
        with door(path, "a table in Parquet", again):
            if sha256(path) != metadata["sha256"]:
                raise InputError(f"{path}: not the file that dataset.json records; {again}")
            table = pd.read_parquet(path).reindex(columns=COLUMNS)
        return cls(
            name=metadata["name"],
            table=table,
            classes=metadata["classes"],
            root=(folder / metadata["root"]).resolve(),
            sha256=digest([metadata["sha256"], metadata["files"]]) if "files" in metadata else metadata["sha256"],
            semantic_classes=metadata.get("semantic_classes"),
            ignore_index=metadata.get("ignore_index"),
            depth_scale=None if scale is None else DepthScale.model_validate_json(json.dumps(scale)),
        )

    @property
    def labelled(self) -> bool:
        """Whether images have labels; where they have none there is nothing to classify."""
        return bool(self.classes)

    def rows(self, split: str) -> np.ndarray:
        """Row numbers of a split, ascending; an unknown split is refused."""
        rows = np.flatnonzero((self.table["split"] == split).to_numpy())
        if not len(rows):
            known = ", ".join(sorted(self.table["split"].unique()))
            raise InputError(f"data set '{self.name}': no image in split '{split}'; its splits are {known}")
        return rows

    def file(self, row: int, column: str = "path") -> Path:
        """Absolute path of the image of a row, or of its mask, depth or semantic map."""
        return self.root / str(self.table[column].iloc[row])

    def label_map(self, row: int) -> NDArray[np.int64]:
        """Semantic map (height, width) of a row that has one: indices into ``semantic_classes`` or ``ignore_index``."""
        return load_label_map(self.file(row, "semantic"))

    def correspondence(self, row: int) -> Pair | Keypoints | None:
        """The second view or the keypoints of a row, where it has them."""
        text = self.table["correspondence"].iloc[row]
        return None if pd.isna(text) else parse(text)

    def second_view(self, row: int) -> Pair | None:
        """The second view of the image of a row, where it has one."""
        known = self.correspondence(row)
        return None if known is None else known.second_view

    def keypoints(self, row: int) -> Keypoints | None:
        """The keypoints of the image of a row, where it has some."""
        known = self.correspondence(row)
        return None if known is None else known.of_class

    # Images by number: that of their row; numbers of second views go on behind the last row.

    def numbers_of_views(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Numbers of the second views of the images of some ``rows``."""
        return rows + len(self.table)

    def row_of(self, number: int) -> int:
        """The row of an image, or of that whose second view it is, by its number."""
        return number % len(self.table)

    def picture(self, number: int) -> Path:
        """Absolute path of an image by its number."""
        if number < len(self.table):
            return self.file(number)
        view = self.second_view(self.row_of(number))
        if view is None:
            raise ValueError(f"data set '{self.name}': row {self.row_of(number)} has no second view")
        return self.root / view.pair


def check(
    table: pd.DataFrame,
    classes: list[str],
    root: Path,
    source: str,
    read_images: bool = True,
    *,
    semantic_classes: list[str] | None = None,
    ignore_index: int | None = None,
) -> pd.DataFrame:
    """The table with width and height read from the images, or :class:`InputError` naming ``source``, row and reason.

    Rows are counted from 1, as a person counts lines below a header. Every image and label map is decoded, because a
    study that fails after hours on image 40,000 costs more than reading them once; ``read_images`` is off where the
    pipeline has just written them itself.
    """
    if not len(table):
        raise InputError(f"{source}: no images; expected at least one")
    table = table.reset_index(drop=True).reindex(columns=COLUMNS)
    _refuse_odd_names(table, classes, source)
    _unique_ids(table, source)
    table = first_look.taken(table, bool(classes), source)
    rules = _Rules(classes, semantic_classes, ignore_index, root, root.resolve(), read_images)
    sizes = []
    for row, image in enumerate(table.itertuples(index=False), start=1):
        with _named(f"{source}: row {row}"):
            sizes.append(rules.check(image))
    table["width"], table["height"] = [s[0] for s in sizes], [s[1] for s in sizes]
    if semantic_classes is not None and table["semantic"].isna().all():
        raise InputError(f"{source}: semantic classes, but no image has a label map; give one or drop the classes")
    if classes:
        table["label"] = table["label"].astype("int64")
        _classes_in_training(table, classes, source)
    return table


def _refuse_odd_names(table: pd.DataFrame, classes: list[str], source: str) -> None:
    """Names of files are bytes, and those of classes may come from them: what is no text cannot be written down."""
    named: list[tuple[str, Any]] = [("class", classes), *((column, table[column]) for column in ("image_id", "path"))]
    for what, values in named:
        for row, value in enumerate(values, start=1):
            text = str(value)
            if not is_text(text):
                where = what if what == "class" else f"row {row}: {what}"
                raise InputError(f"{source}: {where} {shown(text)} holds what is no text in UTF-8; rename it")


@contextmanager
def _named(where: str) -> Iterator[None]:
    """Open the message of what is refused inside by ``where``."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{where}: {error}") from None


def _unique_ids(table: pd.DataFrame, source: str) -> None:
    duplicated = table["image_id"].duplicated()
    if duplicated.any():
        row = int(np.flatnonzero(duplicated)[0])
        raise InputError(
            f"{source}: row {row + 1}: image_id '{table['image_id'][row]}' is there already; ids must differ"
        )


def _classes_in_training(table: pd.DataFrame, classes: list[str], source: str) -> None:
    in_training = set(table["label"][table["split"] == "train"])
    absent = table[~table["label"].isin(in_training)]
    if in_training and len(absent):
        row, label = int(absent.index[0]), int(absent["label"].iloc[0])
        raise InputError(
            f"{source}: row {row + 1}: class '{classes[label]}' is in no training image; add one or drop it"
        )


@dataclass(frozen=True)
class _Rules:
    """What every row of a data set has to fulfil."""

    classes: list[str]
    semantic_classes: list[str] | None
    ignore_index: int | None
    root: Path
    resolved: Path  # the root without links, against which paths are compared
    read: bool

    def check(self, image: Any) -> tuple[int, int]:
        """Width and height of the image of a row."""
        if not isinstance(image.split, str) or not image.split:
            raise InputError("no split; expected train or test")
        if image.split.strip() != image.split:
            raise InputError(f"split {image.split!r}; take the spaces around it away")
        if self.classes or not pd.isna(image.label):
            self._check_label(image.label)
        path = self._inside("path", image.path)
        size = load_image(path).size if self.read else (int(image.width), int(image.height))
        for box in image.boxes if image.boxes is not None and not np.isscalar(image.boxes) else []:
            _check_box(np.asarray(box, dtype=float), size)
        if not pd.isna(image.mask):
            self._existing("mask", image.mask)
        if not pd.isna(image.depth):
            depth = self._existing("depth", image.depth)
            if self.read:
                load_depth(depth, size)
        if not pd.isna(image.semantic):
            self._check_label_map(image.semantic, size)
        if not pd.isna(image.correspondence):
            self._check_correspondence(image.correspondence, size)
        return size

    def _inside(self, column: str, path: str) -> Path:
        try:
            full = (self.root / path).resolve()
        except (OSError, RuntimeError, ValueError) as error:  # links in a circle, NUL bytes
            raise InputError(f"{column} {path!r} leads nowhere ({reason(error)}); correct it") from None
        if not full.is_relative_to(self.resolved):
            raise InputError(f"{column} '{path}' leaves the data set folder {self.root}; move the file inside")
        return full

    def _existing(self, column: str, path: str) -> Path:
        full = self._inside(column, path)
        if not full.is_file():
            raise InputError(f"{column} '{path}': no such file in {self.root}; restore it or leave it out of the row")
        return full

    def _check_label(self, label: Any) -> None:
        if pd.isna(label) or not 0 <= int(label) < len(self.classes):
            raise InputError(f"label {label!r} is not one of the {len(self.classes)} classes")

    def _check_label_map(self, path: str, size: tuple[int, int]) -> None:
        full = self._existing("semantic", path)
        if self.semantic_classes is None:
            raise InputError(f"semantic '{path}', but the data set has no semantic classes; give their names")
        if not self.read:
            return
        values = load_label_map(full)
        if values.shape[::-1] != size:
            raise InputError(
                f"semantic '{path}' has {values.shape[1]}x{values.shape[0]} pixels, its image {size[0]}x{size[1]}; "
                "expected the size of the image"
            )
        known = [*range(len(self.semantic_classes)), *([] if self.ignore_index is None else [self.ignore_index])]
        unknown = np.setdiff1d(values, known)
        if len(unknown):
            raise InputError(
                f"semantic '{path}' has the value {unknown[0]}; expected 0 to {len(self.semantic_classes) - 1} (the "
                f"semantic classes) or the ignore index ({'none' if self.ignore_index is None else self.ignore_index})"
            )

    def _check_correspondence(self, text: str, size: tuple[int, int]) -> None:
        given = parse(text)
        for path in given.files:
            self._existing("pair", path)
        for x, y in given.points:
            if not (0 <= x < size[0] and 0 <= y < size[1]):
                raise InputError(f"keypoint [{x:g}, {y:g}] leaves the image of {size[0]}x{size[1]} pixels")


def _check_box(box: np.ndarray, size: tuple[int, int]) -> None:
    if box.shape != (4,) or not np.isfinite(box).all():
        raise InputError(f"box {box.tolist()} is not four finite numbers x0, y0, x1, y1")
    x0, y0, x1, y1 = box
    if not (0 <= x0 < x1 <= size[0] and 0 <= y0 < y1 <= size[1]):
        raise InputError(f"box {box.tolist()} is empty or leaves the image of {size[0]}x{size[1]} pixels")


def _content(table: pd.DataFrame, root: Path) -> str:
    """Digest of the bytes of all files that a manifest names: who replaces an image has another data set."""
    whole = hashlib.sha256()
    images: Any = table.itertuples(index=False)
    for image in images:
        pair = [] if pd.isna(image.correspondence) else parse(str(image.correspondence)).files
        named = [image.path, image.mask, image.depth, image.semantic, *pair]
        for name in (str(name) for name in named if not pd.isna(name)):
            whole.update(f"{name} {sha256(root / name)}\n".encode())
    return whole.hexdigest()


def two_to_train(table: pd.DataFrame, classes: list[str], source: str) -> None:
    """Refuse a class with a single training image, by its row: probes hold out a share of every class to choose on."""
    training = table[table["split"] == "train"]
    alone = training[~training["label"].duplicated(keep=False)]
    if len(alone):
        row, label = int(alone.index[0]), int(alone["label"].iloc[0])
        raise InputError(
            f"{source}: row {row + 1}: class '{classes[label]}' has this training image alone; validation needs "
            "another: add one or drop the class"
        )


def write(
    folder: Path,
    table: pd.DataFrame,
    classes: list[str],
    name: str,
    root: str,
    source: str,
    licence: str,
    *,
    semantic_classes: list[str] | None = None,
    ignore_index: int | None = None,
    depth_scale: DepthScale | None = None,
) -> None:
    """Write a checked table as manifest.parquet, then dataset.json, which makes the data set whole.

    Columns that hold nothing are left out, so that a further optional column changes no manifest that does without it.
    """
    empty = [split for split in ("train", "test") if not (table["split"] == split).any()]
    if empty:
        raise InputError(f"{source}: split '{empty[0]}' is empty; expected images in train and in test")
    columns = [column for column in COLUMNS if column in REQUIRED or table[column].notna().any()]
    with replacing(folder / "manifest.parquet") as temporary:
        table[columns].to_parquet(temporary, index=False, compression="zstd")
    metadata: dict[str, Any] = {
        "name": name,
        "classes": classes,
        "semantic_classes": semantic_classes,
        "ignore_index": ignore_index,
        "root": root,
        "source": source,
        "licence": licence,
        "images": dict(sorted(Counter(table["split"]).items())),
        "sha256": sha256(folder / "manifest.parquet"),
    }
    if root != ".":  # images that are made here follow from params and code, which are tracked
        metadata["files"] = _content(table, folder / root)
    if depth_scale is not None:
        metadata["depth_scale"] = depth_scale.model_dump()
    write_json(folder / "dataset.json", metadata)
