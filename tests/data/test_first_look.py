"""A few images of each split: which, and that the others are not read."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from vit_registers.core.errors import InputError
from vit_registers.data import first_look
from vit_registers.data.manifest import Manifest
from vit_registers.data.prepare import run
from vit_registers.data.sources.folder import Folder
from vit_registers.pipeline.configs import PrepareConfig


def table(train: list[int], test: list[int]) -> pd.DataFrame:
    """Rows with the labels of both splits."""
    return pd.DataFrame({"split": ["train"] * len(train) + ["test"] * len(test), "label": [*train, *test]})


def kept(given: pd.DataFrame, limit: int, labelled: bool = True) -> dict[str, list[int]]:
    with first_look.limited(limit):
        found = first_look.taken(given, labelled, "here")
    return {split: part["label"].tolist() for split, part in found.groupby("split")}


def test_classes_with_two_training_images_and_a_test_image_are_taken_in_turn() -> None:
    given = table([0, 1, 1, 1, 1, 2, 2, 3, 3, 3], [0, 1, 1, 1, 3, 3, 4])
    assert kept(given, 4) == {"train": [1, 1, 3, 3], "test": [1, 1, 3, 3]}  # 0 has one, 2 none to test, 4 none to train
    assert kept(given, 6) == {"train": [1, 1, 1, 3, 3, 3], "test": [1, 1, 1, 3, 3]}


def test_without_labels_the_first_of_each_split_are_taken() -> None:
    given = table([5, 6, 7, 8, 9], [1, 2, 3])
    assert kept(given, 4, labelled=False) == {"train": [5, 6, 7, 8], "test": [1, 2, 3]}


def test_it_agrees_with_going_through_the_rows_one_by_one() -> None:
    rng = np.random.default_rng(0)
    for limit in (4, 8, 11):
        given = table(rng.integers(0, 9, 60).tolist(), rng.integers(0, 9, 20).tolist())
        train, test = given["label"][:60].tolist(), given["label"][60:].tolist()
        usable = [label for label in range(9) if train.count(label) >= 2 and label in test][: limit // 2]
        wanted = {}
        for split, labels in (("train", train), ("test", test)):
            places = {label: [i for i, each in enumerate(labels) if each == label] for label in usable}
            rows: list[int] = []
            for turn in range(60):
                rows += sorted(places[label][turn] for label in usable if turn < len(places[label]))
            wanted[split] = [labels[i] for i in sorted(rows[:limit])]
        assert kept(given, limit) == wanted


def test_no_limit_keeps_all_and_a_limit_ends_with_its_block() -> None:
    given = table([0, 0, 1, 1], [0, 1])
    assert len(first_look.taken(given, True, "here")) == 6
    kept(given, 4)
    assert len(first_look.taken(given, True, "here")) == 6


def test_too_few_classes_are_refused() -> None:
    with pytest.raises(InputError, match="here: fewer than two classes have two training images"):
        kept(table([0, 0, 1], [0, 1]), 4)


def test_images_beyond_the_limit_are_not_read(tmp_path: Path) -> None:
    for split in ("train", "test"):
        for label in ("a", "b", "c"):
            for i in range(5):
                path = tmp_path / "raw" / split / label / f"{i}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.new("RGB", (8, 8)).save(path)
    (tmp_path / "raw/train/c/4.png").write_bytes(b"no image")
    source = Folder(kind="folder", path=str(tmp_path / "raw"))
    run(PrepareConfig(seed=0, name="few", source=source, limit=4), tmp_path / "few")
    manifest = Manifest.load(tmp_path / "few")
    assert manifest.table["split"].value_counts().to_dict() == {"train": 4, "test": 4}
    assert manifest.classes == ["a", "b", "c"]  # a label means the same as without a limit
    with pytest.raises(InputError, match=r"4\.png"):
        run(PrepareConfig(seed=0, name="whole", source=source), tmp_path / "whole")
