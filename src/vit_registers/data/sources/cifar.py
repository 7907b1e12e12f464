"""CIFAR-10 and CIFAR-100 from torchvision to a manifest, their images written once as lossless PNG."""

import logging
from http.client import HTTPException
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from torchvision import datasets
from torchvision.datasets.utils import check_integrity, download_and_extract_archive

from vit_registers.core.errors import InputError
from vit_registers.core.files import exclusive
from vit_registers.core.seeds import generator
from vit_registers.data import manifest
from vit_registers.params import CifarDataset

log = logging.getLogger(__name__)

ARCHIVES = {"cifar10": datasets.CIFAR10, "cifar100": datasets.CIFAR100}
LICENCE = "none stated by its authors"


def prepare(source: CifarDataset, name: str, seed: int, out: Path) -> None:
    """Write the images of both splits below ``out``, or those drawn from them, as 32x32 RGB.

    An image is called by its split and its place there, counted from 0, so that it has one name in every subset.
    :class:`InputError` where a file of the archive is missing or damaged and cannot be, or may not be, fetched.
    """
    _have(source, name)
    tables, classes = [], []
    for split, count in (("train", source.train), ("test", source.test)):
        archive = ARCHIVES[source.kind](source.path, train=split == "train")
        labels = np.asarray(archive.targets)
        rows = np.arange(len(labels))
        if count is not None:
            rows = subset(labels, count, generator(seed, "subset", name, split))
        tables.append(_write(out, split, archive.data, labels, rows))
        classes = list(archive.classes)
        log.info("%s: %d of %d images", split, len(rows), len(labels))
    table = manifest.check(pd.concat(tables), classes, out, name, read_images=False)
    manifest.write(out, table, classes, name, ".", f"torchvision's {ARCHIVES[source.kind].__name__}", LICENCE)


def subset(labels: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """``count`` rows of ``labels`` (n,), ascending: of every class equally many up to one, while it has any left.

    A smaller subset of the same draw is part of a larger one.
    """
    order = rng.permutation(len(labels))
    drawn = labels[order]
    turn = pd.Series(drawn).groupby(drawn).cumcount().to_numpy()  # how many of its class were drawn before it
    return np.sort(order[np.argsort(turn, kind="stable")[:count]])


def _have(source: CifarDataset, name: str) -> None:
    """See that all files are there and the published ones; fetch them where they are not and params allow it."""
    root, archive = Path(source.path), ARCHIVES[source.kind]
    if source.download and _wrong(root, archive):
        _download(root, archive, name)
    wrong = _wrong(root, archive)
    if wrong:
        raise InputError(
            f"{wrong}; unpack {archive.filename} in {root}, set datasets.{name}.download to true, or correct "
            f"datasets.{name}.path"
        )


def _wrong(root: Path, archive: type[datasets.CIFAR10]) -> str:
    """The first file that is missing or damaged, and which of both; empty where there is none.

    torchvision says the same of either, and never restores damaged class names.
    """
    files = [*archive.train_list, *archive.test_list, (archive.meta["filename"], archive.meta["md5"])]
    for file, checksum in files:
        path = root / archive.base_folder / file
        if not path.is_file():
            return f"{path}: no such file"
        if not check_integrity(path, checksum):
            return f"{path}: not the published file (its checksum differs)"
    return ""


def _download(root: Path, archive: type[datasets.CIFAR10], name: str) -> None:
    """Unpack the archive in ``root``, fetched unless it is there; its checksum is looked at before it is unpacked."""
    try:
        with exclusive(root):  # two data sets may be made from one archive at once
            if _wrong(root, archive):
                download_and_extract_archive(archive.url, root, filename=archive.filename, md5=archive.tgz_md5)
    except (OSError, HTTPException, RecursionError) as error:  # no network, a full disk, redirected in a circle
        raise InputError(
            f"{root}: {archive.url} cannot be fetched ({' '.join(str(error).split())}); connect, unpack "
            f"{archive.filename} there, or correct datasets.{name}.path"
        ) from None
    except RuntimeError:
        raise InputError(
            f"{root / archive.filename}: fetched, but not the published archive (its checksum differs); run again"
        ) from None


def _write(out: Path, split: str, images: np.ndarray, labels: np.ndarray, rows: np.ndarray) -> pd.DataFrame:
    """A PNG per row, with what the manifest says of it."""
    (out / "images" / split).mkdir(parents=True)
    paths = [f"images/{split}/{row:05d}.png" for row in rows]
    for row, path in zip(rows, paths, strict=True):
        Image.fromarray(images[row]).save(out / path, compress_level=1)
    height, width = images.shape[1:3]
    ids = [f"{split}-{row:05d}" for row in rows]
    return pd.DataFrame({"image_id": ids, "path": paths, "split": split, "label": labels[rows], "width": width,
                         "height": height})  # fmt: skip
