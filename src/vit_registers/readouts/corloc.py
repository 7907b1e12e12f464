"""The step that runs LOST on cached keys and scores its boxes: CorLoc with intervals, and boxes that know nothing."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from vit_registers import metrics
from vit_registers.data.manifest import Manifest
from vit_registers.errors import InputError
from vit_registers.files import replacing
from vit_registers.forward.store import Features, condition_folder
from vit_registers.metrics import Metric
from vit_registers.readouts import gallery, lost
from vit_registers.readouts.boxes import (
    Floats,
    Geometry,
    best_centre_share,
    best_iou,
    centre_boxes,
    random_boxes,
)
from vit_registers.readouts.statistics import wilson
from vit_registers.seeds import generator
from vit_registers.steps import LostStep

HIT = 0.5  # intersection over union from which a box counts (simeoni2021)
NO_TRUTH = "the data set has no boxes"
CHUNK = 64  # images at a time: similarities are p x p each


def truth_of(manifest: Manifest, rows: np.ndarray) -> list[Floats]:
    """Ground-truth boxes (b, 4) of each of some rows; b is 0 where the manifest has none."""
    given = [manifest.table["boxes"].iloc[int(row)] for row in rows]
    # A column without any box reads back as NaN, a single missing value as None.
    return [np.array([list(box) for box in b] if isinstance(b, np.ndarray) else []).reshape(-1, 4) for b in given]


def has_truth(manifest: Manifest, dense: np.ndarray, truth: list[Floats]) -> bool:
    """Whether dense images have boxes: all of them or none; CorLoc of some of them would be of an unnamed subset."""
    without = [row for row, boxes in zip(dense, truth, strict=True) if not len(boxes)]
    if without and len(without) < len(truth):
        image = manifest.table["image_id"].iloc[int(without[0])]
        raise InputError(
            f"data set '{manifest.name}': image '{image}' has no box while others have; CorLoc needs one on every "
            "image of the dense split, or on none: then boxes are found but not scored"
        )
    return not without


def _keys_name(features: Features, layer: int) -> str:
    """Name of the array that holds the keys of a block; negative layers count from the last."""
    depth = int(features.index["depth"])
    if not -depth <= layer < depth:
        raise InputError(f"lost.layer: {layer} is not one of the {depth} blocks of the features in {features.folder}")
    name = f"keys_{layer % depth:02d}"
    if name not in features.index["arrays"]:
        raise InputError(f"lost.layer: {features.folder} holds no {name}; add {layer} to extraction.keys_layers")
    return name


def boxes_of(features: Features, manifest: Manifest, cfg: LostStep) -> tuple[lost.Steps, Floats]:
    """LOST's steps on all dense images, and its boxes (n, 4) in pixels of the images."""
    keys = features.array(_keys_name(features, cfg.lost.layer))
    grid = features.layout.grid
    parts = []
    for start in range(0, len(keys), CHUNK):
        chunk = np.asarray(keys[start : start + CHUNK])
        similar = lost.similarity(chunk, cfg.lost.normalise, cfg.lost.centre, cfg.lost.bias)
        parts.append(lost.discover(similar, grid, cfg.lost.k))
    steps = lost.Steps(
        **{name: np.concatenate([getattr(part, name) for part in parts]) for name in lost.Steps.__dataclass_fields__}
    )
    size, resize = int(features.index["input_size"]), int(features.index["resize"])
    in_input = steps.box * (size / np.array([grid[1], grid[0], grid[1], grid[0]]))
    table = manifest.table.iloc[features.dense_rows]
    boxes = [
        Geometry(int(width), int(height), resize, size).to_image(box)
        for box, width, height in zip(in_input, table["width"], table["height"], strict=True)
    ]
    return steps, np.stack(boxes)


def run(cfg: LostStep, data: Path, features: Path, out: Path) -> None:
    """Write <model>.csv, .images.parquet (hit per image), .boxes.parquet and .steps.npz (gallery) below ``out``."""
    manifest = Manifest.load(data)
    rows: list[Metric] = []
    images: list[pd.DataFrame] = []
    boxes: list[pd.DataFrame] = []
    pictures: dict[str, np.ndarray] = {}
    for condition in cfg.conditions:
        cached = Features.open(condition_folder(features, cfg.dataset, cfg.model, condition))
        if cached.status != "complete":
            rows.append(_row(cfg, condition, "corloc", None, 0, note=cached.reason))
            continue
        dense = cached.dense_rows
        truth = truth_of(manifest, dense)
        steps, found = boxes_of(cached, manifest, cfg)
        ids = manifest.table["image_id"].to_numpy()[dense]
        if has_truth(manifest, dense, truth):
            overlap = best_iou(found, truth)
            rows.append(_share(cfg, condition, "corloc", overlap >= HIT))
            images.append(_per_image(condition, ids, overlap >= HIT))
            rows += _baselines(cfg, manifest, dense, truth) if condition == "baseline" else []
        else:
            overlap = np.full(len(ids), np.nan)
            rows.append(_row(cfg, condition, "corloc", None, 0, note=NO_TRUTH))
            images.append(_per_image(condition, ids[:0], overlap[:0]))
        corners = dict(zip(("x0", "y0", "x1", "y1"), found.T, strict=True))
        boxes.append(pd.DataFrame({"image_id": ids, "intervention": condition, **corners, "iou": overlap}))
        if condition == "baseline":
            pictures |= _images(cfg, cached, manifest, truth)
        pictures |= _pictures(cfg, condition, cached, manifest, steps, found)
    metrics.write(metrics.frame(rows), out / f"{cfg.model}.csv")
    for name, tables in (("images", images), ("boxes", boxes)):
        with replacing(out / f"{cfg.model}.{name}.parquet") as temporary:
            pd.concat(tables, ignore_index=True).to_parquet(temporary, index=False)
    with replacing(out / f"{cfg.model}.steps.npz") as temporary:
        np.savez_compressed(temporary, allow_pickle=False, **pictures)


