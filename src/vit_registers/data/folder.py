"""An image folder, one subfolder per class, to a manifest. The images stay where they are."""

from pathlib import Path

import numpy as np
import pandas as pd

from vit_registers.data import images, manifest
from vit_registers.errors import InputError
from vit_registers.params import FolderDataset
from vit_registers.seeds import generator


def prepare(source: FolderDataset, name: str, seed: int, out: Path) -> None:
    """``path/train`` and ``path/test`` are the given split where both are there; else a stratified one is drawn."""
    root = Path(source.path)
    if not root.is_dir():
        raise InputError(f"{root}: no such folder; correct datasets.{name}.path")
    given = [split for split in ("train", "test") if (root / split).is_dir()]
    if given and len(given) < 2:
        raise InputError(f"{root}: holds '{given[0]}' but not the other of train and test; expected both or neither")
    rows = [row for split in given or [""] for row in _rows(root, split)]
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


def _rows(root: Path, split: str) -> list[dict[str, str]]:
    """Images below the class folders of one split, sorted, nested folders included."""
    base = root / split
    rows = []
    for folder in sorted(p for p in base.iterdir() if p.is_dir()):
        for path in sorted(p for p in folder.rglob("*") if p.suffix.lower() in images.SUFFIXES):
            relative = path.relative_to(root).as_posix()
            rows.append({"image_id": relative, "path": relative, "split": split or "?", "class": folder.name})
    return rows
