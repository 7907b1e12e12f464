"""A CSV file of images in nested folders, with labels and the split that the data comes with."""

from pathlib import Path
from typing import Literal

import pandas as pd

from vit_registers.core.errors import InputError
from vit_registers.core.prose import escape, key
from vit_registers.data import manifest, tables
from vit_registers.params.bases import DatasetSource


class CsvTable(DatasetSource):
    """A CSV file with one row per image below ``root``.

    ``path_column``, ``label_column``, ``split_column`` and ``box_columns`` name its columns; ``box_columns`` hold x0,
    y0, x1, y1 in pixels. Splits must be called train and test; others, such as val, are kept as they are.
    """

    kind: Literal["csv"]
    csv: str
    root: str
    path_column: str = "path"
    label_column: str = "label"
    split_column: str = "split"
    box_columns: tuple[str, str, str, str] | None = None
    licence: str = "unknown"

    def paths(self) -> dict[str, str]:
        """The CSV file and the folder of the images."""
        return {"csv": self.csv, "root": self.root}

    def tracked(self) -> list[str]:
        """The CSV file."""
        return [self.csv]

    def prepare(self, name: str, seed: int, out: Path) -> None:
        """Every row of the CSV file is one image; nothing is drawn."""
        path, root = Path(self.csv), Path(self.root)
        needed = [self.path_column, self.label_column, self.split_column]
        columns = [*needed, *(self.box_columns or [])]
        given = tables.read(path, columns, needed, f"correct datasets.{name}.csv")
        classes = sorted(given[self.label_column].unique())
        table = pd.DataFrame(
            {
                "image_id": given["image_id"] if "image_id" in given.columns else given[self.path_column],
                "path": given[self.path_column],
                "split": given[self.split_column],
                "label": given[self.label_column].map(classes.index),
                "boxes": _boxes(given[list(self.box_columns)], path) if self.box_columns else None,
            }
        )
        table = manifest.check(table, classes, root, str(path))
        manifest.two_to_train(table, classes, str(path))
        manifest.write(out, table, classes, name, str(root.resolve()), f"CSV {self.csv}", self.licence)

    def sentence(self, name: str) -> str:
        """That labels and split are the data set's own."""
        licence = escape(self.licence)
        return f"{key(name)} is a table of images with labels and the split it ships with (licence: {licence})."


def _boxes(corners: pd.DataFrame, path: Path) -> list[list[list[float]]]:
    """One box per row of the columns x0, y0, x1, y1; text that is no number is refused with its row."""
    boxes = []
    for row, values in enumerate(corners.itertuples(index=False)):
        try:
            boxes.append([[float(value) for value in values]])
        except ValueError:
            raise InputError(f"{path}: row {row + 1}: box {list(values)} is not four numbers") from None
    return boxes
