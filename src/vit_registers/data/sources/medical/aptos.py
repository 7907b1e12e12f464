"""APTOS 2019: photographs of retinas by the grade of diabetic retinopathy. The images stay where they are."""

from pathlib import Path
from typing import Literal

import pandas as pd

from vit_registers.core.errors import InputError
from vit_registers.core.prose import escape, key
from vit_registers.data import manifest, tables
from vit_registers.data.published.versions import FolderOfVersion
from vit_registers.params.bases import Published

GRADES = ["no retinopathy", "mild", "moderate", "severe", "proliferative"]
SPLITS = {"train": ("train_1.csv", "train"), "val": ("valid.csv", "val"), "test": ("test.csv", "test")}


class Aptos(FolderOfVersion):
    """APTOS 2019 as re-split on Kaggle, which kukade2025 uses: its own training images in three parts.

    ``path`` holds train_1.csv, valid.csv and test.csv (columns id_code, diagnosis) and the images in nested folders,
    such as train_images/train_images.
    """

    kind: Literal["aptos"]

    def published(self) -> Published:
        """Its three splits."""
        return Published("aptos", self.path, {split: (split,) for split in SPLITS})

    def prepare(self, name: str, seed: int, out: Path) -> None:
        """A row per row of the three CSV files; a grade other than 0 to 4 is refused."""
        root = Path(self.path)
        parts = [self._part(root, split) for split in SPLITS]
        table = manifest.check(pd.concat(parts), GRADES, root, str(root))
        manifest.two_to_train(table, GRADES, str(root))
        manifest.write(out, table, GRADES, name, **self.origin())

    def _part(self, root: Path, split: str) -> pd.DataFrame:
        file, images = SPLITS[split]
        needed = ["id_code", "diagnosis"]
        given = tables.read(root / file, needed, needed, self.where())
        known = [str(grade) for grade in range(len(GRADES))]
        for row, grade in enumerate(given["diagnosis"], start=1):
            if grade not in known:
                raise InputError(f"{root / file}: row {row}: diagnosis '{grade}' is not a grade from 0 to 4")
        paths = f"{images}_images/{images}_images/" + given["id_code"] + ".png"
        tables.existing(paths, root, root / file)
        return pd.DataFrame({"image_id": given["id_code"], "path": paths, "split": split,
                             "label": given["diagnosis"].astype(int)})  # fmt: skip

    def sentence(self, name: str) -> str:
        """Its classes and its split."""
        return (
            f"{key(name)} is APTOS 2019 by the five grades of diabetic retinopathy, its labelled images in the three "
            f"parts of a re-split on Kaggle (licence: {escape(self.licence)})."
        )
