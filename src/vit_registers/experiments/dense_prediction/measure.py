"""Segmentation and depth from patch tokens by linear heads, condition by condition.

The heads are trained on one part of the dense images and tested on the others, the same for all models. ``refitted``:
heads fitted to the tokens of each condition. ``frozen``: those fitted to the baseline's, on every condition's tokens
(parodi2026 reports both). Maps are compared on the pixels that the model sees, after its resize and crop.
"""

import logging
from abc import ABC, abstractmethod
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
from vit_registers.experiments.job import Job
from vit_registers.extraction.store import Features
from vit_registers.models.preprocess import Preprocess
from vit_registers.params.condition import BASELINE

log = logging.getLogger(__name__)

HEADS = ("refitted", "frozen")
Indices = NDArray[np.int64]


class Images:
    """The dense images of a data set as one model sees them: targets, training and test images, resamples of these."""

    def __init__(self, cfg: Config, features: Features, manifest: Manifest) -> None:
        """The parts are drawn from a generator named by the data set: the same for all models and conditions."""
        rows = features.dense_rows
        if len(rows) < 2:
            raise InputError(
                f"extraction.dense_images: {len(rows)} image for heads to train on and be tested; raise it"
            )
        self.targets = targets.load(manifest, rows, Preprocess.from_json(features.index["preprocess"]))
        self.grid = features.layout.grid
        scored = self.targets.scored if self.targets.classes is not None else np.arange(len(rows))
        if len(scored) < len(rows):
            log.info(
                "%s: %d of %d images left out: no pixel has a class", cfg.dataset, len(rows) - len(scored), len(rows)
            )
        if len(scored) < 2:
            raise InputError(f"data set '{cfg.dataset}': {len(scored)} of {len(rows)} dense images have a pixel of any "
                             "class; dense prediction needs two; raise extraction.dense_images")  # fmt: skip
        order = scored[generator(cfg.seed, "dense", cfg.dataset, len(rows)).permutation(len(scored))]
        count = min(max(round(cfg.settings.train_share * len(scored)), 1), len(scored) - 1)
        self.train: Indices = np.sort(order[:count])
        self.test: Indices = np.sort(order[count:])
        self.ids = manifest.table["image_id"].to_numpy()[rows[self.test]]
        self.bootstrap = bootstrap(cfg.seed, cfg.statistics, cfg.dataset, len(self.test))


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

    def __init__(self, cfg: Config, images: Images, classes: NDArray[np.int16]) -> None:
        super().__init__(cfg, images)
        self.train, self.test = classes[images.train], classes[images.test]

    @override
    def fit(self, tokens: Tensor) -> SegmentationHead:
        # Of the same name for every condition: their heads see the same batches.
        draw = torch.Generator().manual_seed(derive(self.cfg.seed, "segmentation", self.cfg.dataset))
        images = self.images
        return heads.fit_segmentation(tokens, self.train, images.targets.count, images.grid, self.cfg.settings, draw)

    @override
    def score(self, head: SegmentationHead, tokens: Tensor) -> Scored:
        found = scores.counts(head, tokens, self.test, self.images.grid)
        return scores.segmentation(found, self.images.bootstrap)


class Depth(Task):
    """The depth of every pixel: in metres where the data set says what its values are."""

    metrics = ("rmse",)
    absent = "the data set has no depth"

    def __init__(self, cfg: Config, images: Images, depth: NDArray[np.uint16]) -> None:
        super().__init__(cfg, images)
        self.train, self.test = depth[images.train], depth[images.test]
        scale = images.targets.scale
        self.limits = None if scale is None else (scale.nearest, scale.farthest)
        if scale is not None:
            self.metrics = ("rmse_metres",)
        if not (self.train.any() and self.test.any()):
            raise InputError(f"data set '{cfg.dataset}': no pixel of the depth maps is above 0, which is: not known")

    @override
    def fit(self, tokens: Tensor) -> DepthHead:
        return heads.fit_depth(tokens, self.train, self.images.grid, self.cfg.settings, self.images.targets.unit)

    @override
    def score(self, head: DepthHead, tokens: Tensor) -> Scored:
        unit = self.images.targets.unit
        total, known = scores.squared_errors(head, tokens, self.test, self.images.grid, unit, self.limits)
        return scores.depths(self.metrics[0], total, known, self.images.bootstrap)


@threads()
def run(cfg: Config, job: Job) -> None:
    """Fill rows of every condition by both heads, and what every test image gave."""
    opened = dict(job.conditions(cfg.dataset, cfg.model, cfg.conditions))
    images = Images(cfg, opened[BASELINE], job.manifest())
    tasks: list[Task] = []
    absent: list[type[Task]] = []
    if images.targets.classes is not None:
        tasks.append(Segmentation(cfg, images, images.targets.classes))
    else:
        absent.append(Segmentation)
    if images.targets.depth is not None:
        tasks.append(Depth(cfg, images, images.targets.depth))
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
        train, test = (_tokens(cached, part) for part in (images.train, images.test))
        for task in tasks:
            refitted = task.fit(train)
            frozen.setdefault(task, refitted)  # the baseline comes first
            fresh = task.score(refitted, test)
            same = frozen[task] is refitted
            for head, scored in zip(HEADS, (fresh, fresh if same else task.score(frozen[task], test)), strict=True):
                _fill(job, images, name, head, scored)
        log.info("%s: %s, %d images", cfg.model, name, len(images.test))


def _tokens(cached: Features, images: Indices) -> Tensor:
    """Patch tokens (b, p, d) of some dense images, in the precision they were kept in."""
    tokens = torch.from_numpy(np.asarray(cached.array("patches")[images]))
    if not tokens.isfinite().all():
        raise InputError(
            f"{cached.folder / 'patches'}.npy: holds values that are not finite; set extraction.precision to fp32 "
            "or look at the model's weights"
        )
    return tokens


def _absent(job: Job, condition: str, metrics: tuple[str, ...], reason: str) -> None:
    for head in HEADS:
        job.rows.absent(metrics, reason, intervention=condition, head=head)


def _fill(job: Job, images: Images, condition: str, head: str, scored: Scored) -> None:
    """A row per metric with its percentile interval, and the values by image."""
    for one in scored.scores:
        low, high = images.bootstrap.percentiles(one.resampled)
        n = len(images.test)
        job.rows.add(one.metric, one.value, n, low=low, high=high, intervention=condition, head=head)
        if one.pooled:
            job.resampled(one.metric, images.ids, one.value, one.resampled, condition, head=head)
    for metric, values in scored.images.items():
        job.by_image(metric, images.ids, values, condition, head=head)