def _row(cfg: LostStep, condition: str, metric: str, value: float | None, n: int, **more: Any) -> Metric:
    return Metric(cfg.model, cfg.dataset, condition, "lost", metric, value, "fraction", n, **more)


def _share(cfg: LostStep, condition: str, metric: str, hits: np.ndarray, note: str | None = None) -> Metric:
    low, high = wilson(int(hits.sum()), len(hits), cfg.statistics.confidence)
    return _row(cfg, condition, metric, float(hits.mean()), len(hits), low=low, high=high, note=note)


def _per_image(condition: str, ids: np.ndarray, hits: np.ndarray) -> pd.DataFrame:
    """The contract of compare.py: one value per image, condition, readout, metric and seed."""
    table = pd.DataFrame({"image_id": ids, "intervention": condition, "readout": "lost", "metric": "corloc"})
    return table.assign(seed=pd.array([pd.NA] * len(table), dtype="Int64"), value=hits.astype(float))


def _baselines(cfg: LostStep, manifest: Manifest, dense: np.ndarray, truth: list[Floats]) -> list[Metric]:
    """CorLoc of boxes that see no image: the best centred one, chosen on training images, and a random one."""
    sizes = manifest.table[["width", "height"]].to_numpy()
    rng = generator(cfg.seed, "random boxes", cfg.dataset)
    drawn = best_iou(random_boxes(sizes[dense], rng), truth) >= HIT
    rows = [_share(cfg, "baseline", "corloc_random_box", drawn)]
    training = manifest.rows("train")
    known = [(row, boxes) for row, boxes in zip(training, truth_of(manifest, training), strict=True) if len(boxes)]
    if not known:
        note = "no training image has a box to choose it on"
        return [*rows, _row(cfg, "baseline", "corloc_centre_box", None, 0, note=note)]
    share = best_centre_share(sizes[[row for row, _ in known]], [boxes for _, boxes in known])
    centred = best_iou(centre_boxes(sizes[dense], share), truth) >= HIT
    note = f"covers {share:g} of each side, chosen on the training split"
    return [*rows, _share(cfg, "baseline", "corloc_centre_box", centred, note)]


def _images(cfg: LostStep, cached: Features, manifest: Manifest, truth: list[Floats]) -> dict[str, np.ndarray]:
    """Ids, pixels and truth of the gallery images, boxes NaN-padded to the same number."""
    chosen = gallery.choose(manifest, cached.dense_rows, cfg.gallery.images)
    rows = cached.dense_rows[chosen]
    size, resize = int(cached.index["input_size"]), int(cached.index["resize"])
    most = max(1, *(len(truth[i]) for i in chosen))
    padded = np.full((len(chosen), most, 4), np.nan)
    for at, i in enumerate(chosen):
        padded[at, : len(truth[i])] = _in_picture(truth[i], manifest, int(cached.dense_rows[i]), cached)
    ids = manifest.table["image_id"].to_numpy()[rows].astype(str)
    return {"image_id": ids, "images": gallery.pixels(manifest, rows, resize, size), "truth": padded}


def _in_picture(boxes: Floats, manifest: Manifest, row: int, cached: Features) -> Floats:
    """Boxes in pixels of the gallery picture, which shows the model's input."""
    table = manifest.table
    size, resize = int(cached.index["input_size"]), int(cached.index["resize"])
    return Geometry(int(table["width"].iloc[row]), int(table["height"].iloc[row]), resize, size).to_input(boxes)


def _pictures(
    cfg: LostStep, condition: str, cached: Features, manifest: Manifest, steps: lost.Steps, found: Floats
) -> dict[str, np.ndarray]:
    """The steps of the gallery images under names that begin with the condition."""
    chosen = gallery.choose(manifest, cached.dense_rows, cfg.gallery.images)
    shape = (len(chosen), *cached.layout.grid)
    drawn = [_in_picture(found[i], manifest, int(cached.dense_rows[i]), cached) for i in chosen]
    return {
        f"{condition}/degree": steps.degree[chosen].reshape(shape),
        f"{condition}/seed": steps.seed[chosen],
        f"{condition}/kept": steps.kept[chosen].reshape(shape),
        f"{condition}/mask": steps.mask[chosen],
        f"{condition}/box": np.stack(drawn),
    }
