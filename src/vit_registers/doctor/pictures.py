"""The images that are examined: those of a folder that can be read, or a few photographs that came with a library."""

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from vit_registers.core.errors import InputError
from vit_registers.core.files import sha256
from vit_registers.core.prose import plural
from vit_registers.data.images import SUFFIXES, load_image
from vit_registers.data.manifest import COLUMNS, Manifest

NAME = "images"  # of the data set in messages and draws
SPLIT = "test"
# Photographs that libraries bring along, with their licences.
EXAMPLES = {
    "china.jpg": "china.jpg of scikit-learn, by danielbuechele (flickr.com), CC BY 2.0",
    "flower.jpg": "flower.jpg of scikit-learn, by vultilion (flickr.com), CC BY 2.0",
    "grace_hopper.jpg": "grace_hopper.jpg of Matplotlib, United States Navy, public domain",
}


@dataclass(frozen=True)
class Pictures:
    """Images that could be read, as a data set in memory, and a line for each that could not.

    ``found``: how many there were; the others were not looked at. ``credits``: of example photographs.
    """

    manifest: Manifest
    broken: list[str]
    found: int
    source: str
    credits: list[str]


def examples() -> list[Path]:
    """Photographs that are here because libraries that this project needs brought them."""
    import matplotlib as mpl
    from sklearn.datasets import load_sample_images

    paths = [*load_sample_images().filenames, Path(mpl.get_data_path()) / "sample_data" / "grace_hopper.jpg"]
    there = [Path(path) for path in paths if Path(path).is_file()]
    if not there:
        raise InputError("scikit-learn and Matplotlib have brought no example photographs; give a folder of images")
    return there


def spread(paths: Sequence[Path], most: int) -> list[Path]:
    """At most so many of ``paths``, spread evenly over them: folders come class by class."""
    count = min(most, len(paths))
    return [paths[i * len(paths) // count] for i in range(count)]


def read(given: Path | None, most: int) -> Pictures:
    """The images below a folder, or one image; the examples where nothing is given. At most ``most`` are decoded.

    :class:`InputError` where there is no such folder, no image in it, or none that can be read.
    """
    if given is None:
        paths, source = examples(), "example photographs"
    elif given.is_file():
        paths, source = [given], str(given)
    elif given.is_dir():
        paths, source = sorted(p for p in given.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file()), str(given)
    else:
        raise InputError(f"{given}: no such folder of images; correct the path")
    if not paths:
        raise InputError(f"{given}: no images in this folder (looked for {', '.join(sorted(SUFFIXES))})")
    chosen = spread(paths, most)
    with ThreadPoolExecutor() as decoders:
        sizes = list(decoders.map(_size, chosen))
    rows = [(path, size) for path, size in zip(chosen, sizes, strict=True) if not isinstance(size, str)]
    broken = [size for size in sizes if isinstance(size, str)]
    if not rows:
        more = f" (and {len(broken) - 1} more)" if len(broken) > 1 else ""
        raise InputError(f"{source}: none of {plural(len(chosen), 'image')} can be read: {broken[0]}{more}")
    credit = [EXAMPLES[path.name] for path, _ in rows] if given is None else []
    return Pictures(_manifest([p for p, _ in rows], [s for _, s in rows]), broken, len(paths), source, credit)


def _size(path: Path) -> tuple[int, int] | str:
    """Width and height of an image that can be decoded; else why it cannot, in one line."""
    try:
        return load_image(path).size
    except InputError as error:
        return " ".join(str(error).split()).partition("; replace it")[0]


def _manifest(paths: list[Path], sizes: Sequence[tuple[int, int] | str]) -> Manifest:
    """A data set without labels, of one split."""
    table = pd.DataFrame({"path": [str(path.resolve()) for path in paths]}).reindex(columns=COLUMNS)
    table["image_id"], table["split"] = [str(i) for i in range(len(paths))], SPLIT
    table[["width", "height"]] = np.array(sizes)
    content = hashlib.sha256("".join(sha256(path) for path in paths).encode()).hexdigest()
    return Manifest(NAME, table, [], Path("/"), content)
