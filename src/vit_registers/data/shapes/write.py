"""The generated images, written as ordinary files with all that is known of them."""

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from vit_registers.core.seeds import generator
from vit_registers.data.shapes import draw, views

log = logging.getLogger(__name__)

# First seed of a split: chunks of different splits never meet.
SPLIT_SEEDS = {"train": 0, "test": 10**6}


def images(
    out: Path,
    seed: int,
    counts: dict[str, int],
    size: int,
    grey: bool,
    classes: draw.Classes = "colour",
    pairs: int = 0,
) -> pd.DataFrame:
    """Write ``counts`` images of each split with masks and depth below ``out``; rows of the manifest.

    Of the first ``pairs`` of split ``test`` a second view is written as well. A chunk is always drawn whole, so that a
    smaller data set is the beginning of a larger one.
    """
    tables = []
    for split, count in counts.items():
        for start in range(0, count, draw.CHUNK):
            rng = np.random.default_rng([SPLIT_SEEDS[split] + seed, start // draw.CHUNK])
            chunk = draw.generate(rng, draw.CHUNK, size, classes)
            if grey:
                chunk = replace(chunk, rgb=draw.grey(chunk.rgb))
            rows = _write_chunk(out, split, start, chunk, min(draw.CHUNK, count - start))
            if split == "test" and start < pairs:
                matrices = views.similarities(generator(seed, "second views", start), draw.CHUNK, size)
                _write_views(out, rows, chunk, matrices[: pairs - start])
            tables.append(rows)
        log.info("%s: %d images", split, count)
    return pd.concat(tables)


def _write_chunk(out: Path, split: str, start: int, chunk: draw.Images, count: int) -> pd.DataFrame:
    """The first ``count`` images of a chunk, numbered from ``start``."""
    for what in ("images", "masks", "depth"):
        (out / what / split).mkdir(parents=True, exist_ok=True)
    rows = []
    for i in range(count):
        file = f"{split}/{start + i:06d}.png"
        _save(chunk.rgb[i], out / "images" / file)
        _save(chunk.mask[i].astype(np.uint8) * 255, out / "masks" / file)
        _save((chunk.depth[i] * 65535).astype(np.uint16), out / "depth" / file)
        rows.append(
            {
                "image_id": f"{split}-{start + i:06d}",
                "path": f"images/{file}",
                "split": split,
                "label": int(chunk.label[i]),
                "width": chunk.rgb.shape[2],
                "height": chunk.rgb.shape[1],
                "boxes": [chunk.boxes[i].astype(float).tolist()],
                "mask": f"masks/{file}",
                "depth": f"depth/{file}",
            }
        )
    return pd.DataFrame(rows)


def _write_views(out: Path, rows: pd.DataFrame, chunk: draw.Images, matrices: views.Floats) -> None:
    """Second views of the first images of a chunk, put down in its ``rows``."""
    (out / "pairs").mkdir(exist_ok=True)
    entries: list[str | None] = [None] * len(rows)
    for i, (image_id, matrix) in enumerate(zip(rows["image_id"], matrices, strict=False)):
        path = f"pairs/{image_id}.png"
        _save(views.view(chunk.rgb[i], matrix), out / path)
        entries[i] = views.entry(path, matrix)
    rows["correspondence"] = entries


def _save(pixels: np.ndarray, path: Path) -> None:
    Image.fromarray(pixels).save(path, compress_level=1)
