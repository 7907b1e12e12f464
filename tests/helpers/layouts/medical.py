"""APTOS 2019, pacemakers and OrthoNet."""

from collections.abc import Sequence
from pathlib import Path

from helpers.layouts.pictures import Paint, Size, paint


def aptos_part(
    root: Path, csv: str, folder: str, grades: Sequence[int], size: Size = (12, 8), draw: Paint = paint
) -> None:
    """A CSV file of grades, and its images in nested folders."""
    lines = ["id_code,diagnosis"]
    for i, grade in enumerate(grades):
        draw(root / f"{folder}_images/{folder}_images/{folder}{i}.png", size)
        lines.append(f"{folder}{i},{grade}")
    (root / csv).write_text("\n".join(lines) + "\n")


def pacemaker(
    root: Path, labels: Sequence[str], train: int = 10, test: int = 2, size: Size = (12, 8), draw: Paint = paint
) -> None:
    """So many images of each class in Train and in Test."""
    for label in labels:
        for i in range(train):
            draw(root / f"Train/{label}/{label[:3]}{i}.JPG", size)
        for i in range(test):
            draw(root / f"Test/{label}/{label[:3]}t{i}.JPG", size)


def orthonet_part(root: Path, split: str, labels: Sequence[str], size: Size = (12, 8), draw: Paint = paint) -> None:
    """A CSV file of labels, and its images."""
    lines = ["filenames,labels"]
    for i, label in enumerate(labels):
        draw(root / f"orthonet data/orthonet data/{split}{i}.png", size)
        lines.append(f"{split}{i}.png,{label}")
    (root / f"{split}.csv").write_text("\n".join(lines) + "\n")
