"""PASCAL VOC, with the boxes of its objects. The images stay where they are."""

import logging
from pathlib import Path
from typing import Literal
from xml.etree import ElementTree

from vit_registers.core.doors import door
from vit_registers.core.errors import InputError
from vit_registers.core.prose import escape, key
from vit_registers.data import manifest, objects
from vit_registers.data.published.versions import PublishedSource, versions
from vit_registers.params.bases import Published

log = logging.getLogger(__name__)

WHOLE = "expected PASCAL VOC's annotation; restore the file"


class Voc(PublishedSource):
    """PASCAL VOC: ``path`` holds JPEGImages, Annotations and ImageSets; ``train`` and ``test`` name lists of images.

    Objects are discovered on the dense split, which is ``test``, and LOST is scored on VOC07's trainval list (5,011
    images): so VOC's own test list trains probes here, and its trainval list tests. The label of an image is the class
    of its largest object, as classification needs one. ``difficult: false`` drops difficult objects, as bach2025 did,
    and with them the images that have no others.
    """

    kind: Literal["voc"]
    path: str
    train: str = "test"
    test: str = "trainval"
    difficult: bool = True
    licence: str = "unknown"

    def paths(self) -> dict[str, str]:
        """The folder of one year, such as VOCdevkit/VOC2007."""
        return {"path": self.path}

    def published(self) -> Published | None:
        """VOC2007 or VOC2012, by the name of the folder, as its archives name it."""
        name = Path(self.path).name.lower()
        return (
            Published(name, self.path, {self.train: ("train",), self.test: ("test",)}) if name in versions() else None
        )

    def prepare(self, name: str, seed: int, out: Path) -> None:
        """The images of both lists, each with the boxes of its objects and the class of the largest as its label."""
        root = Path(self.path)
        if not root.is_dir():
            raise InputError(f"{root}: no such folder; correct datasets.{name}.path")
        lists = {"train": self.train, "test": self.test}
        names = {split: _listed(root, lists[split], f"datasets.{name}.{split}") for split in lists}
        both = sorted(set(names["train"]) & set(names["test"]))
        if both:
            raise InputError(
                f"{root}: image '{both[0]}' is in list '{self.train}' and in '{self.test}'; "
                f"correct datasets.{name}.train or datasets.{name}.test"
            )
        rows = [row for split in lists for row in _rows(root, names[split], split, self.difficult)]
        table, classes = objects.table(rows)
        table = manifest.check(table, classes, root, str(root))
        manifest.two_to_train(table, classes, str(root))
        what = f"VOC {self.path} ({self.train}, {self.test}), class of largest object"
        manifest.write(out, table, classes, name, str(root.resolve()), what, self.licence)

    def sentence(self, name: str) -> str:
        """Its lists, its boxes and its labels."""
        which = "difficult ones included" if self.difficult else "without difficult ones and images of them alone"
        return (
            f"{key(name)} is PASCAL VOC, its image list {key(self.train)} as training and {key(self.test)} as "
            f"test split, with the boxes of all objects, {which}; {objects.LARGEST} (licence: {escape(self.licence)})."
        )


def _listed(root: Path, name: str, key: str) -> list[str]:
    """Names of images in one of VOC's lists."""
    path = root / "ImageSets" / "Main" / f"{name}.txt"
    names = objects.lines(path, key)
    for number, given in enumerate(names, start=1):
        if "/" in given:  # a way to other folders
            raise InputError(f"{path}: line {number}: '{given}' is not the name of one image; correct {key}")
    return names


def _rows(root: Path, names: list[str], split: str, difficult: bool) -> list[objects.Row]:
    """A row per image of a list; where difficult objects are dropped, images that had no others are left out."""
    rows = []
    for name in names:
        path = root / "Annotations" / f"{name}.xml"
        found = _objects(path, difficult)
        if found:
            rows.append(objects.row(f"JPEGImages/{name}.jpg", split, found))
        elif difficult:
            raise InputError(f"{path}: no object; expected at least one in every image: drop it from its list")
    if len(rows) < len(names):
        log.info("%s: %d of %d %s images left out: no object but difficult ones", root, len(names) - len(rows),
                 len(names), split)  # fmt: skip
    return rows


class _WithoutEntities(ElementTree.TreeBuilder):
    """Elements of a file without a DTD: entities, which can be immense or name other files, are declared there."""

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        """Refuse it."""
        raise ValueError("it has a DTD, which VOC has not")


def _objects(path: Path, difficult: bool) -> list[objects.Annotated]:
    """Objects of an annotation file, in its order; their parts (heads, hands, feet) are not objects."""
    lacking = "restore it or drop its image from the list"
    with door(path, "valid XML", "restore the file", lacking, "annotation") as file:
        tree = ElementTree.parse(file, ElementTree.XMLParser(target=_WithoutEntities())).getroot()
    size = (_number(tree, "size/width", path), _number(tree, "size/height", path))
    found: list[objects.Annotated] = []
    for number, element in enumerate(tree.findall("object"), start=1):
        name = (element.findtext("name") or "").strip()
        if not name:
            raise InputError(f"{path}: object {number} has no name; {WHOLE}")
        if difficult or (element.findtext("difficult") or "0").strip() != "1":
            found.append(objects.Annotated(name, _box(element, size, path)))
    return found


def _box(element: ElementTree.Element, size: tuple[float, float], path: Path) -> list[float]:
    """Corners from pixels that count from 1 with the last one in, to pixels that count from 0 with the last one out."""
    xmin, ymin, xmax, ymax = (_number(element, f"bndbox/{corner}", path) for corner in ("xmin", "ymin", "xmax", "ymax"))
    # Checked here and not by the manifest's check alone, as that names rows, which nobody can look up in VOC.
    if not (1 <= xmin <= xmax <= size[0] and 1 <= ymin <= ymax <= size[1]):
        raise InputError(
            f"{path}: box {[xmin, ymin, xmax, ymax]} is empty or leaves the image of {size[0]:g}x{size[1]:g} pixels "
            "(corners count from 1); correct it"
        )
    return [xmin - 1, ymin - 1, xmax, ymax]


def _number(element: ElementTree.Element, key: str, path: Path) -> float:
    text = element.findtext(key)
    if text is None:
        raise InputError(f"{path}: <{element.tag}> has no {key}; {WHOLE}")
    try:
        return float(text)
    except ValueError:
        raise InputError(f"{path}: {key} is '{text.strip()}', which is no number; {WHOLE}") from None
