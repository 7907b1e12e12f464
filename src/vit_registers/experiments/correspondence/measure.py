"""Do patches know which place they show? The nearest patch, by cosine, of another image that shows it too (parodi2026).

The share of an image's patches whose nearest patch of its second view is the one that holds their centre; and of its
keypoints those whose nearest patch, in another image of the class, has its centre near the same keypoint (PCK).
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vit_registers.core.numerics.patches import patchify
from vit_registers.core.stats import Resamples
from vit_registers.core.threads import threads
from vit_registers.data.images import load_image
from vit_registers.data.manifest import Manifest
from vit_registers.data.transforms import Floats
from vit_registers.experiments.correspondence.asking import in_second_views, of_keypoints
from vit_registers.experiments.correspondence.params import Config
from vit_registers.experiments.correspondence.queries import Indices, Marks, Queries
from vit_registers.experiments.job import Job
from vit_registers.extraction.store import Features
from vit_registers.forward.arrays import array_name
from vit_registers.models.preprocess import Preprocess
from vit_registers.params.condition import BASELINE

NOTHING_KNOWN = "no second view has passed, and no two dense images of a class have keypoints"
NOTHING_SHOWN = "no patch has a counterpart in another image"
COUNTED = "counted from the patches"
HELD = 256  # images whose pixels are held at once
Look = Callable[[int], Tensor]  # patches (p, d) of an image or a gallery
Nearest = Callable[[Tensor, Tensor], Tensor]


@threads()
def run(cfg: Config, job: Job) -> None:
    """Fill the rows of every condition, of blocks whose patches were kept, and of what is found without a model."""
    manifest, resamples = job.manifest(), Resamples(cfg.seed, cfg.statistics, cfg.dataset)
    conditions = dict(job.conditions(cfg.dataset, cfg.model, cfg.conditions))
    intact = conditions[BASELINE]
    views, keypoints = in_second_views(manifest, intact), of_keypoints(cfg, manifest, intact)
    if views is None and keypoints is None:
        job.rows.absent(["correspondence"], NOTHING_KNOWN, intervention=BASELINE)
    ids = manifest.table["image_id"].to_numpy()[intact.dense_rows]
    for queries in (each for each in (views, keypoints) if each is not None):
        scores = Scores(job, queries, ids, resamples)
        if not len(queries.images):
            job.rows.absent([queries.metric], NOTHING_SHOWN, intervention=BASELINE)
            continue
        _baselines(scores, manifest, intact)
        for name, cached in conditions.items():
            _condition(scores, name, cached)


class Scores:
    """Rows of queries: means over images of the share of an image's queries that were found."""

    def __init__(self, job: Job, queries: Queries, ids: NDArray[Any], resamples: Resamples) -> None:
        """``ids``: of the dense images."""
        self.job, self.queries, self.ids, self.resamples = job, queries, ids, resamples

    def add(self, metric: str, values: Marks | Floats, **axes: Any) -> None:
        """A row for each group of queries, by their ``values`` (k,)."""
        for group, chosen in self.queries.groups.items():
            if chosen.any():
                _, shares = by_image(self.queries.images[chosen], values[chosen])
                self.job.rows.mean(metric, shares, self.resamples[len(shares)], group=group, **axes)

    def counted(self, metric: str, values: Floats, **axes: Any) -> None:
        """The same of what is no estimate."""
        for group, chosen in self.queries.groups.items():
            if chosen.any():
                _, shares = by_image(self.queries.images[chosen], values[chosen])
                self.job.rows.add(metric, float(shares.mean()), len(shares), note=COUNTED, group=group, **axes)

    def compare(self, metric: str, values: Marks, intervention: str) -> None:
        """Keep what every image gave, so that conditions are compared."""
        images, shares = by_image(self.queries.images, values)
        self.job.by_image(metric, self.ids[images], shares, intervention)


