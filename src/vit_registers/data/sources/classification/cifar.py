"""CIFAR-10 and CIFAR-100 from torchvision, their images written once as lossless PNG."""

import logging
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, Self

import numpy as np
import pandas as pd
from PIL import Image
from pydantic import Field, model_validator

from vit_registers.core.errors import InputError
from vit_registers.core.files import exclusive
from vit_registers.core.prose import count, key
from vit_registers.core.seeds import generator
from vit_registers.data import manifest, splits
from vit_registers.data.published.versions import PublishedSource
from vit_registers.params.bases import Published

if TYPE_CHECKING:  # params are read by every command, and torchvision brings torch
    from torchvision.datasets import CIFAR10

log = logging.getLogger(__name__)

LICENCE = "none stated by its authors"


class Cifar(PublishedSource):
    """CIFAR-10, or CIFAR-100 by its 100 fine classes, with the split it comes with; made into PNG files.

    ``path`` is where torchvision looks for the unpacked archive, in a folder named by the archive; ``download`` lets it
    fetch what is missing there. ``train`` and ``test`` count images, as many of each class up to one; null takes all.
    """

    kind: Literal["cifar10", "cifar100"]
    path: str = "data/raw"
    download: bool = False
    train: Annotated[int, Field(ge=1, le=50_000)] | None = None
    test: Annotated[int, Field(ge=1, le=10_000)] | None = None

    @model_validator(mode="after")
    def _every_class(self) -> Self:
        classes = int(self.kind.removeprefix("cifar"))
        # Probes hold out a share of every class to choose on, so training needs two of each.
        for split, number, least in (("train", self.train, 2 * classes), ("test", self.test, classes)):
            if number is not None and number < least:
                raise ValueError(f"{split}: expected at least {least} images for {classes} classes, got {number}")
        return self

    def paths(self) -> dict[str, str]:
        """None: a clone that pulled the prepared images needs no archive, and a download has none yet."""
        return {}

    def published(self) -> Published:
        """Its splits, of which all images are taken unless params count them."""
        taken = {"train": self.train, "test": self.test}
        return Published(self.kind, self.path, {split: (split,) for split, part in taken.items() if part is None})

    def prepare(self, name: str, seed: int, out: Path) -> None:
        """Write the images of both splits below ``out``, or those drawn from them, as 32x32 RGB.

        An image is named by its split and its place there, counted from 0, so that it has one name in every subset.
        :class:`InputError` where a file of the archive is missing or damaged and cannot be, or may not be, fetched.
        """
        archive = self._archive()
        self._fetch(archive, name)
        tables, classes = [], []
        for split, number in (("train", self.train), ("test", self.test)):
            read = archive(self.path, train=split == "train")
            labels = np.asarray(read.targets)
            rows = np.arange(len(labels))
            if number is not None:
                rows = splits.subset(labels, number, generator(seed, "subset", name, split))
            tables.append(_write(out, split, read.data, labels, rows))
            classes = list(read.classes)
            log.info("%s: %d of %d images", split, len(rows), len(labels))
        table = manifest.check(pd.concat(tables), classes, out, name, read_images=False)
        manifest.write(out, table, classes, name, ".", f"torchvision's {archive.__name__}", LICENCE)

    def sentence(self, name: str) -> str:
        """Which of both it is, and how many images were taken of each split."""
        published, classes = ("CIFAR-10", "10") if self.kind == "cifar10" else ("CIFAR-100", "100 fine")
        of = {"training": (self.train, 50_000), "test": (self.test, 10_000)}
        taken = [
            f"{'all' if part is None else f'{count(part)} of the'} {count(whole)} {split} images"
            for split, (part, whole) in of.items()
        ]
        drawn = ", drawn at random with as many of each class up to one" if self.train or self.test else ""
        return (
            f"{key(name)} is {published} as torchvision reads it, $32 \\times 32$ pixels in {classes} classes, with "
            f"the split it ships with: {' and '.join(taken)}{drawn} (licence: {LICENCE})."
        )

    def _archive(self) -> "type[CIFAR10]":
        """torchvision's class of it, which knows the files, their checksums and where they are."""
        from torchvision import datasets

        return datasets.CIFAR10 if self.kind == "cifar10" else datasets.CIFAR100

    def _fetch(self, archive: "type[CIFAR10]", name: str) -> None:
        """Check that all files are there and are the published ones; download them where they are not and it may."""
        root = Path(self.path)
        if self.download and _wrong(root, archive) is not None:
            _download(root, archive, name)
        wrong = _wrong(root, archive)
        if wrong is not None:
            raise InputError(
                f"{wrong}; unpack {archive.filename} in {root}, set datasets.{name}.download to true, or correct "
                f"datasets.{name}.path"
            )


def _wrong(root: Path, archive: "type[CIFAR10]") -> str | None:
    """The first file that is missing or damaged, and which of both; None where all are as published.

    Checked here as torchvision reports both alike, and never restores damaged class names.
    """
    from torchvision.datasets.utils import check_integrity

    files = [*archive.train_list, *archive.test_list, (archive.meta["filename"], archive.meta["md5"])]
    for file, checksum in files:
        path = root / archive.base_folder / file
        if not path.is_file():
            return f"{path}: no such file"
        if not check_integrity(path, checksum):
            return f"{path}: not the published file (its checksum differs)"
    return None


def _download(root: Path, archive: "type[CIFAR10]", name: str) -> None:
    """Unpack the archive in ``root``, fetched unless it is there; its checksum is checked before it is unpacked."""
    from torchvision.datasets.utils import download_and_extract_archive

    try:
        with exclusive(root):  # two data sets may be made from one archive at once
            if _wrong(root, archive) is not None:
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
    """Write a PNG per row; the rows of the manifest."""
    (out / "images" / split).mkdir(parents=True)
    paths = [f"images/{split}/{row:05d}.png" for row in rows]
    for row, path in zip(rows, paths, strict=True):
        Image.fromarray(images[row]).save(out / path, compress_level=1)
    height, width = images.shape[1:3]
    ids = [f"{split}-{row:05d}" for row in rows]
    return pd.DataFrame({"image_id": ids, "path": paths, "split": split, "label": labels[rows], "width": width,
                         "height": height})  # fmt: skip
