"""Images in a folder per class."""

from pathlib import Path

from vit_registers.data import images


def rows(root: Path, base: Path, split: str) -> list[dict[str, str]]:
    """Images below the class folders of ``base``, sorted, nested folders included; paths are relative to ``root``.

    Rows of the manifest, with the name of the class in place of the label.
    """
    found = []
    for folder in sorted(p for p in base.iterdir() if p.is_dir()):
        for path in sorted(p for p in folder.rglob("*") if p.suffix.lower() in images.SUFFIXES):
            relative = path.relative_to(root).as_posix()
            found.append({"image_id": relative, "path": relative, "split": split, "class": folder.name})
    return found
