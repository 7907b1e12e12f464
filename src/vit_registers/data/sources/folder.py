"""An image folder, one subfolder per class, to a manifest. The images stay where they are."""

from pathlib import Path

import numpy as np
import pandas as pd

from vit_registers.core.errors import InputError
from vit_registers.core.seeds import generator
from vit_registers.data import images, manifest
from vit_registers.params import FolderDataset


def prepare(source: FolderDataset, name: str, seed: int, out: Path) -> None:
    """``path/train`` with ``path/test`` or ``path/val`` is the given split; without them a stratified one is drawn.

    ImageNet and Imagenette call their test images ``val``; the manifest calls them ``test``, where all else looks for
    them. Where both are there ``test`` is taken, as ``val`` is then what people choose on.
    """
    root = Path(source.path)
    if not root.is_dir():
        raise InputError(f"{root}: no such folder; correct datasets.{name}.path")
    given = _given(root)
    rows = [row for split, base in given.items() for row in _rows(root, base, split)]
    if not given:
        rows = _rows(root, root, "?")
    if not rows:
        raise InputError(f"{root}: no images in class folders (looked for {', '.join(sorted(images.SUFFIXES))})")
    classes = sorted({row["class"] for row in rows})
    table = pd.DataFrame(rows)
    table["label"] = table["class"].map(classes.index)
    if not given:
        draw = generator(seed, "split", name)
        test = manifest.stratified(table["label"].to_numpy(), source.test_share, draw, classes, str(root))
        table["split"] = np.where(test, "test", "train")
    table = manifest.check(table, classes, root, str(root))
    manifest.two_to_train(table, classes, str(root))
    manifest.write(out, table, classes, name, str(root.resolve()), f"folder {source.path}", source.licence)


def _given(root: Path) -> dict[str, Path]:
    """Folders of the split that the data brings, by the manifest's names; empty where it brings none."""
    there = [name for name in ("train", "test", "val") if (root / name).is_dir()]
    if not there:
        return {}
    if there[0] != "train" or len(there) < 2:
        raise InputError(
            f"{root}: holds '{there[0]}' but not the other of train and test (or val); expected both or neither"
        )
    return {"train": root / "train", "test": root / there[1]}


def _rows(root: Path, base: Path, split: str) -> list[dict[str, str]]:
    """Images below the class folders of one split, sorted, nested folders included."""
    rows = []
    for folder in sorted(p for p in base.iterdir() if p.is_dir()):
        for path in sorted(p for p in folder.rglob("*") if p.suffix.lower() in images.SUFFIXES):
            relative = path.relative_to(root).as_posix()
            rows.append({"image_id": relative, "path": relative, "split": split, "class": folder.name})
    return rows
