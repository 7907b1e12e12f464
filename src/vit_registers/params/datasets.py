"""Data sets: generated, a folder of images, a CSV manifest, CIFAR, or images with annotated objects (VOC, COCO)."""

from typing import Annotated, Literal, Self

from pydantic import Field, PositiveInt, model_validator

from vit_registers.params.base import Strict


class GeneratedDataset(Strict):
    """Shapes on a textured ground: class, box, mask, depth and correspondence pair of every image are known.

    ``grey`` takes the colour away, and with it what tells most classes apart: the same pictures, another data set.
    """

    kind: Literal["generated"]
    train: PositiveInt
    test: PositiveInt
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


class CifarDataset(Strict):
    """CIFAR-10 or CIFAR-100 with its own split and, of the latter, its 100 fine classes; made into PNG files.

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
        for split, count, least in (("train", self.train, 2 * classes), ("test", self.test, classes)):
            if count is not None and count < least:
                raise ValueError(f"{split}: expected at least {least} images for {classes} classes, got {count}")
        return self


class VocDataset(Strict):
    """PASCAL VOC: ``path`` holds JPEGImages, Annotations and ImageSets; ``train`` and ``test`` name lists of images.

    Objects are discovered on the dense split, which is ``test``, and what LOST is scored on is VOC07's trainval (5,011
    images): so VOC's own test list trains probes here, and its trainval list tests. The label of an image is the class
    of its largest object, as readouts need one. ``difficult: false`` drops difficult objects, as bach2025 did, and with
    them the images that have no others.
    """

    kind: Literal["voc"]
    path: str
    train: str = "test"
    test: str = "trainval"
    difficult: bool = True
    licence: str = "unknown"


class CocoDataset(Strict):
    """A folder of ``images`` with COCO's instance ``annotations``; ``list`` names those to take (COCO20k), else all.

    Crowds are dropped. The label of an image is the class of its largest object. COCO20k has no training part:
    ``train_share`` of each class is drawn for probes, and objects are discovered on the others. A class too rare for
    two images to train on and one to test is refused, or, with ``rare: drop``, left out.
    """

    kind: Literal["coco"]
    images: str
    annotations: str
    list: str | None = None
    train_share: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.2
    rare: Literal["refuse", "drop"] = "refuse"
    licence: str = "unknown"


Dataset = Annotated[
    GeneratedDataset | FolderDataset | CsvDataset | CifarDataset | VocDataset | CocoDataset, Field(discriminator="kind")
]