def by_image(images: Indices, values: NDArray[Any]) -> tuple[Indices, Floats]:
    """Images that have some, ascending, and the mean of the ``values`` (k,) of each."""
    found, at = np.unique(images, return_inverse=True)
    return found, np.bincount(at, np.asarray(values, dtype=float)) / np.bincount(at)


def _condition(scores: Scores, name: str, cached: Features) -> None:
    """Rows of patches after the final norm, and of those leaving the blocks that were kept."""
    queries = scores.queries
    if cached.status != "complete":
        scores.job.rows.absent([queries.metric], cached.reason, intervention=name)
        return
    found = queries.right(matched(queries, *_tokens(queries, cached, "patches"), nearest_by_cosine))
    scores.add(queries.metric, found, intervention=name)
    scores.compare(queries.metric, found, name)
    for layer in range(int(cached.index["depth"])):
        array = array_name("patches", layer)
        if array in cached.index["arrays"]:
            at_block = matched(queries, *_tokens(queries, cached, array), nearest_by_cosine)
            scores.add(f"block_{queries.metric}", queries.right(at_block), intervention=name, layer=layer)


def _tokens(queries: Queries, cached: Features, array: str) -> tuple[Look, Look]:
    """Patches of images and of galleries, as a condition left them."""

    def look(name: str) -> Look:
        kept = cached.array(name)
        return lambda place: torch.from_numpy(np.array(kept[place], dtype=np.float32))

    return look(array), look(queries.gallery(array))


def _pixels(queries: Queries, manifest: Manifest, intact: Features) -> tuple[Look, Look]:
    """Pixels of the patches of images and of galleries, as the model takes them."""
    preprocess = Preprocess.from_json(intact.index["preprocess"])

    @lru_cache(HELD)
    def patches(number: int) -> Tensor:
        return patchify(preprocess(load_image(manifest.picture(number)))[None], intact.patch)[0]

    rows, pictures = intact.dense_rows, queries.pictures
    return lambda place: patches(int(rows[place])), lambda place: patches(int(pictures[place]))


def matched(queries: Queries, images: Look, galleries: Look, nearest: Nearest) -> Indices:
    """The patch (k,) of its gallery that is nearest to each query; of equally near ones the first."""
    found = np.empty(len(queries.images), dtype=np.int64)
    for block in queries.blocks():
        image, gallery = int(queries.images[block.start]), int(queries.galleries[block.start])
        asked = images(image)[torch.from_numpy(queries.cells[block])]
        found[block] = nearest(asked, galleries(gallery)).numpy()
    return found


def nearest_by_cosine(queries: Tensor, patches: Tensor) -> Tensor:
    """For each query (k, d) the patch (p, d) of the largest cosine."""
    return (queries @ torch.nn.functional.normalize(patches, dim=1).T).argmax(dim=1)


def nearest_by_distance(queries: Tensor, patches: Tensor) -> Tensor:
    """For each query (k, d) the patch (p, d) of the smallest Euclidean distance."""
    return (queries @ patches.T - 0.5 * patches.square().sum(dim=1)).argmax(dim=1)


def _baselines(scores: Scores, manifest: Manifest, intact: Features) -> None:
    """What is found without a model: by pixels, by looking at the same place, and by chance."""
    queries, metric = scores.queries, f"{scores.queries.metric}_baseline"
    by_pixels = matched(queries, *_pixels(queries, manifest, intact), nearest_by_distance)
    asked, counts = np.unique(queries.images, return_counts=True)
    scores.job.rows.mean(f"{queries.metric}_points", counts, scores.resamples[len(asked)], intervention=BASELINE)
    scores.add(metric, queries.right(by_pixels), intervention=BASELINE, baseline="pixels")
    scores.add(metric, queries.right(queries.cells), intervention=BASELINE, baseline="same place")
    scores.counted(metric, queries.chances(), intervention=BASELINE, baseline="chance")
