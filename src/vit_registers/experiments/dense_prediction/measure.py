"""Segmentation and depth from patch tokens by linear heads, condition by condition.

The heads are trained on one part of the dense images and tested on the others, the same for all models; or, as is
published of ADE20K and NYU, on images of split train, and tested on all dense images. ``refitted``: heads fitted to the
tokens of each condition. ``frozen``: those fitted to the baseline's, on every condition's tokens (parodi2026 reports
both). Maps are compared on the pixels that the model sees, after its resize and crop.
"""

import logging
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from typing_extensions import override

from vit_registers.core.errors import InputError
from vit_registers.core.seeds import derive, generator
from vit_registers.core.stats import bootstrap
from vit_registers.core.threads import threads
from vit_registers.data.manifest import Manifest
from vit_registers.experiments.dense_prediction import heads, scores, targets
from vit_registers.experiments.dense_prediction.heads import DepthHead, SegmentationHead
from vit_registers.experiments.dense_prediction.params import Config
from vit_registers.experiments.dense_prediction.scores import Scored
from vit_registers.experiments.dense_prediction.targets import Targets
from vit_registers.experiments.job import Job
from vit_registers.extraction.store import Features
from vit_registers.models.preprocess import Preprocess
from vit_registers.params.condition import BASELINE

log = logging.getLogger(__name__)

HEADS = REFITTED, FROZEN = "refitted", "frozen"
TRAIN_TOKENS = "train_patches"  # of the images of split train (extraction.train_dense_images)
NOT_REFITTED = "heads are trained on images of split train, of which only models as they are keep tokens"
Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Part:
    """Some images of which tokens are kept: in which ``array`` of the features, at which ``places`` (n,), and what
    their pixels show.
    """

    array: str
    places: Indices
    rows: Indices  # of the manifest
    targets: Targets

    @classmethod
    def of(cls, array: str, rows: Indices, features: Features, manifest: Manifest) -> "Part":
        """All images of an array, of ``rows``, but those of which no pixel has a class."""
        found = targets.load(manifest, rows, Preprocess.from_json(features.index["preprocess"]))
        whole = cls(array, np.arange(len(rows)), rows, found)
        if len(found.scored) < len(rows):
            left = len(rows) - len(found.scored)
            log.info("%s: %d of %d images left out: no pixel has a class", manifest.name, left, len(rows))
        return whole.at(found.scored)

    def at(self, some: Indices) -> "Part":
        """Some of its images, by their order in it."""
        return Part(self.array, self.places[some], self.rows[some], self.targets.at(some))

    def tokens(self, cached: Features) -> Tensor:
        """Patch tokens (n, p, d), in the precision they were kept in."""
        tokens = torch.from_numpy(np.asarray(cached.array(self.array)[self.places]))
        if not tokens.isfinite().all():
            raise InputError(
                f"{cached.folder / self.array}.npy: holds values that are not finite; set extraction.precision to fp32 "
                "or look at the model's weights"
            )
        return tokens


class Images:
    """The images of a data set as one model sees them: those to train heads on, those to test, resamples of these."""

    def __init__(self, cfg: Config, features: Features, manifest: Manifest) -> None:
        """The parts are drawn from a generator named by the data set: the same for all models and conditions."""
        rows = features.dense_rows
        if len(rows) < 2:
            raise InputError(
                f"extraction.dense_images: {len(rows)} image for heads to train on and be tested; raise it"
            )
        dense = Part.of("patches", rows, features, manifest)
        if len(dense.rows) < 2:
            raise InputError(
                f"data set '{cfg.dataset}': {len(dense.rows)} of {len(rows)} dense images have a pixel of any class; "
                "dense prediction needs two; raise extraction.dense_images"
            )
        share = cfg.settings.train_share
        if share is None:
            self.train, self.test = Part.of(TRAIN_TOKENS, _train_rows(features), features, manifest), dense
        else:
            order = generator(cfg.seed, "dense", cfg.dataset, len(rows)).permutation(len(dense.rows))
            count = min(max(round(share * len(order)), 1), len(order) - 1)
            self.train, self.test = dense.at(np.sort(order[:count])), dense.at(np.sort(order[count:]))
        self.grid = features.layout.grid
        self.ids = manifest.table["image_id"].to_numpy()[self.test.rows]
        self.bootstrap = bootstrap(cfg.seed, cfg.statistics, cfg.dataset, len(self.test.rows))


def _train_rows(features: Features) -> Indices:
    """Rows of the training images of which tokens are kept."""
    if TRAIN_TOKENS not in features.index["arrays"]:
        raise InputError(
            f"{features.folder}: no tokens of training images, which heads are trained on; set "
            "extraction.train_dense_images, or experiments.dense_prediction.train_share"
        )
    return np.asarray(features.array("train_rows"))


class Task(ABC):
    """What is predicted from patch tokens: heads are fitted to those of the training images, scored on the others'."""

    metrics: tuple[str, ...]
    absent: ClassVar[str]  # why there is no score where the data set has no such maps

    def __init__(self, cfg: Config, images: Images) -> None:
        self.cfg, self.images = cfg, images

    @abstractmethod
    def fit(self, tokens: Tensor) -> Any:
        """A head for tokens (n, p, d) of the training images."""

    @abstractmethod
    def score(self, head: Any, tokens: Tensor) -> Scored:
        """Scores of ``head`` on tokens (m, p, d) of the test images."""


