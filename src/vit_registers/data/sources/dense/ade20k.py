"""ADE20K's scene parsing benchmark (Zhou et al. 2017): a class for every pixel. The images stay where they are."""

from pathlib import Path
from typing import Any, Literal

import pandas as pd

from vit_registers.core.doors import read_text
from vit_registers.core.errors import InputError
from vit_registers.core.prose import escape, key
from vit_registers.data import manifest
from vit_registers.data.published.versions import FolderOfVersion
from vit_registers.params.bases import Published

SPLITS = {"training": "train", "validation": "test"}  # the test images are published without maps
UNLABELLED, CLASSES = 0, 150  # values of a map: 0, which is not scored, and the classes from 1


class Ade20k(FolderOfVersion):
    """ADE20K as ADEChallengeData2016: ``path`` holds images, annotations and objectInfo150.txt.

    Images have no label; the semantic map of each has 150 classes by their published number, and 0 where a pixel is of
    none of them, which is not scored. Its validation images test.
    """

    kind: Literal["ade20k"]

    def published(self) -> Published:
        """Training images, and validation images, which test here."""
        return Published("ade20k", self.path, {given: (split,) for given, split in SPLITS.items()})

    def prepare(self, name: str, seed: int, out: Path) -> None:
        """A row per image of both splits, each with its map."""
        root = Path(self.path)
        rows = [row for given, split in SPLITS.items() for row in self._rows(root, given, split)]
        classes: dict[str, Any] = {"semantic_classes": ["unlabelled", *self._names(root)], "ignore_index": UNLABELLED}
        table = manifest.check(pd.DataFrame(rows), [], root, str(root), **classes)
        manifest.write(out, table, [], name, **self.origin(), **classes)

    def _rows(self, root: Path, given: str, split: str) -> list[dict[str, str]]:
        images, maps = root / "images" / given, root / "annotations" / given
        for folder in (images, maps):
            if not folder.is_dir():
                raise self.missing(folder, "folder")
        rows = []
        for image in sorted(images.glob("*.jpg")):
            if not (maps / f"{image.stem}.png").is_file():
                raise InputError(f"{maps / image.stem}.png: no such map of image {image.name}; restore it")
            rows.append({"image_id": image.stem, "path": f"images/{given}/{image.name}", "split": split,
                         "semantic": f"annotations/{given}/{image.stem}.png"})  # fmt: skip
        if not rows:
            raise InputError(f"{images}: no images (*.jpg); {self.where()}")
        return rows

    def _names(self, root: Path) -> list[str]:
        """Names of the classes in the order of their numbers, from the table that comes with the images."""
        path = root / "objectInfo150.txt"
        text = read_text(path, "a table of classes", "restore the file", self.where())
        lines = [line.split("\t") for line in text.splitlines() if line.strip()]
        numbers = [line[0].strip() for line in lines[1:]]
        if numbers != [str(number) for number in range(1, CLASSES + 1)]:
            raise InputError(
                f"{path}: expected a header and a line for each of the classes 1 to {CLASSES}, its columns divided by "
                "tabs; restore the file"
            )
        return [line[-1].strip().split(",")[0] for line in lines[1:]]  # without synonyms

    def sentence(self, name: str) -> str:
        """Its maps and its split."""
        return (
            f"{key(name)} is ADE20K's scene parsing benchmark, {CLASSES} classes of pixels, with its validation images "
            f"as test split; unlabelled pixels are not scored (licence: {escape(self.licence)})."
        )
