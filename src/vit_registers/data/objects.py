"""What PASCAL VOC and COCO share: lists of images, and one label for an image of several objects."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from vit_registers.core.doors import read_text
from vit_registers.core.errors import InputError

Row = dict[str, Any]
LARGEST = "the label of an image is the class of its largest object, by the area of the box"  # for the methods text


@dataclass(frozen=True)
class Annotated:
    """An annotated object: its class, and its box x0, y0, x1, y1 in pixels, 0-based, half-open."""

    name: str
    box: list[float]

    @property
    def area(self) -> float:
        """Of the box, in pixels."""
        x0, y0, x1, y1 = self.box
        return (x1 - x0) * (y1 - y0)


def lines(path: Path, key: str) -> list[str]:
    """Names of images, one per line; ``key`` is where params name the list.

    VOC's list of a single class has a second column, -1 where the class is absent. It names every image of the split,
    so it is refused rather than read as a list of images of that class.
    """
    given = read_text(path, "a list of images", f"correct {key}", noun="list of images").splitlines()
    names = []
    for number, line in enumerate(given, start=1):
        parts = line.split()
        if len(parts) > 1:
            raise InputError(f"{path}: line {number}: '{line}' is not the name of one image; correct {key}")
        names += parts
    if not names:
        raise InputError(f"{path}: names no images; expected one per line; correct {key}")
    return names


def row(path: str, split: str, objects: list[Annotated]) -> Row:
    """A row of the manifest, with the name of its class in place of the label.

    An image has several objects but classification needs one label: the class of the largest object, the first of
    equally large ones.
    """
    largest = max(objects, key=lambda found: found.area)
    boxes = [found.box for found in objects]
    return {"image_id": path, "path": path, "split": split, "class": largest.name, "boxes": boxes}


def table(rows: list[Row]) -> tuple[pd.DataFrame, list[str]]:
    """Rows as a table with labels, and the classes that the labels index."""
    classes = sorted({str(given["class"]) for given in rows})
    made = pd.DataFrame(rows, columns=["image_id", "path", "split", "class", "boxes"])
    made["label"] = made["class"].map(classes.index)
    return made, classes
