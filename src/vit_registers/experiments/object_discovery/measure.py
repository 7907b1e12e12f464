"""The step that finds objects in cached features and scores its boxes: LOST, DINO-seg, and boxes that know nothing."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vit_registers.core import table as metrics
from vit_registers.core.boxes import best_centre_share, best_iou, centre_boxes, random_boxes
from vit_registers.core.errors import InputError
from vit_registers.core.files import replacing
from vit_registers.core.seeds import generator
from vit_registers.core.stats import wilson
from vit_registers.core.table import Metric
from vit_registers.data import gallery
from vit_registers.data.manifest import Manifest
from vit_registers.data.targets import NO_TRUTH, has_truth, truth_of
from vit_registers.data.transforms import Floats, Geometry
from vit_registers.experiments.object_discovery import dino_seg, lost
from vit_registers.extraction.store import Features, condition_folder
from vit_registers.forward.arrays import array_name
from vit_registers.params import DinoSeg
from vit_registers.pipeline.slices import LostStep

METHODS = ("lost", "dino_seg")
HIT = 0.5  # intersection over union from which a box counts (simeoni2021)
CHUNK = 64  # images at a time: similarities are p x p each


def _array(features: Features, kind: str, layer: int) -> str:
    """Name of the array that holds queries, keys or values of a block; negative layers count from the last."""
    depth = int(features.index["depth"])
    if not -depth <= layer < depth:
        raise InputError(f"lost.layer: {layer} is not one of the {depth} blocks of the features in {features.folder}")
    name = array_name(kind, layer % depth)
    if name not in features.index["arrays"]:
        raise InputError(f"lost.layer: {features.folder} holds no {name}; add {layer} to extraction.projections.{kind}")
    return name


@dataclass(frozen=True)
class Views:
    """The dense images as LOST sees them: patch features on a grid, and the way back to pixels of the image.

    All on the model's grid where projections were kept at its input size, each on its own where at native size.
    """

    features: Features
    manifest: Manifest
    name: str

    @property
    def native(self) -> bool:
        """Whether the images have grids of their own."""
        return bool(self.features.index["arrays"][self.name]["rows"] == "native")

    def grids(self) -> NDArray[np.int64]:
        """Height and width in patches of each dense image: (n, 2)."""
        if self.native:
            return np.asarray(self.features.array("native_grid"))
        return np.tile(np.array(self.features.layout.grid), (len(self.features.dense_rows), 1))

    def chunk(self, images: NDArray[np.int64]) -> NDArray[np.float32]:
        """Patch features (b, p, d) of some dense images of one grid."""
        if not self.native:
            return np.asarray(self.features.array(self.name)[images], dtype=np.float32)
        found = [self.features.native(self.name, int(i)) for i in images]
        return np.stack([x.reshape(-1, x.shape[-1]) for x in found]).astype(np.float32)

    def geometry(self, image: int) -> Geometry:
        """The way of one dense image to its input."""
        if not self.native:
            return self.at_input(image)
        grid, patch = self.grids()[image], self.features.patch
        return Geometry(*self._size(image), None, (int(grid[0]) * patch[0], int(grid[1]) * patch[1]))

    def at_input(self, image: int) -> Geometry:
        """Its way to the model's own input size."""
        return Geometry.of(self.features.index, *self._size(image))

    def _size(self, image: int) -> tuple[int, int]:
        row = self.manifest.table.iloc[int(self.features.dense_rows[image])]
        return int(row["height"]), int(row["width"])


def boxes_of(views: Views, cfg: LostStep, shown: NDArray[np.int64]) -> tuple[dict[int, lost.Steps], Floats]:
    """LOST's steps on the dense images ``shown``, one by one, and its boxes (n, 4) of all in pixels of the images."""
    grids = views.grids()
    boxes = np.full((len(grids), 4), np.nan)
    steps: dict[int, lost.Steps] = {}
    for grid in np.unique(grids, axis=0):
        members = np.flatnonzero((grids == grid).all(axis=1))
        for start in range(0, len(members), CHUNK):
            images = members[start : start + CHUNK]
            similar = lost.similarity(views.chunk(images), cfg.lost.normalise, cfg.lost.centre)
            found = lost.discover(similar, (int(grid[0]), int(grid[1])), cfg.lost.k, cfg.lost.bias)
            for at, image in enumerate(images):
                in_input = found.box[at] * np.tile(views.features.patch[::-1], 2)
                boxes[image] = views.geometry(int(image)).to_image(in_input)
                if image in shown:
                    steps[int(image)] = found.of(at)
    return steps, boxes


