"""Objects found in cached features and scored: LOST, DINO-seg, and boxes that know nothing of the image."""

import logging
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vit_registers.core.errors import InputError
from vit_registers.core.numerics.boxes import best_centre_share, best_iou, centre_boxes, random_boxes
from vit_registers.core.seeds import generator
from vit_registers.core.stats import wilson
from vit_registers.data import gallery
from vit_registers.data.manifest import Manifest
from vit_registers.data.targets import NO_BOXES, has_boxes, target_boxes
from vit_registers.data.transforms import Floats, Transform
from vit_registers.experiments.job import Job, patch_norms
from vit_registers.experiments.object_discovery import dino_seg, lost
from vit_registers.experiments.object_discovery.params import Config, DinoSeg
from vit_registers.extraction.store import Features
from vit_registers.forward.arrays import array_name
from vit_registers.params.condition import BASELINE

log = logging.getLogger(__name__)

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

    def geometry(self, image: int) -> Transform:
        """The way of one dense image to its input."""
        if not self.native:
            return self.at_input(image)
        grid, patch = self.grids()[image], self.features.patch
        return Transform(*self._size(image), None, (int(grid[0]) * patch[0], int(grid[1]) * patch[1]))

    def at_input(self, image: int) -> Transform:
        """Its way to the model's own input size."""
        return Transform.of(self.features.index, *self._size(image))

    def _size(self, image: int) -> tuple[int, int]:
        row = self.manifest.table.iloc[int(self.features.dense_rows[image])]
        return int(row["height"]), int(row["width"])


def boxes_of(views: Views, cfg: Config, shown: NDArray[np.int64]) -> tuple[dict[int, lost.Steps], Floats]:
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


def run(cfg: Config, job: Job) -> None:
    """Fill the rows of CorLoc, the hits by image, and for the gallery images the steps of LOST."""
    manifest = job.manifest()
    for condition, cached in job.conditions(cfg.dataset, cfg.model, cfg.conditions):
        if cached.status != "complete":
            for method in METHODS:
                job.rows.absent(["corloc"], cached.reason, intervention=condition, head=method)
            continue
        dense = cached.dense_rows
        truth = target_boxes(manifest, dense)
        views = Views(cached, manifest, _array(cached, cfg.lost.feature, cfg.lost.layer))
        shown = gallery.choose(manifest, dense, cfg.gallery)
        steps, found = boxes_of(views, cfg, shown)
        ids = manifest.table["image_id"].to_numpy()[dense]
        if has_boxes(manifest, dense, truth):
            hits = {"lost": best_iou(found, truth) >= HIT}
            if cached.layout.cls:
                hits["dino_seg"] = best_iou(attended_boxes(views, cfg.dino_seg), truth) >= HIT
            for method, hit in hits.items():
                _share(cfg, job, "corloc", hit, intervention=condition, head=method)
                job.by_image("corloc", ids, hit, condition, head=method)
            if condition == BASELINE:
                _blind_boxes(cfg, job, manifest, dense, truth)
        else:
            for method in METHODS:
                job.rows.absent(["corloc"], NO_BOXES, intervention=condition, head=method)
        if condition == BASELINE:
            job.keep(_images(views, shown, truth))
            job.keep(gallery.kept(manifest, dense, shown, patch_norms(cached, shown), cfg.gallery))
        job.keep({"boxes": found, **_pictures(views, shown, steps, found)}, condition)


def _share(cfg: Config, job: Job, metric: str, hits: np.ndarray, **axes: Any) -> None:
    low, high = wilson(int(hits.sum()), len(hits), cfg.statistics.confidence)
    job.rows.add(metric, float(hits.mean()), len(hits), low=low, high=high, **axes)


def _blind_boxes(cfg: Config, job: Job, manifest: Manifest, dense: np.ndarray, truth: list[Floats]) -> None:
    """CorLoc of boxes that see no image: the best centred one, chosen on training images, and a random one."""
    sizes = manifest.table[["width", "height"]].to_numpy()
    rng = generator(cfg.seed, "random boxes", cfg.dataset)
    drawn = best_iou(random_boxes(sizes[dense], rng), truth) >= HIT
    _share(cfg, job, "corloc_random_box", drawn, intervention=BASELINE)
    training = manifest.rows("train")
    known = [(row, boxes) for row, boxes in zip(training, target_boxes(manifest, training), strict=True) if len(boxes)]
    if not known:
        job.rows.absent(["corloc_centre_box"], "no training image has a box to choose it on", intervention=BASELINE)
        return
    share = best_centre_share(sizes[[row for row, _ in known]], [boxes for _, boxes in known])
    centred = best_iou(centre_boxes(sizes[dense], share), truth) >= HIT
    _share(cfg, job, "corloc_centre_box", centred, intervention=BASELINE)
    log.info("centred boxes cover %g of each side, chosen on the training split", share)


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
    views: Views, shown: NDArray[np.int64], steps: dict[int, lost.Steps], found: Floats
) -> dict[str, np.ndarray]:
    """The steps of the gallery images."""
    mine, grids = [steps[int(i)] for i in shown], views.grids()[shown]
    maps = {
        name: _padded([getattr(one, name)[0].reshape(grid) for one, grid in zip(mine, grids, strict=True)])
        for name in ("degree", "kept", "mask")
    }
    drawn = [views.geometry(int(i)).to_input(found[i]) for i in shown]
    return {**maps, "seed": np.array([one.seed[0] for one in mine]), "box": np.stack(drawn)}


def _padded(arrays: list[np.ndarray]) -> np.ndarray:
    """Arrays (h, w, ...) as one, zeros at the bottom and right of the smaller ones."""
    height, width = (max(a.shape[axis] for a in arrays) for axis in (0, 1))
    whole = np.zeros((len(arrays), height, width, *arrays[0].shape[2:]), dtype=arrays[0].dtype)
    for at, a in enumerate(arrays):
        whole[at, : a.shape[0], : a.shape[1]] = a
    return whole
