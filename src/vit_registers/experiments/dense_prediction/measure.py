"""The step that reads maps from patch tokens: segmentation and depth by linear heads, condition beside condition.

The heads are trained on one part of the dense images and tested on the others, the same for all models. ``refit``:
heads fitted to the tokens of each condition. ``kept``: those fitted to the baseline's, on every condition's tokens
(parodi2026 reports both). Maps are compared on the pixels that the model sees, after its resize and crop.
"""

import logging
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor
from typing_extensions import override

from vit_registers.core import table as metrics
from vit_registers.core.errors import InputError
from vit_registers.core.files import replacing
from vit_registers.core.seeds import derive, generator
from vit_registers.core.stats import Bootstrap, Floats
from vit_registers.core.table import Metric
from vit_registers.data.manifest import Manifest
from vit_registers.experiments.dense_prediction import (
    heads as dense_heads,
)
from vit_registers.experiments.dense_prediction import (
    scores as dense_scores,
)
from vit_registers.experiments.dense_prediction import (
    targets as dense_truth,
)
from vit_registers.experiments.dense_prediction.heads import DepthHead, SegmentationHead
from vit_registers.experiments.dense_prediction.scores import Scored
from vit_registers.extraction.store import Features, condition_folder
from vit_registers.models.preprocess import Preprocess
from vit_registers.pipeline.configs import DenseStep

log = logging.getLogger(__name__)

BASELINE = "baseline"
THREADS = 1  # as in extraction: results must not depend on --cores
Rows = NDArray[np.int64]


class Images:
    """The dense images of a data set as one model sees them: truth, training and test images, resamples of these."""

    def __init__(self, cfg: DenseStep, features: Features, manifest: Manifest) -> None:
        """The parts are drawn from a generator named by the data set: the same for all models and conditions."""
        rows = features.dense_rows
        if len(rows) < 2:
            raise InputError(
                f"extraction.dense_images: {len(rows)} image for heads to train on and be tested; raise it"
            )
        self.truth = dense_truth.load(manifest, rows, Preprocess.from_json(features.index["preprocess"]))
        self.grid = features.layout.grid
        self.classes = 1 + len(manifest.classes)
        order = generator(cfg.seed, "dense", cfg.dataset, len(rows)).permutation(len(rows))
        count = min(max(round(cfg.dense.train_share * len(rows)), 1), len(rows) - 1)
        self.train: Rows = np.sort(order[:count])
        self.test: Rows = np.sort(order[count:])
        self.ids = manifest.table["image_id"].to_numpy()[rows[self.test]]
        draw = generator(cfg.seed, "bootstrap", cfg.dataset, len(self.test))
        self.bootstrap = Bootstrap(len(self.test), cfg.statistics.resamples, cfg.statistics.confidence, draw)


class Task(ABC):
    """What is read from the patch tokens: heads are fitted to those of the training images, scored on the others'."""

    units: ClassVar[Mapping[str, str]]  # by metric
    absent: ClassVar[str]  # why there is no score where the data set has no such maps

    def __init__(self, cfg: DenseStep, images: Images) -> None:
        self.cfg, self.images = cfg, images

    @abstractmethod
    def fit(self, tokens: Tensor) -> Any:
        """A head for tokens (n, p, d) of the training images."""

    @abstractmethod
    def score(self, head: Any, tokens: Tensor) -> Scored:
        """What ``head`` makes of tokens (m, p, d) of the test images."""


class Segmentation(Task):
    """The class of every pixel."""

    units: ClassVar = {"miou": "fraction", "pixel_accuracy": "fraction"}
    absent = "the data set has no masks"

    def __init__(self, cfg: DenseStep, images: Images, classes: NDArray[np.int16]) -> None:
        super().__init__(cfg, images)
        self.seen, self.asked = classes[images.train], classes[images.test]

    @override
    def fit(self, tokens: Tensor) -> SegmentationHead:
        # Of the same name for every condition: their heads see the same batches.
        draw = torch.Generator().manual_seed(derive(self.cfg.seed, "segmentation", self.cfg.dataset))
        images = self.images
        return dense_heads.fit_segmentation(tokens, self.seen, images.classes, images.grid, self.cfg.dense, draw)

    @override
    def score(self, head: SegmentationHead, tokens: Tensor) -> Scored:
        found = dense_scores.counts(head, tokens, self.asked, self.images.grid)
        return dense_scores.segmentation(found, self.images.bootstrap)