def attended_boxes(views: Views, settings: DinoSeg) -> Floats:
    """DINO-seg's boxes (n, 4) of all dense images in pixels of the images; always at the model's input size."""
    features = views.features
    layout = features.layout
    if settings.head is None:
        given = features.array("attention")[:, -1, 0]  # [CLS] is the first special token
    else:
        by_head = features.array("attention_heads")
        if settings.head >= by_head.shape[2]:
            raise InputError(f"dino_seg.head: {settings.head} of a model with {by_head.shape[2]} heads; lower it")
        given = by_head[:, -1, settings.head, 0]
    over = np.asarray(given[:, layout.patch_slice], dtype=np.float32)
    found = dino_seg.discover(over, layout.grid, settings.mass, settings.skip_last_component)
    in_input = found * np.tile(features.patch[::-1], 2)
    return np.stack([views.at_input(i).to_image(box) for i, box in enumerate(in_input)])


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
            rows += [_row(cfg, condition, m, "corloc", None, 0, note=cached.reason) for m in METHODS]
            continue
        dense = cached.dense_rows
        truth = truth_of(manifest, dense)
        views = Views(cached, manifest, _array(cached, cfg.lost.feature, cfg.lost.layer))
        shown = gallery.choose(manifest, dense, cfg.gallery.images)
        steps, found = boxes_of(views, cfg, shown)
        ids = manifest.table["image_id"].to_numpy()[dense]
        if has_truth(manifest, dense, truth):
            overlap = best_iou(found, truth)
            rows.append(_share(cfg, condition, "lost", "corloc", overlap >= HIT))
            images.append(_per_image(condition, "lost", ids, overlap >= HIT))
            if cached.layout.cls:
                attended = best_iou(attended_boxes(views, cfg.dino_seg), truth) >= HIT
                rows.append(_share(cfg, condition, "dino_seg", "corloc", attended))
                images.append(_per_image(condition, "dino_seg", ids, attended))
            rows += _baselines(cfg, manifest, dense, truth) if condition == "baseline" else []
        else:
            overlap = np.full(len(ids), np.nan)
            rows += [_row(cfg, condition, m, "corloc", None, 0, note=NO_TRUTH) for m in METHODS]
            images.append(_per_image(condition, "lost", ids[:0], overlap[:0]))
        corners = dict(zip(("x0", "y0", "x1", "y1"), found.T, strict=True))
        boxes.append(pd.DataFrame({"image_id": ids, "intervention": condition, **corners, "iou": overlap}))
        if condition == "baseline":
            pictures |= _images(views, shown, truth)
        pictures |= _pictures(condition, views, shown, steps, found)
    metrics.write(metrics.frame(rows), out / f"{cfg.model}.csv")
    for name, tables in (("images", images), ("boxes", boxes)):
        with replacing(out / f"{cfg.model}.{name}.parquet") as temporary:
            pd.concat(tables, ignore_index=True).to_parquet(temporary, index=False)
    with replacing(out / f"{cfg.model}.steps.npz") as temporary:
        np.savez_compressed(temporary, allow_pickle=False, **pictures)


def _row(cfg: LostStep, condition: str, method: str, metric: str, value: float | None, n: int, **more: Any) -> Metric:
    return Metric(cfg.model, cfg.dataset, condition, method, metric, value, "fraction", n, **more)


def _share(
    cfg: LostStep, condition: str, method: str, metric: str, hits: np.ndarray, note: str | None = None
) -> Metric:
    low, high = wilson(int(hits.sum()), len(hits), cfg.statistics.confidence)
    return _row(cfg, condition, method, metric, float(hits.mean()), len(hits), low=low, high=high, note=note)


