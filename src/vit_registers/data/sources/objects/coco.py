"""Images with COCO's instance annotations. The images stay where they are."""

import logging
import math
from collections import Counter
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal, Self

import numpy as np
import pandas as pd
from pydantic import Field, model_validator

from vit_registers.core.doors import read_json
from vit_registers.core.errors import InputError
from vit_registers.core.prose import count, escape, key, percent
from vit_registers.core.seeds import generator
from vit_registers.data import manifest, objects, splits
from vit_registers.data.published.versions import PublishedSource
from vit_registers.params.bases import Published

log = logging.getLogger(__name__)

Files = list[str]  # in the class below ``list`` is a key of params
Rows = list[objects.Row]
COCO20K = "coco_20k_filenames.txt"  # LOST's list of 19,817 images (simeoni2021)


class Coco(PublishedSource):
    """A folder of ``images`` with COCO's instance ``annotations``; ``list`` names those to take (COCO20k), else all.

    Crowds are dropped. The label of an image is the class of its largest object. COCO20k has no training part. With
    ``unlisted`` all listed images test, and so many of the annotated images that are not listed train probes, drawn
    with as many of each class up to one, while it has any. Without, ``train_share`` of each class is drawn from the
    listed images for probes, and objects are discovered on the others; a class too rare for two images to train on and
    one to test is refused, or, with ``rare: drop``, left out.
    """

    kind: Literal["coco"]
    images: str
    annotations: str
    list: str | None = None
    unlisted: Annotated[int, Field(ge=2)] | None = None
    train_share: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.2
    rare: Literal["refuse", "drop"] = "refuse"
    licence: str = "unknown"

    @model_validator(mode="after")
    def _unlisted_are_not_on_a_list(self) -> Self:
        if self.unlisted is not None and self.list is None:
            raise ValueError("unlisted: expected a list of the images to test on; give list, or leave unlisted out")
        return self

    def paths(self) -> dict[str, str]:
        """The folder of the images, the annotation file, and the list where there is one."""
        given = {"images": self.images, "annotations": self.annotations, "list": self.list}
        return {name: path for name, path in given.items() if path is not None}

    def tracked(self) -> Files:
        """The annotation file and the list."""
        return [path for path in (self.annotations, self.list) if path is not None]

    def published(self) -> Published | None:
        """COCO20k, by the name of LOST's list; its folder is that above the images."""
        if self.list is None or Path(self.list).name != COCO20K:
            return None
        tested = ("train", "test") if self.unlisted is None else ("test",)
        return Published("coco20k", str(Path(self.images).parent), {"list": tested})

    def prepare(self, name: str, seed: int, out: Path) -> None:
        """The listed images with the boxes of their objects, the class of the largest as label, and a drawn split."""
        root, path = Path(self.images), Path(self.annotations)
        if not root.is_dir():
            raise InputError(f"{root}: no such folder; correct datasets.{name}.images")
        content = _read(path, name)
        images = _images(content, path)
        wanted = _listed(Path(self.list), images, path, name) if self.list else [*images]
        found = _objects(content, images, path)
        rows = _rows(wanted, found, "test", path)
        if self.unlisted is None:
            table, classes = self._drawn_from(rows, name, seed)
        else:
            listed_files = set(wanted)
            others = [file for file in images if file not in listed_files]
            draw = generator(seed, "unlisted", name)
            table, classes = objects.table(rows + _some(_rows(others, found, "train", path), self.unlisted, draw))
        table = manifest.check(table, classes, root, str(path))
        manifest.two_to_train(table, classes, str(path))
        listed = f" ({Path(self.list).name})" if self.list else ""
        what = f"COCO {self.annotations}{listed}, class of largest object"
        manifest.write(out, table, classes, name, str(root.resolve()), what, self.licence)

    def _drawn_from(self, rows: Rows, name: str, seed: int) -> tuple[pd.DataFrame, Files]:
        """Rows of classes common enough, ``train_share`` of each class as training split."""
        table, classes = objects.table(_common(rows, self, name))
        if len(table):
            draw = generator(seed, "split", name)
            train = splits.stratified(table["label"].to_numpy(), self.train_share, draw, classes, self.annotations)
            table["split"] = np.where(train, "train", "test")
        return table, classes

    def sentence(self, name: str) -> str:
        """Its images, its boxes, its labels and how its split is drawn."""
        listed = f", the images of {key(self.list)}" if self.list else ""
        rare = "; classes too rare for that are left out" if self.rare == "drop" else ""
        split = (
            f"Of each class {percent(self.train_share)} are drawn as training split and the others test{rare}"
            if self.unlisted is None
            else f"All of these test; {count(self.unlisted)} other annotated images, drawn with as many of each class "
            "up to one, train"
        )
        return (
            f"{key(name)} is COCO{listed}, with the boxes of all objects but crowds; {objects.LARGEST}. {split} "
            f"(licence: {escape(self.licence)})."
        )


def _rows(files: Files, found: dict[str, list[objects.Annotated]], split: str, path: Path) -> Rows:
    """A row per image; images without an object are left out."""
    rows = [objects.row(file, split, found[file]) for file in files if file in found]
    if len(rows) < len(files):
        log.info("%s: %d of %d images left out: no object but crowds", path, len(files) - len(rows), len(files))
    return rows


def _some(rows: Rows, number: int, draw: np.random.Generator) -> Rows:
    """So many of the rows, as many of each class up to one."""
    labels = np.array([str(row["class"]) for row in rows])
    return [rows[place] for place in splits.subset(labels, number, draw)]


def _without_masks(read: dict[str, Any]) -> dict[str, Any]:
    """An object of the JSON less its outline: the outlines are most of the file, and gigabytes once they are lists."""
    read.pop("segmentation", None)
    return read


