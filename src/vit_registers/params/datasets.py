"""Data sets: generated, a folder of images, or a CSV manifest."""

from typing import Annotated, Literal

from pydantic import Field

from vit_registers.params.base import Count, Strict


class GeneratedDataset(Strict):
    """Shapes on a textured ground: class, box, mask, depth and correspondence pair of every image are known.

    ``grey`` takes the colour away, and with it what tells most classes apart: the same pictures, another data set.
    """

    kind: Literal["generated"]
    train: Count
    test: Count
    size: Annotated[int, Field(ge=32)] = 64
    grey: bool = False


class FolderDataset(Strict):
    """``path/<class>/image`` with a stratified split, or ``path/{train,test}/<class>/image`` with the given one.

    ``val`` may stand for ``test``, as in ImageNet; where both are there ``test`` is taken.
    """

    kind: Literal["folder"]
    path: str
    test_share: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.2
    licence: str = "unknown"


class CsvDataset(Strict):
    """A CSV file of images in nested folders below ``root``, with labels and the split that ships with the data.

    ``path``, ``label``, ``split`` and ``box`` name columns; ``box`` columns are x0, y0, x1, y1 in pixels.
    """

    kind: Literal["csv"]
    csv: str
    root: str
    path_column: str = "path"
    label_column: str = "label"
    split_column: str = "split"
    box_columns: tuple[str, str, str, str] | None = None
    licence: str = "unknown"


Dataset = Annotated[GeneratedDataset | FolderDataset | CsvDataset, Field(discriminator="kind")]
