"""PASCAL VOC, COCO and SPair-71k."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from helpers.layouts.pictures import Paint, Size, paint

Voc = tuple[str, tuple[Any, Any, Any, Any], int]  # class, corners that count from 1, difficult


def voc_annotation(objects: Sequence[Voc], size: Size = (12, 8)) -> str:
    """The XML of an image, with a part inside each object that is no object of its own."""
    width, height = size
    text = f"<annotation><size><width>{width}</width><height>{height}</height><depth>3</depth></size>"
    for name, (xmin, ymin, xmax, ymax), difficult in objects:
        corners = f"<xmax>{xmax}</xmax><xmin>{xmin}</xmin><ymax>{ymax}</ymax><ymin>{ymin}</ymin>"
        text += (
            f"<object><name>{name}</name><truncated>1</truncated><difficult>{difficult}</difficult>"
            f"<bndbox>{corners}</bndbox><part><name>head</name><bndbox>{corners}</bndbox></part></object>"
        )
    return text + "</annotation>"


def voc(
    root: Path,
    images: Mapping[str, Sequence[Voc]],
    lists: Mapping[str, Sequence[str]],
    size: Size = (12, 8),
    draw: Paint = paint,
) -> None:
    """A year of VOC: the objects of its images by their names, and its lists of images."""
    for sub in ("Annotations", "ImageSets/Main"):
        (root / sub).mkdir(parents=True)
    for name, objects in images.items():
        draw(root / f"JPEGImages/{name}.jpg", size)
        (root / f"Annotations/{name}.xml").write_text(voc_annotation(objects, size))
    for name, listed in lists.items():
        (root / f"ImageSets/Main/{name}.txt").write_text("".join(f"{each}\n" for each in listed))


def coco_object(image: int, category: int, bbox: Sequence[float], iscrowd: int = 0) -> dict[str, Any]:
    """An annotation of COCO."""
    return {
        "image_id": image, "category_id": category, "bbox": [*bbox], "iscrowd": iscrowd,
        "segmentation": [[0, 0, 1, 1]],
    }  # fmt: skip


def coco_content(
    images: Mapping[str, int],
    categories: Mapping[int, str],
    size: Size = (12, 8),
    bbox: Sequence[float] = (1, 2, 4, 5),
) -> dict[str, Any]:
    """An annotation file of COCO, one object in every image: category by file."""
    width, height = size
    return {
        "images": [{"id": 100 + i, "file_name": name, "width": width, "height": height}
                   for i, name in enumerate(images)],
        "annotations": [coco_object(100 + i, category, bbox) for i, category in enumerate(images.values())],
        "categories": [{"id": number, "name": name} for number, name in categories.items()],
    }  # fmt: skip


def spair_annotation(size: Size = (12, 8), **changes: Any) -> dict[str, Any]:
    """An annotation of SPair-71k with two visible keypoints; their numbers are text, as JSON has keys."""
    width, height = size
    kps = {"10": [width - 1, height - 1], "0": [3, 2], "2": None}
    given = {"image_width": width, "image_height": height, "bndbox": [1, 2, width - 1, height], "kps": kps}
    return {**given, **changes}


def spair_image(root: Path, label: str, image: str, given: Any, size: Size = (12, 8), draw: Paint = paint) -> None:
    """An image of a class, and its annotation."""
    draw(root / f"JPEGImages/{label}/{image}.jpg", size)
    path = root / f"ImageAnnotation/{label}/{image}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(given))


def spair(root: Path, lists: Mapping[str, Sequence[str]], size: Size = (12, 8), draw: Paint = paint) -> None:
    """SPair-71k with its lists of pairs, such as ``1-a-b:cat``, and the images that these name."""
    for name, lines in lists.items():
        path = root / f"Layout/large/{name}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(lines) + "\n")
        for line in lines:
            pair, label = line.split(":")
            for image in pair.split("-")[1:]:
                spair_image(root, label, image, spair_annotation(size), size, draw)