class Depth(Task):
    """How far away every pixel is."""

    units: ClassVar = {"rmse": "depth"}
    absent = "the data set has no depth"

    def __init__(self, cfg: DenseStep, images: Images, depth: NDArray[np.uint16]) -> None:
        super().__init__(cfg, images)
        self.seen, self.asked = depth[images.train], depth[images.test]
        if not (self.seen.any() and self.asked.any()):
            raise InputError(f"data set '{cfg.dataset}': no pixel of the depth maps is above 0, which is: not known")

    @override
    def fit(self, tokens: Tensor) -> DepthHead:
        return dense_heads.fit_depth(tokens, self.seen, self.images.grid, self.cfg.dense)

    @override
    def score(self, head: DepthHead, tokens: Tensor) -> Scored:
        total, known = dense_scores.squared_errors(head, tokens, self.asked, self.images.grid)
        return dense_scores.depths(total, known, self.images.bootstrap)


def run(cfg: DenseStep, data: Path, features: Path, out: Path) -> None:
    """Write <model>.csv and <model>.images.parquet (what every test image gave) below ``out``."""
    torch.set_num_threads(THREADS)
    opened = {name: Features.open(condition_folder(features, cfg.dataset, cfg.model, name)) for name in cfg.conditions}
    images = Images(cfg, opened[BASELINE], Manifest.load(data))
    tasks: list[Task] = []
    absent: list[type[Task]] = []
    rows: list[Metric] = []
    tables = [_per_image("none", BASELINE, images.ids[:0], {"none": np.zeros(0)})]
    if images.truth.classes is not None:
        tasks.append(Segmentation(cfg, images, images.truth.classes))
    else:
        absent.append(Segmentation)
    if images.truth.depth is not None:
        tasks.append(Depth(cfg, images, images.truth.depth))
    else:
        absent.append(Depth)
    kept: dict[Task, Any] = {}
    for name, cached in opened.items():
        if cached.status != "complete":
            rows += [row for kind in (Segmentation, Depth) for row in _none(cfg, name, kind, cached.reason)]
            continue
        rows += [row for kind in absent for row in _none(cfg, name, kind, kind.absent)]
        seen, asked = (_tokens(cached, part) for part in (images.train, images.test))
        for task in tasks:
            refit = task.fit(seen)
            kept.setdefault(task, refit)  # the baseline comes first
            fresh = task.score(refit, asked)
            same = kept[task] is refit
            for readout, scored in (("refit", fresh), ("kept", fresh if same else task.score(kept[task], asked))):
                rows += _rows(cfg, images.bootstrap, name, f"dense[{readout}]", scored, len(images.test))
                tables.append(_per_image(f"dense[{readout}]", name, images.ids, scored.images))
        log.info("%s: %s, %d images", cfg.model, name, len(images.test))
    metrics.write(metrics.frame(rows), out / f"{cfg.model}.csv")
    with replacing(out / f"{cfg.model}.images.parquet") as temporary:
        pd.concat(tables, ignore_index=True).to_parquet(temporary, index=False)


def _tokens(cached: Features, images: Rows) -> Tensor:
    """Patch tokens (b, p, d) of some dense images, in the precision they were kept in."""
    tokens = torch.from_numpy(np.asarray(cached.array("patches")[images]))
    if not tokens.isfinite().all():
        raise InputError(
            f"{cached.folder / 'patches'}.npy: holds values that are not finite; set extraction.precision to fp32 "
            "or look at the model's weights"
        )
    return tokens


def _none(cfg: DenseStep, condition: str, kind: type[Task], why: str) -> list[Metric]:
    """Rows that say why there is no number."""
    return [
        Metric(cfg.model, cfg.dataset, condition, readout, metric, None, unit, 0, note=why)
        for readout in ("dense[refit]", "dense[kept]")
        for metric, unit in kind.units.items()
    ]


def _rows(cfg: DenseStep, bootstrap: Bootstrap, condition: str, readout: str, scored: Scored, n: int) -> list[Metric]:
    """A row per metric with its percentile interval."""
    rows = []
    for one in scored.scores:
        low, high = (float(edge) for edge in np.quantile(one.resampled, bootstrap.tails))
        where = (cfg.model, cfg.dataset, condition, readout)
        rows.append(Metric(*where, one.metric, one.value, one.unit, n, low=low, high=high))
    return rows


def _per_image(readout: str, condition: str, ids: NDArray[Any], values: Mapping[str, Floats]) -> pd.DataFrame:
    """The contract of compare.py: one value per image, condition, readout, metric and seed."""
    parts = [pd.DataFrame({"image_id": ids, "metric": metric, "value": value}) for metric, value in values.items()]
    table = pd.concat(parts, ignore_index=True).assign(intervention=condition, readout=readout)
    return table.assign(seed=pd.array([pd.NA] * len(table), dtype="Int64"))
