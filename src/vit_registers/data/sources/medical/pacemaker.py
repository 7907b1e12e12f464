"""Pacemakers in chest radiographs (Howard et al. 2019). The images stay where they are."""

from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from vit_registers.core.errors import InputError
from vit_registers.core.prose import escape, key, percent
from vit_registers.data import folders, manifest, splits
from vit_registers.data.published.versions import FolderOfVersion
from vit_registers.data.sources.medical.validation import SEED, SHARE
from vit_registers.params.bases import Published


class Pacemaker(FolderOfVersion):
    """Pacemakers by model: ``path`` holds Train/<class> and Test/<class>, a class being a maker and a model.

    Of ``Train`` 20 % are held out for validation, stratified with seed 42 (kukade2025), by scikit-learn's split of the
    images in the order of their names.
    """

    kind: Literal["pacemaker"]

    def published(self) -> Published:
        """``Train``, of which a part validates, and ``Test``."""
        return Published("pacemaker", self.path, {"Train": ("train", "val"), "Test": ("test",)})

    def prepare(self, name: str, seed: int, out: Path) -> None:
        """A row per image below a class folder; a class that is only in ``Test`` is refused."""
        root = Path(self.path)
        rows = []
        for given, split in (("Train", "train"), ("Test", "test")):
            if not (root / given).is_dir():
                raise self.missing(root / given, "folder")
            found = folders.rows(root, root / given, split)
            if not found:
                raise InputError(f"{root / given}: no images in class folders; {self.where()}")
            rows += found
        table = pd.DataFrame(rows)
        classes = sorted(table["class"].unique())
        table["label"] = table["class"].map(classes.index)
        train = np.flatnonzero(table["split"] == "train")
        validation = splits.held_out(table["label"].to_numpy()[train], SHARE, SEED, str(root / "Train"))
        table.loc[train[validation], "split"] = "val"
        table = manifest.check(table, classes, root, str(root))
        manifest.two_to_train(table, classes, str(root))
        manifest.write(out, table, classes, name, **self.origin())

    def sentence(self, name: str) -> str:
        """Its classes and its split."""
        return (
            f"{key(name)} is the pacemakers of Howard et al.\\ by model, with the test split it ships with; "
            f"{percent(SHARE)} of the training images, stratified with seed {SEED}, are held out for validation "
            f"(licence: {escape(self.licence)})."
        )
