"""OrthoNet: implants in radiographs of knees and hips (Patel et al. 2021). The images stay where they are."""

from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from vit_registers.core.errors import InputError
from vit_registers.core.prose import escape, key, percent
from vit_registers.data import manifest, splits, tables
from vit_registers.data.published.versions import FolderOfVersion
from vit_registers.data.sources.medical.validation import SEED, SHARE
from vit_registers.params.bases import Published

IMAGES = "orthonet data/orthonet data"


class OrthoNet(FolderOfVersion):
    """OrthoNet by implant: ``path`` holds train.csv and test.csv (filenames, labels), and their images in the folders
    "orthonet data/orthonet data".

    Of ``train.csv`` 20 % are held out for validation, stratified with seed 42 (kukade2025), by scikit-learn's split of
    its rows.
    """

    kind: Literal["orthonet"]

    def published(self) -> Published:
        """All images, and those of the test split."""
        return Published("orthonet", self.path, {"all": ("train", "val", "test"), "test": ("test",)})

    def prepare(self, name: str, seed: int, out: Path) -> None:
        """A row per row of both CSV files; a label that train.csv lacks is refused."""
        root = Path(self.path)
        train, test = (self._part(root, split) for split in ("train", "test"))
        classes = sorted(train["class"].unique())
        for row, label in enumerate(test["class"], start=1):
            if label not in classes:
                raise InputError(f"{root / 'test.csv'}: row {row}: label '{label}' is not in {root / 'train.csv'}")
        labels = train["class"].map(classes.index).to_numpy()
        train["split"] = np.where(splits.held_out(labels, SHARE, SEED, str(root / "train.csv")), "val", "train")
        table = pd.concat([train, test])
        table["label"] = table["class"].map(classes.index)
        table = manifest.check(table, classes, root, str(root))
        manifest.two_to_train(table, classes, str(root))
        manifest.write(out, table, classes, name, **self.origin())

    def _part(self, root: Path, split: str) -> pd.DataFrame:
        file, needed = root / f"{split}.csv", ["filenames", "labels"]
        given = tables.read(file, needed, needed, self.where())
        paths = f"{IMAGES}/" + given["filenames"]
        tables.existing(paths, root, file)
        return pd.DataFrame({"image_id": given["filenames"], "path": paths, "split": split, "class": given["labels"]})

    def sentence(self, name: str) -> str:
        """Its classes and its split."""
        return (
            f"{key(name)} is OrthoNet by implant, with the test split it ships with; {percent(SHARE)} of the training "
            f"images, stratified with seed {SEED}, are held out for validation (licence: {escape(self.licence)})."
        )
