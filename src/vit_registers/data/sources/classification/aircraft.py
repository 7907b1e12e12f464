"""FGVC-Aircraft (Maji et al. 2013). The images stay where they are."""

from pathlib import Path
from typing import Literal

import pandas as pd

from vit_registers.core.doors import read_text
from vit_registers.core.errors import InputError
from vit_registers.core.prose import escape, key
from vit_registers.data import manifest
from vit_registers.data.published.versions import FolderOfVersion
from vit_registers.params.bases import Published

PLURALS = {"variant": "variants", "family": "families", "manufacturer": "manufacturers"}
SPLITS = ("train", "val", "test")


class Aircraft(FolderOfVersion):
    """FGVC-Aircraft: ``path`` is fgvc-aircraft-2013b, which holds data/images and the lists. Its own split.

    ``level``: classes are 100 variants, 70 families or 30 manufacturers. Images keep the banner at their bottom.
    """

    kind: Literal["aircraft"]
    level: Literal["variant", "family", "manufacturer"] = "variant"

    def published(self) -> Published:
        """Its three splits."""
        return Published("aircraft", self.path, {split: (split,) for split in SPLITS})

    def prepare(self, name: str, seed: int, out: Path) -> None:
        """A row per image of the three lists, with its class at the level."""
        root = Path(self.path)
        names = root / "data" / f"{PLURALS[self.level]}.txt"
        classes = self._lines(names)
        rows = []
        for split in SPLITS:
            listed = root / "data" / f"images_{self.level}_{split}.txt"
            for number, line in enumerate(self._lines(listed), start=1):
                image, _, label = line.partition(" ")
                if label not in classes:
                    raise InputError(f"{listed}: line {number}: '{label}' is no class of {names}; correct one")
                path = f"data/images/{image}.jpg"
                if not (root / path).is_file():
                    raise InputError(f"{listed}: line {number}: no image '{path}' in {root}; restore it")
                rows.append({"image_id": image, "path": path, "split": split, "label": classes.index(label)})
        table = manifest.check(pd.DataFrame(rows), classes, root, str(root))
        manifest.two_to_train(table, classes, str(root))
        manifest.write(out, table, classes, name, **self.origin())

    def _lines(self, path: Path) -> list[str]:
        text = read_text(path, "a list of text", "restore the file", self.where())
        return [line.strip() for line in text.splitlines() if line.strip()]

    def sentence(self, name: str) -> str:
        """Its classes and its split."""
        return (
            f"{key(name)} is FGVC-Aircraft by {self.level}, with the split it ships with "
            f"(licence: {escape(self.licence)})."
        )