def _read(path: Path, name: str) -> dict[str, Any]:
    """The annotation file, or :class:`InputError` where it is not one."""
    correct = f"correct datasets.{name}.annotations"
    content: dict[str, Any] = read_json(path, damaged=correct, missing=correct, hook=_without_masks)
    for wanted in ("images", "annotations", "categories"):
        if not isinstance(content, dict) or not isinstance(content.get(wanted), list):
            raise InputError(
                f"{path}: no list '{wanted}'; expected COCO's instances; correct datasets.{name}.annotations"
            )
    return content


def _number(given: Any) -> float:
    """A finite number, or ValueError."""
    if isinstance(given, bool) or not isinstance(given, int | float) or not math.isfinite(given):
        raise ValueError(f"{given!r} is no finite number")
    return float(given)


def _side(given: Any) -> float:
    """A number of pixels above 0, or ValueError."""
    if _number(given) <= 0:
        raise ValueError(f"{given!r} is no size")
    return float(given)


def _id(given: Any) -> int:
    """A whole number, or ValueError."""
    if _number(given) != int(given):
        raise ValueError(f"{given!r} is no id")
    return int(given)


def _name(given: Any) -> str:
    """A text that is not empty, or ValueError."""
    if not isinstance(given, str) or not given:
        raise ValueError(f"{given!r} is no name")
    return given


def _images(content: dict[str, Any], path: Path) -> dict[str, tuple[int, float, float]]:
    """Id, width and height of every image, by the name of its file, in the file's order."""
    images: dict[str, tuple[int, float, float]] = {}
    ids: set[int] = set()
    for number, image in enumerate(content["images"], start=1):
        try:
            entry = (_id(image["id"]), _side(image["width"]), _side(image["height"]))
            file = _name(image["file_name"])
        except (KeyError, TypeError, ValueError, OverflowError):
            raise InputError(
                f"{path}: image {number}: expected id, file_name, width and height; correct or drop it"
            ) from None
        if file in images or entry[0] in ids:
            raise InputError(f"{path}: image {number}: id {entry[0]} or file '{file}' is there already; drop one")
        images[file] = entry
        ids.add(entry[0])
    return images


def _listed(given: Path, images: dict[str, Any], path: Path, name: str) -> list[str]:
    """Names in a list, each an image of the annotations; COCO20k's list has a folder before them, which is dropped."""
    lines = objects.lines(given, f"datasets.{name}.list")
    names = [line if line in images else PurePosixPath(line).name for line in lines]
    for line, file in zip(lines, names, strict=True):
        if file not in images:
            raise InputError(f"{given}: image '{line}' is not in {path}; correct datasets.{name}.list")
    return names


def _objects(
    content: dict[str, Any], images: dict[str, tuple[int, float, float]], path: Path
) -> dict[str, list[objects.Annotated]]:
    """Objects by file name, boxes clipped to the image; crowds are left out, and boxes outside of their image."""
    files = {image[0]: file for file, image in images.items()}
    found: dict[str, list[objects.Annotated]] = {}
    empty = outside = 0
    try:
        named = [(_id(category["id"]), _name(category["name"])) for category in content["categories"]]
    except (KeyError, TypeError, ValueError):
        raise InputError(f"{path}: categories: expected an id and a name each; correct them") from None
    classes = dict(named)
    if len(classes) < len(named) or len(set(classes.values())) < len(named):
        twice = [what for whats in zip(*named, strict=True) for what, times in Counter(whats).items() if times > 1]
        raise InputError(f"{path}: categories: {twice[0]!r} is there twice; keep one")
    for number, given in enumerate(content["annotations"], start=1):
        try:
            if given.get("iscrowd"):
                continue
            file, label = files[given["image_id"]], classes[given["category_id"]]
            x, y, width, height = (_number(value) for value in given["bbox"])
            if width < 0 or height < 0:
                raise ValueError("negative size")
        except (AttributeError, KeyError, TypeError, ValueError, OverflowError):
            raise InputError(
                f"{path}: annotation {number}: expected image_id and category_id that are there and a bbox of four "
                "numbers (x, y, width and height, finite and not negative); correct or drop it"
            ) from None
        wide, high = images[file][1:]
        box = [max(x, 0.0), max(y, 0.0), min(x + width, wide), min(y + height, high)]
        if box[0] < box[2] and box[1] < box[3]:
            found.setdefault(file, []).append(objects.Annotated(label, box))
            outside += max(-x, -y, x + width - wide, y + height - high) > 1.0  # pixels; less is rounding
        else:
            empty += 1
    if empty:
        log.info("%s: %d boxes left out: nothing of them lies within their image", path, empty)
    if outside:
        log.info("%s: %d boxes clipped: they reached out of their image", path, outside)
    return found


def _common(rows: list[objects.Row], source: Coco, name: str) -> list[objects.Row]:
    """Rows of classes with enough images for both splits: two to train on and one to test."""
    counts = Counter(str(row["class"]) for row in rows)
    rare = sorted(
        label for label, n in counts.items() if min(round(source.train_share * n), n - 1) < 2
    )  # as many as the draw takes; probes hold one of the two out to choose on
    if rare and source.rare == "refuse":
        raise InputError(
            f"{source.annotations}: '{rare[0]}' is the largest object of {counts[rare[0]]} images, of which a "
            f"train_share of {source.train_share:g} does not leave two to train on and one to test; raise "
            f"datasets.{name}.train_share or set datasets.{name}.rare to drop"
        )
    kept = [row for row in rows if row["class"] not in rare]
    if rare:
        log.info("%s: %d images left out: of classes too rare to split: %s", source.annotations,
                 len(rows) - len(kept), ", ".join(rare))  # fmt: skip
    return kept
