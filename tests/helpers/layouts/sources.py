"""Files for a data set of params: a few photographs of a few classes, in the layout that its kind reads."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from helpers.layouts import classification, dense, medical, objects
from helpers.layouts.pictures import middle, photograph

FRAMES = (640, 480)  # width and height of NYU's: its crop is in their pixels
SIDE = (176, 144)  # of all others: LOST takes a hundred patches of an image
CLASSES = ("boat", "cat", "dog", "sheep")
TRAIN, TEST = 4, 3  # images of each class, at least
WORDNET_IDS = 1000  # of ImageNet: its names of classes are known by their number alone


def write(root: Path, source: Any) -> None:
    """The files of a data set ``source`` of params, at its paths below ``root``."""
    WRITERS[source.kind](root, source)


def _voc(root: Path, source: Any) -> None:
    x0, y0, x1, y1 = middle(SIDE)
    train = {f"{i:06d}": CLASSES[i % 4] for i in range(4 * TRAIN)}
    test = {f"1{i:05d}": CLASSES[i % 4] for i in range(4 * TEST)}
    images = {name: [(label, (x0 + 1, y0 + 1, x1, y1), 0)] for name, label in {**train, **test}.items()}
    objects.voc(root / source.path, images, {source.train: [*train], source.test: [*test]}, SIDE, photograph)


def _coco(root: Path, source: Any) -> None:
    """``TEST`` listed images of each class and others to train on; without a list as many as a share wants."""
    number = TRAIN + TEST if source.list else 4 * TRAIN
    images = {f"COCO_{i:012d}.jpg": i % 4 + 1 for i in range(4 * number)}
    for name in images:
        photograph(root / source.images / name, SIDE)
    x0, y0, x1, y1 = middle(SIDE)
    content = objects.coco_content(images, dict(enumerate(CLASSES, start=1)), SIDE, (x0, y0, x1 - x0, y1 - y0))
    path = root / source.annotations
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    if source.list:
        (root / source.list).write_text("".join(f"train2014/{name}\n" for name in [*images][: 4 * TEST]))


def _spair(root: Path, source: Any) -> None:
    """Pairs of images that follow each other, of each class; five keypoints, of which each image lacks one."""
    at = root / source.path
    lists: dict[str, list[str]] = {}
    for split, number in (("trn", TRAIN), ("val", 2), ("test", TEST)):
        lists[split] = [f"{i}-{split}{i}-{split}{i + 1}:{label}" for label in CLASSES for i in range(number - 1)]
    objects.spair(at, lists, SIDE, photograph)
    x0, y0, x1, y1 = middle(SIDE)
    for number, path in enumerate(sorted(at.glob("ImageAnnotation/*/*.json"))):
        places = {str(i): [x0 + 16 * i, y0 + 12 * i] for i in range(5)}
        given = {**places, str(number % 5): None}
        path.write_text(json.dumps(objects.spair_annotation(SIDE, bndbox=[x0, y0, x1, y1], kps=given)))


def _ade20k(root: Path, source: Any) -> None:
    """Four classes side by side, others in every image, and a border that is of none."""
    at = root / source.path
    for part, number in (("training", 10), ("validation", 10)):
        for i in range(number):
            values = np.zeros(SIDE[::-1], np.uint8)
            values[8:-8, 8:-8] = 1 + (np.arange(SIDE[0] - 16) * 4 // (SIDE[0] - 16) + i) % 8
            dense.ade20k_scene(at, part, f"ADE_{part[:5]}_{i:08d}", values, SIDE, photograph)
    dense.ade20k_classes(at)


def _nyu(root: Path, source: Any) -> None:
    """Slopes of one to nine metres, in each image another."""
    at, width = root / source.path, FRAMES[0]
    frames = {}
    for split, room in (("train", "attic_0001"), ("test", "bathroom")):
        depths = [np.tile(np.linspace(1000, 2000 + 800 * i, width), (FRAMES[1], 1)) for i in range(9)]
        frames[split] = [
            dense.nyu_frame(at, room, f"{i:05d}", depth, size=FRAMES, draw=photograph)
            for i, depth in enumerate(depths)
        ]  # fmt: skip
    dense.nyu_lists(at, frames)


def _aptos(root: Path, source: Any) -> None:
    parts = (("train_1.csv", "train", TRAIN), ("valid.csv", "val", 2), ("test.csv", "test", TEST))
    for csv, folder, number in parts:
        medical.aptos_part(root / source.path, csv, folder, [*range(5)] * number, SIDE, photograph)


def _pacemaker(root: Path, source: Any) -> None:
    labels = ["BIO - Actros", "BOS - Altrua", "MDT - Adapta", "SJM - Assurity"]
    medical.pacemaker(root / source.path, labels, 2 * TRAIN, TEST, SIDE, photograph)


def _orthonet(root: Path, source: Any) -> None:
    labels = ["Hip_SmithAndNephew", "Hip_Zimmer", "Knee_DePuy", "Knee_Stryker"]
    for split, number in (("train", 2 * TRAIN), ("test", TEST)):
        medical.orthonet_part(root / source.path, split, labels * number, SIDE, photograph)


def _caltech101(root: Path, source: Any) -> None:
    number = source.train_per_class + TEST
    counts = {"BACKGROUND_Google": 2, **dict.fromkeys(CLASSES, number)}
    classification.caltech101(root / source.path, counts, SIDE, photograph)


def _flowers102(root: Path, source: Any) -> None:
    labels = [label for label in (1, 5, 50, 102) for _ in range(TRAIN + 1 + TEST)]
    numbers, each = np.arange(1, len(labels) + 1), np.arange(len(labels)) % (TRAIN + 1 + TEST)
    parts = (numbers[each < TRAIN], numbers[each == TRAIN], numbers[each > TRAIN])
    classification.flowers102(root / source.path, labels, *(part.tolist() for part in parts), SIDE, photograph)


def _aircraft(root: Path, source: Any) -> None:
    classes = ["707-320", "A330-200", "DC-3", "Tu-134"]
    parts: dict[str, dict[str, str]] = {}
    for split, first, number in (("train", 0, TRAIN), ("val", 100, 1), ("test", 200, TEST)):
        parts[split] = {f"{first + i:07d}": classes[i % 4] for i in range(4 * number)}
    classification.aircraft(root / source.path, {source.level: (classes, parts)}, SIDE, photograph)


def _cifar(root: Path, source: Any) -> None:
    classification.cifar(root / source.path, source.kind)


def _folder(root: Path, source: Any) -> None:
    """Class folders, of ImageNet one for each of its thousand ids: in train and val, or as val alone is."""
    ids = [f"n{i:08d}" for i in range(WORDNET_IDS if source.version == "imagenet" else 10)]
    some = ids[::3][:4]
    if source.version is None:
        classification.class_folders(root / source.path, dict.fromkeys(some, 4 * TRAIN), SIDE, photograph)
        return
    for split, number in (("train", TRAIN), ("val", TEST)):
        counts = {label: number if label in some else 1 for label in ids}
        classification.class_folders(root / source.path / split, counts, SIDE, photograph)


WRITERS: dict[str, Callable[[Path, Any], None]] = {
    "voc": _voc,
    "coco": _coco,
    "spair": _spair,
    "ade20k": _ade20k,
    "nyu": _nyu,
    "aptos": _aptos,
    "pacemaker": _pacemaker,
    "orthonet": _orthonet,
    "caltech101": _caltech101,
    "flowers102": _flowers102,
    "aircraft": _aircraft,
    "cifar10": _cifar,
    "cifar100": _cifar,
    "folder": _folder,
}
