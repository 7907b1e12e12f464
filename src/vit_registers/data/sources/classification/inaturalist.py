"""iNaturalist 2018 by its JSON files, and 2021 by its folders. The images stay where they are."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, Self

import pandas as pd
from pydantic import model_validator

from vit_registers.core.doors import read_json
from vit_registers.core.errors import InputError
from vit_registers.core.prose import escape, key
from vit_registers.data import folders, manifest
from vit_registers.data.published.versions import FolderOfVersion
from vit_registers.params.bases import Published

SPLITS_2018 = {"train2018.json": "train", "val2018.json": "test"}  # the test images are published without classes
FOLDERS_2021 = {  # as the archives have them, and as torchvision renames them
    "train": ("train", "2021_train"),
    "train_mini": ("train_mini", "2021_train_mini"),
    "val": ("val", "2021_valid"),
}
Labelled = tuple[pd.DataFrame, list[str]]


class INaturalist(FolderOfVersion):
    """iNaturalist of a ``year``, its validation images as test split, as the published test images have no classes.

    2018: ``path`` holds train2018.json, val2018.json and train_val2018. 2021: it holds train (or, with ``mini``,
    train_mini, 50 images of each species) and val.
    """

    kind: Literal["inaturalist"]
    year: Literal[2018, 2021] = 2018
    mini: bool = False

    @model_validator(mode="after")
    def _mini_is_of_2021(self) -> Self:
        if self.mini and self.year == 2018:
            raise ValueError("mini: only 2021 has it; set year to 2021 or leave mini out")
        return self

    def published(self) -> Published:
        """Training images, and validation images, which test here."""
        train = "train_mini" if self.mini else "train"
        return Published(f"inaturalist{self.year}", self.path, {train: ("train",), "val": ("test",)})

    def prepare(self, name: str, seed: int, out: Path) -> None:
        """A row per image of both splits."""
        root = Path(self.path)
        read: dict[int, Callable[[Path], Labelled]] = {2018: self._by_json, 2021: self._by_folders}
        table, classes = read[self.year](root)
        table = manifest.check(table, classes, root, str(root))
        manifest.two_to_train(table, classes, str(root))
        manifest.write(out, table, classes, name, **self.origin())

    def _by_json(self, root: Path) -> Labelled:
        """Images of both JSON files with their species, which both have to know alike."""
        tables, classes = [], None
        for file, split in SPLITS_2018.items():
            path = root / file
            content = read_json(path, damaged="restore the file", missing=self.where())
            rows, species = _listed(content, path, split, root)
            if classes is not None and species != classes:
                raise InputError(f"{path}: has other categories than the training file; restore both")
            tables.append(rows)
            classes = species
        return pd.concat(tables), list(classes or [])

    def _by_folders(self, root: Path) -> Labelled:
        """Images of the folders of species, which are numbered from 0."""
        rows = []
        for given, split in (("train_mini" if self.mini else "train", "train"), ("val", "test")):
            base = next((root / known for known in FOLDERS_2021[given] if (root / known).is_dir()), None)
            if base is None:
                raise self.missing(root / given, "folder")
            rows += folders.rows(root, base, split)
        table = pd.DataFrame(rows, columns=["image_id", "path", "split", "class"])
        classes = sorted(table["class"].unique())
        table["label"] = table["class"].map(classes.index)
        return table, classes

    def sentence(self, name: str) -> str:
        """Its year, its training images and which images test."""
        mini = " (its mini training set)" if self.mini else ""
        return (
            f"{key(name)} is iNaturalist {self.year}{mini}, with its validation images as test split "
            f"(licence: {escape(self.licence)})."
        )


def _listed(content: Any, path: Path, split: str, root: Path) -> Labelled:
    """Images of a JSON file with the label of each, and the names of the labels in the order of their ids."""
    try:
        names = {int(given["id"]): str(given["name"]) for given in content["categories"]}
        files = {int(given["id"]): str(given["file_name"]) for given in content["images"]}
        labels = {int(given["image_id"]): int(given["category_id"]) for given in content["annotations"]}
    except (KeyError, TypeError, ValueError, OverflowError):
        raise InputError(
            f"{path}: expected lists images (id, file_name), annotations (image_id, category_id) and categories (id, "
            "name); restore the file"
        ) from None
    order = {number: place for place, number in enumerate(sorted(names))}
    rows = []
    for image, file in files.items():
        if image not in labels:
            raise InputError(f"{path}: image {image} has no annotation; restore the file")
        if labels[image] not in order:
            raise InputError(f"{path}: image {image} is of category {labels[image]}, which is not listed; restore it")
        if not (root / file).is_file():
            raise InputError(f"{path}: image {image}: no file '{file}' in {root}; restore it")
        rows.append({"image_id": file, "path": file, "split": split, "label": order[labels[image]]})
    return pd.DataFrame(rows), [names[number] for number in sorted(names)]
