"""Oxford Flowers-102 (Nilsback and Zisserman 2008). The images stay where they are."""

from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from vit_registers.core.doors import door
from vit_registers.core.errors import InputError
from vit_registers.core.prose import escape, key
from vit_registers.data import manifest
from vit_registers.data.published.versions import FolderOfVersion
from vit_registers.params.bases import Published

SPLITS = {"trnid": "train", "valid": "val", "tstid": "test"}  # what setid.mat calls them, and our splits
Numbers = np.ndarray


class Flowers102(FolderOfVersion):
    """Flowers-102: ``path`` holds jpg, imagelabels.mat and setid.mat. Its own split; names as in torchvision."""

    kind: Literal["flowers102"]

    def published(self) -> Published:
        """Its three splits."""
        return Published("flowers102", self.path, {split: (split,) for split in SPLITS.values()})

    def prepare(self, name: str, seed: int, out: Path) -> None:
        """A row per image that setid.mat lists."""
        from torchvision.datasets import Flowers102 as Torchvision

        root = Path(self.path)
        classes = list(Torchvision.classes)
        labels = self._numbers("imagelabels.mat", "labels", len(classes))
        ids = root / "setid.mat"
        rows = [
            {"image_id": f"image_{number:05d}", "path": f"jpg/image_{number:05d}.jpg", "split": split,
             "label": int(labels[number - 1]) - 1}
            for given, split in SPLITS.items() for number in self._numbers("setid.mat", given, len(labels))
        ]  # fmt: skip
        table = manifest.check(pd.DataFrame(rows), classes, root, str(ids))
        manifest.two_to_train(table, classes, str(ids))
        manifest.write(out, table, classes, name, **self.origin())

    def _numbers(self, file: str, key: str, highest: int) -> Numbers:
        """The whole numbers (n,) that a MATLAB file has under a key, each from 1 to ``highest``."""
        from scipy.io import loadmat

        path = Path(self.path) / file
        with door(path, "a MATLAB file", "restore it", self.where()):
            content: dict[str, Any] = loadmat(path)
        numbers = np.ravel(content.get(key, []))
        if not len(numbers):
            raise InputError(f"{path}: has no '{key}'; expected that of Flowers-102, restore the file")
        odd = numbers[(numbers < 1) | (numbers > highest)]
        if len(odd):
            raise InputError(f"{path}: {key}: {odd[0]} is not one of 1 to {highest}; restore the file")
        return numbers.astype(np.int64)

    def sentence(self, name: str) -> str:
        """Its split."""
        return f"{key(name)} is Flowers-102 with the split it ships with (licence: {escape(self.licence)})."
