"""A folder of images, one subfolder per class. The images stay where they are."""

from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import pandas as pd
from pydantic import Field

from vit_registers.core.errors import InputError
from vit_registers.core.prose import escape, key, percent
from vit_registers.core.seeds import generator
from vit_registers.data import folders, images, manifest, splits
from vit_registers.data.published.versions import PublishedSource
from vit_registers.params.bases import Published


class Folder(PublishedSource):
    """``path/<class>/image`` with a stratified split, or ``path/{train,test}/<class>/image`` with the given one.

    ImageNet and Imagenette call their test images ``val``; the manifest calls them ``test``, where all else looks for
    them. Where both are there ``test`` is taken, as ``val`` is then meant for choosing settings.

    ``version``: the name of a published data set in versions.csv that it is: preparation compares their counts,
    and where the folder is missing the error says where it is had.
    """

    kind: Literal["folder"]
    path: str
    test_share: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.2
    licence: str = "unknown"
    version: str | None = None

    def paths(self) -> dict[str, str]:
        """The folder."""
        return {"path": self.path}

    def published(self) -> Published | None:
        """That of ``version``, with its ``train`` and ``val``."""
        if self.version is None:
            return None
        return Published(self.version, self.path, {"train": ("train",), "val": ("test",)})

    def prepare(self, name: str, seed: int, out: Path) -> None:
        """One row per image below a class folder, nested folders included."""
        root = Path(self.path)
        if not root.is_dir():
            raise InputError(f"{root}: no such folder; correct datasets.{name}.path")
        given = _given(root)
        rows = [row for split, base in given.items() for row in folders.rows(root, base, split)]
        if not given:
            rows = folders.rows(root, root, "?")
        if not rows:
            raise InputError(f"{root}: no images in class folders (looked for {', '.join(sorted(images.SUFFIXES))})")
        classes = sorted({row["class"] for row in rows})
        table = pd.DataFrame(rows)
        table["label"] = table["class"].map(classes.index)
        if not given:
            draw = generator(seed, "split", name)
            test = splits.stratified(table["label"].to_numpy(), self.test_share, draw, classes, str(root))
            table["split"] = np.where(test, "test", "train")
        table = manifest.check(table, classes, root, str(root))
        manifest.two_to_train(table, classes, str(root))
        manifest.write(out, table, classes, name, str(root.resolve()), f"folder {self.path}", self.licence)

    def sentence(self, name: str) -> str:
        """Where its split comes from."""
        split = f"; unless it comes with a split, {percent(self.test_share)} of each class are held out for the test"
        return f"{key(name)} is a folder of images by class{split} (licence: {escape(self.licence)})."


def _given(root: Path) -> dict[str, Path]:
    """Folders of the split that the data brings, by the manifest's names for them; empty where there is none."""
    there = [name for name in ("train", "test", "val") if (root / name).is_dir()]
    if not there:
        return {}
    if there[0] != "train" or len(there) < 2:
        raise InputError(
            f"{root}: holds '{there[0]}' but not the other of train and test (or val); expected both or neither"
        )
    return {"train": root / "train", "test": root / there[1]}