def _per_image(condition: str, method: str, ids: np.ndarray, hits: np.ndarray) -> pd.DataFrame:
    """The contract of compare.py: one value per image, condition, readout, metric and seed."""
    table = pd.DataFrame({"image_id": ids, "intervention": condition, "readout": method, "metric": "corloc"})
    return table.assign(seed=pd.array([pd.NA] * len(table), dtype="Int64"), value=hits.astype(float))


def _baselines(cfg: LostStep, manifest: Manifest, dense: np.ndarray, truth: list[Floats]) -> list[Metric]:
    """CorLoc of boxes that see no image: the best centred one, chosen on training images, and a random one."""
    sizes = manifest.table[["width", "height"]].to_numpy()
    rng = generator(cfg.seed, "random boxes", cfg.dataset)
    drawn = best_iou(random_boxes(sizes[dense], rng), truth) >= HIT
    rows = [_share(cfg, "baseline", "lost", "corloc_random_box", drawn)]
    training = manifest.rows("train")
    known = [(row, boxes) for row, boxes in zip(training, truth_of(manifest, training), strict=True) if len(boxes)]
    if not known:
        note = "no training image has a box to choose it on"
        return [*rows, _row(cfg, "baseline", "lost", "corloc_centre_box", None, 0, note=note)]
    share = best_centre_share(sizes[[row for row, _ in known]], [boxes for _, boxes in known])
    centred = best_iou(centre_boxes(sizes[dense], share), truth) >= HIT
    note = f"covers {share:g} of each side, chosen on the training split"
    return [*rows, _share(cfg, "baseline", "lost", "corloc_centre_box", centred, note)]


def _images(views: Views, shown: NDArray[np.int64], truth: list[Floats]) -> dict[str, np.ndarray]:
    """Ids, pixels, and truth of the gallery images, boxes NaN-padded to the same number.

    ``sizes`` and ``grids`` (g, 2) say how much of each padded picture and map there is: native images differ.
    """
    rows = views.features.dense_rows[shown]
    most = max(1, *(len(truth[i]) for i in shown))
    padded = np.full((len(shown), most, 4), np.nan)
    for at, i in enumerate(shown):
        padded[at, : len(truth[i])] = views.geometry(int(i)).to_input(truth[i])
    pixels = [
        gallery.picture(views.manifest, int(row), views.geometry(int(i))) for i, row in zip(shown, rows, strict=True)
    ]
    ids = views.manifest.table["image_id"].to_numpy()[rows].astype(str)
    sizes = np.array([picture.shape[:2] for picture in pixels])
    grids = views.grids()[shown]
    return {"image_id": ids, "images": _padded(pixels), "sizes": sizes, "grids": grids, "truth": padded}


def _pictures(
    condition: str, views: Views, shown: NDArray[np.int64], steps: dict[int, lost.Steps], found: Floats
) -> dict[str, np.ndarray]:
    """The steps of the gallery images under names that begin with the condition."""
    mine, grids = [steps[int(i)] for i in shown], views.grids()[shown]
    maps = {
        name: _padded([getattr(one, name)[0].reshape(grid) for one, grid in zip(mine, grids, strict=True)])
        for name in ("degree", "kept", "mask")
    }
    drawn = [views.geometry(int(i)).to_input(found[i]) for i in shown]
    seeds = np.array([one.seed[0] for one in mine])
    return {f"{condition}/{name}": value for name, value in {**maps, "seed": seeds, "box": np.stack(drawn)}.items()}


def _padded(arrays: list[np.ndarray]) -> np.ndarray:
    """Arrays (h, w, ...) as one, zeros at the bottom and right of the smaller ones."""
    height, width = (max(a.shape[axis] for a in arrays) for axis in (0, 1))
    whole = np.zeros((len(arrays), height, width, *arrays[0].shape[2:]), dtype=arrays[0].dtype)
    for at, a in enumerate(arrays):
        whole[at, : a.shape[0], : a.shape[1]] = a
    return whole
