"""Data sets with a class for every image: Caltech-101, Flowers-102, FGVC-Aircraft, CIFAR, folders of classes."""

import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.io import savemat
from torchvision import datasets

from helpers.layouts.pictures import Paint, Size, paint

PLURALS = {"variant": "variants", "manufacturer": "manufacturers"}  # levels of FGVC-Aircraft that are written
CIFAR: dict[str, tuple[Any, str, int]] = {  # torchvision's class, the key of its labels, and its number of classes
    "cifar10": (datasets.CIFAR10, "labels", 10),
    "cifar100": (datasets.CIFAR100, "fine_labels", 100),
}


def caltech101(root: Path, counts: Mapping[str, int], size: Size = (12, 8), draw: Paint = paint) -> None:
    """So many images of each class."""
    for label, number in counts.items():
        for i in range(1, number + 1):
            draw(root / f"101_ObjectCategories/{label}/image_{i:04d}.jpg", size)


def flowers102(
    root: Path,
    labels: Sequence[int],
    train: Sequence[int],
    val: Sequence[int],
    test: Sequence[int],
    size: Size = (12, 8),
    draw: Paint = paint,
) -> None:
    """Images with ``labels`` from 1 to 102, and the numbers of those of each split, from 1."""
    for i in range(1, len(labels) + 1):
        draw(root / f"jpg/image_{i:05d}.jpg", size)
    savemat(root / "setid.mat", {"trnid": [[*train]], "valid": [[*val]], "tstid": [[*test]]})
    savemat(root / "imagelabels.mat", {"labels": [[*labels]]})


def aircraft(
    root: Path,
    levels: Mapping[str, tuple[Sequence[str], Mapping[str, Mapping[str, str]]]],
    size: Size = (12, 8),
    draw: Paint = paint,
) -> None:
    """By level its classes, and of each split the class of every image."""
    for level, (classes, splits) in levels.items():
        for image in (image for labels in splits.values() for image in labels):
            draw(root / f"data/images/{image}.jpg", size)
        (root / f"data/{PLURALS[level]}.txt").write_text("\n".join(classes) + "\n")
        for split, labels in splits.items():
            lines = [f"{image} {label}" for image, label in labels.items()]
            (root / f"data/images_{level}_{split}.txt").write_text("\n".join(lines) + "\n")


def cifar(root: Path, kind: str, of_each: int = 8) -> Path:
    """``of_each`` training and two test images of each class, in as many files as published, with the same keys.

    The folder of the files; their checksums are not the published ones.
    """
    archive, key, n = CIFAR[kind]
    folder = root / archive.base_folder
    folder.mkdir(parents=True)
    rng = np.random.default_rng(5)
    for listed, images in ((archive.train_list, of_each * n), (archive.test_list, 2 * n)):
        labels = rng.permutation(np.arange(images) % n)
        pixels = rng.integers(256, size=(images, 3072), dtype=np.uint8)
        for (file, _), part in zip(listed, np.array_split(np.arange(images), len(listed)), strict=True):
            entry = {"data": pixels[part], key: labels[part].tolist(), "coarse_labels": [0] * len(part)}
            (folder / file).write_bytes(pickle.dumps(entry))
    names = {archive.meta["key"]: [f"thing {i}" for i in range(n)], "coarse_label_names": ["all"]}
    (folder / archive.meta["filename"]).write_bytes(pickle.dumps(names))
    return folder


def class_folders(
    root: Path, counts: Mapping[str, int], size: Size = (12, 8), draw: Paint = paint, suffix: str = ".JPEG"
) -> None:
    """So many images in a folder for each class, as ImageNet has them."""
    for label, number in counts.items():
        for i in range(number):
            draw(root / label / f"{root.name}_{label}_{i}{suffix}", size)
