"""The manifest: one checked table per data set, and everything downstream reads only it."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from vit_registers.core.errors import InputError
from vit_registers.core.files import read_json, replacing, sha256, write_json
from vit_registers.data.images import image_size

COLUMNS = [
    "image_id",
    "path",
    "split",
    "label",
    "width",
    "height",
    "boxes",
    "mask",
    "depth",
    "pair",
    "pair_matrix",
]


@dataclass(frozen=True)
class Manifest:
    """A data set as downstream sees it.

    ``table`` has one row per image: ``image_id`` (unique), ``path`` relative to ``root``, ``split``, ``label`` (index
    into ``classes``), ``width`` and ``height`` in pixels; and, null where unknown, ``boxes`` ([x0, y0, x1, y1] in
    pixels, 0-based, half-open), ``mask`` (PNG of 0 and 255), ``depth`` (16-bit PNG), ``pair`` (a second view) with
    ``pair_matrix`` (2x3, row-major, maps pixel centres of the image onto the pair).
    """

    name: str
    table: pd.DataFrame
    classes: list[str]
    root: Path
    sha256: str

    @classmethod
    def load(cls, folder: Path | str) -> "Manifest":
        """Read ``folder``'s dataset.json and manifest.parquet; refuse a manifest that is not the one recorded."""
        folder = Path(folder)
        card = read_json(folder / "dataset.json")
        path = folder / "manifest.parquet"
        if not path.is_file():
            raise InputError(f"{path}: no such file; prepare the data set again")
        if sha256(path) != card["sha256"]:
            raise InputError(f"{path}: not the file that dataset.json records; prepare the data set again")
        root = (folder / card["root"]).resolve()
        return cls(card["name"], pd.read_parquet(path), card["classes"], root, card["sha256"])

    def rows(self, split: str) -> np.ndarray:
        """Row numbers of a split, ascending; an unknown split is refused."""
        rows = np.flatnonzero((self.table["split"] == split).to_numpy())
        if not len(rows):
            known = ", ".join(sorted(self.table["split"].unique()))
            raise InputError(f"data set '{self.name}': no image in split '{split}'; its splits are {known}")
        return rows

    def file(self, row: int, column: str = "path") -> Path:
        """Absolute path of the image of a row, or of its mask, depth or pair."""
        return self.root / str(self.table[column].iloc[row])


def check(table: pd.DataFrame, classes: list[str], root: Path, source: str, read_images: bool = True) -> pd.DataFrame:
    """The table with width and height read from the images, or :class:`InputError` naming ``source``, row and reason.

    Rows are counted from 1, as a person counts lines below a header. Every image is opened and verified, because a
    study that fails after hours on image 40,000 costs more than reading them once.
    """
    if not len(table):
        raise InputError(f"{source}: no images; expected at least one")
    table = table.reset_index(drop=True).reindex(columns=COLUMNS)
    base = root.resolve()
    duplicated = table["image_id"].duplicated()
    if duplicated.any():
        row = int(np.flatnonzero(duplicated)[0])
        raise InputError(
            f"{source}: row {row + 1}: image_id '{table['image_id'][row]}' is there already; ids must differ"
        )
    sizes = []
    for row, (path, label, split, boxes) in enumerate(
        zip(table["path"], table["label"], table["split"], table["boxes"], strict=True)
    ):
        where = f"{source}: row {row + 1}"
        if not isinstance(split, str) or not split:
            raise InputError(f"{where}: no split; expected train or test")
        if pd.isna(label) or not 0 <= int(label) < len(classes):
            raise InputError(f"{where}: label {label!r} is not one of the {len(classes)} classes")
        full = (root / path).resolve()
        if not full.is_relative_to(base):
            raise InputError(f"{where}: path '{path}' leaves the data set folder {root}; move the image inside")
        size = image_size(full, where) if read_images else (int(table["width"][row]), int(table["height"][row]))
        sizes.append(size)
        for box in boxes if boxes is not None and not np.isscalar(boxes) else []:
            _check_box(np.asarray(box, dtype=float), size, where)
    table["width"], table["height"] = [s[0] for s in sizes], [s[1] for s in sizes]
    table["label"] = table["label"].astype("int64")
    in_training = set(table["label"][table["split"] == "train"])
    absent = table[~table["label"].isin(in_training)]
    if in_training and len(absent):
        row, label = int(absent.index[0]), int(absent["label"].iloc[0])
        raise InputError(
            f"{source}: row {row + 1}: class '{classes[label]}' is in no training image; add one or drop it"
        )
    return table


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


def _check_box(box: np.ndarray, size: tuple[int, int], where: str) -> None:
    if box.shape != (4,) or not np.isfinite(box).all():
        raise InputError(f"{where}: box {box.tolist()} is not four finite numbers x0, y0, x1, y1")
    x0, y0, x1, y1 = box
    if not (0 <= x0 < x1 <= size[0] and 0 <= y0 < y1 <= size[1]):
        raise InputError(f"{where}: box {box.tolist()} is empty or leaves the image of {size[0]}x{size[1]} pixels")


def stratified(
    labels: np.ndarray, share: float, rng: np.random.Generator, classes: list[str], source: str
) -> np.ndarray:
    """Boolean mask (n,) of a stratified draw: of every class ``share`` of its images, at least one, never all."""
    drawn = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        if len(rows) < 2:
            raise InputError(f"{source}: class '{classes[label]}' has one image; a stratified split needs two or more")
        count = min(max(round(share * len(rows)), 1), len(rows) - 1)
        drawn[rng.permutation(rows)[:count]] = True
    return drawn


def write(
    folder: Path, table: pd.DataFrame, classes: list[str], name: str, root: str, source: str, licence: str
) -> None:
    """Write a checked table as manifest.parquet, then dataset.json, which makes the data set whole."""
    empty = [split for split in ("train", "test") if not (table["split"] == split).any()]
    if empty:
        raise InputError(f"{source}: split '{empty[0]}' is empty; expected images in train and in test")
    with replacing(folder / "manifest.parquet") as temporary:
        table[COLUMNS].to_parquet(temporary, index=False, compression="zstd")
    card: dict[str, Any] = {
        "name": name,
        "classes": classes,
        "root": root,
        "source": source,
        "licence": licence,
        "images": dict(sorted(Counter(table["split"]).items())),
        "sha256": sha256(folder / "manifest.parquet"),
    }
    write_json(folder / "dataset.json", card)