class Segmentation(Task):
    """The class of every pixel."""

    metrics = ("miou", "pixel_accuracy")
    absent = "the data set has no masks of labelled images and no label maps"

    def __init__(self, cfg: Config, images: Images, train: NDArray[np.int16], test: NDArray[np.int16]) -> None:
        super().__init__(cfg, images)
        self.train, self.test = train, test

    @override
    def fit(self, tokens: Tensor) -> SegmentationHead:
        # Of the same name for every condition: their heads see the same batches.
        draw = torch.Generator().manual_seed(derive(self.cfg.seed, "segmentation", self.cfg.dataset))
        images = self.images
        return heads.fit_segmentation(
            tokens, self.train, images.train.targets.count, images.grid, self.cfg.settings, draw
        )

    @override
    def score(self, head: SegmentationHead, tokens: Tensor) -> Scored:
        found = scores.counts(head, tokens, self.test, self.images.grid)
        return scores.segmentation(found, self.images.bootstrap)


class Depth(Task):
    """The depth of every pixel: in metres where the data set says what its values are."""

    metrics = ("rmse",)
    absent = "the data set has no depth"

    def __init__(self, cfg: Config, images: Images, train: NDArray[np.uint16], test: NDArray[np.uint16]) -> None:
        super().__init__(cfg, images)
        self.train, self.test = train, test
        scale = images.test.targets.scale
        self.limits = None if scale is None else (scale.nearest, scale.farthest)
        if scale is not None:
            self.metrics = ("rmse_metres",)
        if not (self.train.any() and self.test.any()):
            raise InputError(f"data set '{cfg.dataset}': no pixel of the depth maps is above 0, which is: not known")

    @override
    def fit(self, tokens: Tensor) -> DepthHead:
        return heads.fit_depth(tokens, self.train, self.images.grid, self.cfg.settings, self.images.test.targets.unit)

    @override
    def score(self, head: DepthHead, tokens: Tensor) -> Scored:
        unit = self.images.test.targets.unit
        total, known = scores.squared_errors(head, tokens, self.test, self.images.grid, unit, self.limits)
        return scores.depths(self.metrics[0], total, known, self.images.bootstrap)


@threads()
def run(cfg: Config, job: Job) -> None:
    """Fill rows of every condition by both heads, and what every test image gave."""
    opened = dict(job.conditions(cfg.dataset, cfg.model, cfg.conditions))
    images = Images(cfg, opened[BASELINE], job.manifest())
    tasks: list[Task] = []
    absent: list[type[Task]] = []
    train, test = images.train.targets, images.test.targets
    if train.classes is not None and test.classes is not None:
        tasks.append(Segmentation(cfg, images, train.classes, test.classes))
    else:
        absent.append(Segmentation)
    if train.depth is not None and test.depth is not None:
        tasks.append(Depth(cfg, images, train.depth, test.depth))
    else:
        absent.append(Depth)
    frozen: dict[Task, Any] = {}
    for name, cached in opened.items():
        if cached.status != "complete":
            for metrics in [task.metrics for task in tasks] + [kind.metrics for kind in absent]:
                _absent(job, name, metrics, cached.reason)
            continue
        for kind in absent:
            _absent(job, name, kind.metrics, kind.absent)
        tokens = images.test.tokens(cached)
        # Of training images only models as they are keep tokens: then no head is refitted to another condition.
        refits = images.train.array in cached.index["arrays"]
        fitted = images.train.tokens(cached) if refits else None
        for task in tasks:
            refitted = None if fitted is None else task.fit(fitted)
            frozen.setdefault(task, refitted)  # the baseline comes first
            fresh = None if refitted is None else task.score(refitted, tokens)
            same = frozen[task] is refitted
            if fresh is None:
                job.rows.absent(task.metrics, NOT_REFITTED, intervention=name, head=REFITTED)
            else:
                _fill(job, images, name, REFITTED, fresh)
            _fill(job, images, name, FROZEN, fresh if same and fresh else task.score(frozen[task], tokens))
        log.info("%s: %s, %d images", cfg.model, name, len(images.ids))


def _absent(job: Job, condition: str, metrics: tuple[str, ...], reason: str) -> None:
    for head in HEADS:
        job.rows.absent(metrics, reason, intervention=condition, head=head)


def _fill(job: Job, images: Images, condition: str, head: str, scored: Scored) -> None:
    """A row per metric with its percentile interval, and the values by image."""
    for one in scored.scores:
        low, high = images.bootstrap.percentiles(one.resampled)
        n = len(images.ids)
        job.rows.add(one.metric, one.value, n, low=low, high=high, intervention=condition, head=head)
        if one.pooled:
            job.resampled(one.metric, images.ids, one.value, one.resampled, condition, head=head)
    for metric, values in scored.images.items():
        job.by_image(metric, images.ids, values, condition, head=head)
