"""Caltech-101 (Fei-Fei et al. 2004). The images stay where they are."""

from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from pydantic import PositiveInt

from vit_registers.core.prose import count, escape, key
from vit_registers.core.seeds import generator
from vit_registers.data import folders, manifest
from vit_registers.data.published.versions import FolderOfVersion
from vit_registers.params.bases import Published

BACKGROUND = "BACKGROUND_Google"  # pictures of anything; no class


class Caltech101(FolderOfVersion):
    """Caltech-101: ``path`` holds 101_ObjectCategories. It has no split: ``train_per_class`` of each class are drawn.

    The others test. The 101 classes without the background, as torchvision reads it.
    """

    kind: Literal["caltech101"]
    train_per_class: PositiveInt = 30

    def published(self) -> Published:
        """All images but those of the background."""
        return Published("caltech101", self.path, {"all": ("train", "test")})

    def prepare(self, name: str, seed: int, out: Path) -> None:
        """A row per image, and a drawn split; a class that leaves no image to test on is refused by the check."""
        root = Path(self.path)
        base = root / "101_ObjectCategories"
        if not base.is_dir():
            raise self.missing(base, "folder")
        table = pd.DataFrame([row for row in folders.rows(root, base, "test") if row["class"] != BACKGROUND],
                             columns=["image_id", "path", "split", "class"])  # fmt: skip
        classes = sorted(table["class"].unique())
        table["label"] = table["class"].map(classes.index)
        order = generator(seed, "split", name).permutation(len(table))
        turn = table["label"].iloc[order].groupby(table["label"].iloc[order]).cumcount().sort_index()
        table["split"] = np.where(turn < self.train_per_class, "train", "test")
        table = manifest.check(table, classes, root, str(base))
        manifest.two_to_train(table, classes, str(base))
        manifest.write(out, table, classes, name, **self.origin())

    def sentence(self, name: str) -> str:
        """Its classes and its drawn split."""
        return (
            f"{key(name)} is Caltech-101 without its background; {count(self.train_per_class)} images of each class "
            f"are drawn as training split and the others test (licence: {escape(self.licence)})."
        )
