"""SPair-71k (Min et al. 2019): images of 18 classes with keypoints. The images stay where they are."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from vit_registers.core.doors import read_json, read_text
from vit_registers.core.errors import InputError
from vit_registers.core.prose import escape, key
from vit_registers.data import manifest
from vit_registers.data.correspondence import Keypoints
from vit_registers.data.published.versions import PublishedSource
from vit_registers.params.bases import Published

log = logging.getLogger(__name__)

SPLITS = {"trn": "train", "val": "val", "test": "test"}  # what SPair-71k's lists are called, and our splits
WHOLE = "expected SPair-71k's annotation of an image; restore the file"


class SPair(PublishedSource):
    """SPair-71k: ``path`` holds JPEGImages, ImageAnnotation and Layout, as unpacked.

    Its lists of pairs (``layout``: large or small) say which images are in which split; they are read for that alone,
    as keypoints correspond in any two images of a class. An image of two classes is two images here, each with the box
    and the keypoints of its own object.
    """

    kind: Literal["spair"]
    path: str
    layout: Literal["large", "small"] = "large"
    licence: str = "unknown"

    def paths(self) -> dict[str, str]:
        """The folder SPair-71k."""
        return {"path": self.path}

    def published(self) -> Published:
        """SPair-71k. Its images are not counted: one of two classes is two images here."""
        return Published("spair", self.path, {})

    def prepare(self, name: str, seed: int, out: Path) -> None:
        """The images of the three lists, each with its class, the box of its object and its keypoints."""
        root = Path(self.path)
        rows = [_row(root, *image, split) for given, split in SPLITS.items() for image in self._listed(given)]
        classes = sorted({row["class"] for row in rows})
        table = pd.DataFrame(rows)
        table["label"] = table["class"].map(classes.index)
        table = manifest.check(table, classes, root, str(root))
        manifest.two_to_train(table, classes, str(root))
        manifest.write(out, table, classes, name, str(root.resolve()), f"SPair-71k {self.path}", self.licence)

    def sentence(self, name: str) -> str:
        """Its images, and what is known of them."""
        return (
            f"{key(name)} is SPair-71k \\citep{{min2019}} (the images of its {self.layout} lists of pairs), with a "
            f"class, a box and keypoints for every image (licence: {escape(self.licence)})."
        )

    def _listed(self, given: str) -> Iterator[tuple[str, str]]:
        """Class and name of every image that a list of pairs has, each once, in its order."""
        path = Path(self.path) / "Layout" / self.layout / f"{given}.txt"
        unpacked = "expected SPair-71k as unpacked"
        lines = read_text(path, "a list of pairs", "restore the file", unpacked, "list of pairs").split()
        found: dict[tuple[str, str], None] = {}
        for number, line in enumerate(lines, start=1):
            pair, colon, label = line.partition(":")
            parts = pair.split("-")
            if not colon or len(parts) != 3 or "/" in line:
                raise InputError(f"{path}: line {number}: '{line}' is not number-image-image:class; restore the file")
            found |= {(label, image): None for image in parts[1:]}
        if not found:
            raise InputError(f"{path}: names no pair; restore the file")
        yield from found


def _row(root: Path, label: str, name: str, split: str) -> dict[str, Any]:
    """An image as a row of the manifest, with the name of its class in place of the label."""
    path = root / "ImageAnnotation" / label / f"{name}.json"
    given = _read(path)
    try:
        width, height = int(given["image_width"]), int(given["image_height"])
        box = [float(corner) for corner in given["bndbox"]]
        numbered = {int(number): place for number, place in given["kps"].items()}
        places = [numbered[number] for number in sorted(numbered)]
        if not places:
            raise ValueError
        points = [(-1.0, -1.0, False) if place is None else (float(place[0]), float(place[1]), True)
                  for place in places]  # fmt: skip
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError):
        raise InputError(f"{path}: lacks image_width, image_height, bndbox or kps, or has others; {WHOLE}") from None
    inside = [(x, y, seen and 0 <= x < width and 0 <= y < height) for x, y, seen in points]
    if inside != points:
        log.info("%s: keypoints outside of the image count as not visible", path)
    return {
        "image_id": f"{label}/{name}",
        "path": f"JPEGImages/{label}/{name}.jpg",
        "split": split,
        "class": label,
        "boxes": [box],
        "correspondence": Keypoints(keypoints=inside).model_dump_json(),
    }


def _read(path: Path) -> dict[str, Any]:
    """An annotation file."""
    lacking = "restore it or drop its pairs from the list"
    given = read_json(path, damaged="restore the file", missing=lacking, noun="annotation")
    if not isinstance(given, dict):
        raise InputError(f"{path}: not an object of JSON; {WHOLE}")
    return given
