"""A folder of PASCAL VOC, with its boxes, to a manifest. The images stay where they are."""

import logging
from pathlib import Path
from xml.etree import ElementTree

from vit_registers.core.errors import InputError
from vit_registers.data import manifest
from vit_registers.data.sources import objects
from vit_registers.params import VocDataset

log = logging.getLogger(__name__)

WHOLE = "expected PASCAL VOC's annotation; restore the file"


def prepare(source: VocDataset, name: str, out: Path) -> None:
    """The images of two of its lists, each with the boxes of its objects and the class of the largest as its label."""
    root = Path(source.path)
    if not root.is_dir():
        raise InputError(f"{root}: no such folder; correct datasets.{name}.path")
    lists = {"train": source.train, "test": source.test}
    names = {split: _listed(root, lists[split], f"datasets.{name}.{split}") for split in lists}
    both = sorted(set(names["train"]) & set(names["test"]))
    if both:
        raise InputError(
            f"{root}: image '{both[0]}' is in list '{source.train}' and in '{source.test}'; "
            f"correct datasets.{name}.train or datasets.{name}.test"
        )
    rows = [row for split in lists for row in _rows(root, names[split], split, source.difficult)]
    table, classes = objects.table(rows)
    table = manifest.check(table, classes, root, str(root))
    manifest.two_to_train(table, classes, str(root))
    what = f"VOC {source.path} ({source.train}, {source.test}), class of largest object"
    manifest.write(out, table, classes, name, str(root.resolve()), what, source.licence)


def _listed(root: Path, name: str, key: str) -> list[str]:
    """Names of images in one of VOC's lists."""
    return objects.lines(root / "ImageSets" / "Main" / f"{name}.txt", key)


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


def _objects(path: Path, difficult: bool) -> list[objects.Annotated]:
    """Objects of an annotation file, in its order; their parts (heads, hands, feet) are none."""
    try:
        tree = ElementTree.parse(path).getroot()
    except FileNotFoundError:
        raise InputError(f"{path}: no such annotation; restore it or drop its image from the list") from None
    except ElementTree.ParseError as error:
        raise InputError(f"{path}: not valid XML ({error}); restore the file") from None
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
    # Said here, as the check of the manifest knows rows, and no person has seen those.
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
