"""A CSV file of images in nested folders, with labels and the split that ships with the data, to a manifest."""

from pathlib import Path

import pandas as pd

from vit_registers.core.errors import InputError
from vit_registers.data import manifest
from vit_registers.params import CsvDataset


def prepare(source: CsvDataset, name: str, out: Path) -> None:
    """Every row is one image; splits must be called train and test (others, such as val, are kept as they are)."""
    path, root = Path(source.csv), Path(source.root)
    try:
        given = pd.read_csv(path, dtype=str, keep_default_na=False)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; correct datasets.{name}.csv") from None
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not a CSV file with a header ({error})") from None
    wanted = [source.path_column, source.label_column, source.split_column, *(source.box_columns or [])]
    for column in wanted:
        if column not in given.columns:
            raise InputError(f"{path}: no column '{column}'; its columns are {', '.join(given.columns)}")
    for column in wanted[:3]:
        blank = given.index[given[column].str.strip() == ""]
        if len(blank):
            raise InputError(f"{path}: row {blank[0] + 1}: '{column}' is empty; fill it in or drop the row")
    classes = sorted(given[source.label_column].unique())
    table = pd.DataFrame(
        {
            "image_id": given["image_id"] if "image_id" in given.columns else given[source.path_column],
            "path": given[source.path_column],
            "split": given[source.split_column],
            "label": given[source.label_column].map(classes.index),
            "boxes": _boxes(given, source, path) if source.box_columns else None,
        }
    )
    table = manifest.check(table, classes, root, str(path))
    manifest.two_to_train(table, classes, str(path))
    manifest.write(out, table, classes, name, str(root.resolve()), f"CSV {source.csv}", source.licence)


def _boxes(given: pd.DataFrame, source: CsvDataset, path: Path) -> list[list[list[float]]]:
    """One box per row; text that is no number is refused with its row."""
    boxes = []
    for row, values in enumerate(given[list(source.box_columns or [])].itertuples(index=False)):
        try:
            boxes.append([[float(value) for value in values]])
        except ValueError:
            raise InputError(f"{path}: row {row + 1}: box {list(values)} is not four numbers") from None
    return boxes
