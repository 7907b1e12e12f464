"""Images in a folder per class."""

import os
from pathlib import Path

from vit_registers.core.doors import is_text, shown
from vit_registers.core.errors import InputError
from vit_registers.data import images


def rows(root: Path, base: Path, split: str) -> list[dict[str, str]]:
    """Images below the class folders of ``base``, sorted, nested folders included; paths are relative to ``root``.

    Rows of the manifest, with the name of the class in place of the label. :class:`InputError` for a folder that cannot
    be listed: its images would be left out without a word.
    """
    found = []
    for folder in sorted(p for p in base.iterdir() if p.is_dir()):
        for path in sorted(_images(folder)):
            relative = path.relative_to(root).as_posix()
            if not is_text(relative):
                raise InputError(f"{shown(path)}: its name is no text in UTF-8; rename it")
            found.append({"image_id": relative, "path": relative, "split": split, "class": folder.name})
    return found


def _images(folder: Path) -> list[Path]:
    """Files below a folder whose names are those of images."""

    def refuse(error: OSError) -> None:
        raise InputError(f"{shown(error.filename)}: {error.strerror}; make the folder readable or take it away")

    below = os.walk(folder, onerror=refuse)
    paths = (Path(parent, name) for parent, _, names in below for name in names)
    return [path for path in paths if path.suffix.lower() in images.SUFFIXES]
