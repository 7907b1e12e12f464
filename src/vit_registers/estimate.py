"""What a study will take, before it runs: jobs, images, forward passes, operations and disk, step by step.

Operations are counted on the architectures without weights, and stored arrays by the plans that extraction itself
follows. A pass under an intervention counts as one of the model as it is; its appended tokens are stored, but their
operations are not counted. A training counts three forward passes of each image in each epoch. Heads and other
arithmetic on stored features is left out: passes are most of a study.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import torch

from vit_registers.data.manifest import COLUMNS, Manifest
from vit_registers.data.transforms import Size
from vit_registers.extraction.plan import Plan
from vit_registers.interventions.base import Applied
from vit_registers.models import backbone, operations
from vit_registers.models.backbone import Backbone
from vit_registers.models.layout import TokenLayout
from vit_registers.models.preprocess import Preprocess, whole_patches
from vit_registers.models.supported import layout_of
from vit_registers.params.bases import Intervention
from vit_registers.params.study import Params
from vit_registers.pipeline import configs
from vit_registers.pipeline.paths import Paths
from vit_registers.pipeline.step import Step, dataset_file
from vit_registers.pipeline.steps import steps

NATIVE: Size = (480, 640)  # height and width of an image whose own size is not known before it is prepared
# No array depends on what fits into memory, which only a pass would tell. Of the few images in whose attention sinks
# are looked for little is stored, and its reader wants weights.
SIMPLER = {"batch_size": 2, "sink_images": 0}
BACKWARD = 3  # forward passes that a step of a training takes
# Settings of extraction without which a pass keeps less, and what switches them off; those of images by their rows.
OFF: dict[str, Any] = {
    "projections": {},
    "cls_blocks": 0,
    "specials_layers": False,
    "cls_parts": False,
    "patch_layers": [],
    "attention_heads": False,
    "attention_columns": False,
    "attention_maps": 0,
    "neighbours": False,
}
IMAGES = {"train": "train_dense_images", "pairs": "pairs", "dense": "dense_images", "native": "dense_images"}


@dataclass
class Cost:
    """Of a step: ``jobs``, forward ``passes`` of images, ``operations``, and ``bytes`` of the arrays that it stores."""

    jobs: int = 0
    passes: int = 0
    operations: int = 0
    bytes: int = 0


@dataclass
class Estimate:
    """``costs`` by step, ``images`` by data set, and what could not be counted, ``unknown``, in words.

    ``kept``: bytes that passes store because of a setting of extraction; some arrays are there because of two.
    """

    costs: dict[str, Cost] = field(default_factory=lambda: defaultdict(Cost))
    kept: Counter[str] = field(default_factory=Counter)
    images: dict[str, int] = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)


class _Appended(Applied):
    """An intervention of which nothing is known but how many tokens it appends."""

    def __init__(self, source: Intervention) -> None:
        self.source = source

    @property
    def appended(self) -> int:
        return self.source.appended

    def described(self) -> Any:
        return self.source.appended

    def hooks(self, backbone: Backbone, layout: TokenLayout, stack: ExitStack) -> None:
        raise TypeError("an estimate counts passes and makes none")


class Estimator:
    """Costs of the jobs of a study."""

    def __init__(self, params: Params, at: Paths) -> None:
        self.params, self.at, self.found = params, at, Estimate()
        self.manifests = {name: self._manifest(name) for name in params.datasets_used()}
        self.backbones = {name: self._backbone(name) for name in params.models_used()}
        self.counted: dict[tuple[str, Size], int] = {}

    def _manifest(self, name: str) -> Manifest | None:
        """The prepared one, or one of as many images as are known to come; None where their number is unknown."""
        if dataset_file(self.at, name).is_file():
            manifest = Manifest.load(self.at.dataset(name))
        else:
            counts, limit = self.params.datasets[name].counted(), self.params.limit
            if counts is None:
                self.found.unknown.append(f"data set '{name}': its number of images is known once it is prepared")
                return None
            splits = [split for split, n in counts.items() for _ in range(n if limit is None else min(n, limit))]
            table = pd.DataFrame({"split": splits, "height": NATIVE[0], "width": NATIVE[1]}).reindex(columns=COLUMNS)
            manifest = Manifest(name, table, [], self.at.root, "")
        self.found.images[name] = len(manifest.table)
        return manifest

    def _backbone(self, name: str) -> Backbone | None:
        """The architecture of a model at its input size, without weights; None where it has none that is declared."""
        source = self.params.models[name]
        architecture = source.outline(name, self.params)
        if architecture is None:
            self.found.unknown.append(f"model '{name}': passes of kind {source.kind} are not counted")
            return None
        with torch.device("meta"):
            module: Any = backbone.build(architecture)
        size = tuple(module.patch_embed.img_size)
        seen = Preprocess(size, size, "bicubic", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
        built = Backbone(name, module, layout_of(module, name), seen, {})
        return built.at_size(source.input_size(self.params) or size)

    def operations(self, model: Backbone, size: Size | None = None) -> int:
        """Operations of an image, at the input size of the model or at another."""
        own = tuple(model.module.patch_embed.img_size)  # type: ignore[union-attr, arg-type]
        at = size or (int(own[0]), int(own[1]))
        if (model.name, at) not in self.counted:
            self.counted[model.name, at] = operations.count(model.at_size(at).module, at)[1]
        return self.counted[model.name, at]

    def run(self) -> Estimate:
        """All jobs of the study."""
        for step in steps().values():
            for axes in step.jobs(self.params):
                cost = self.found.costs[step.name]
                cost.jobs += 1
                for passes, each, stored in self._parts(step, axes):
                    cost.passes += passes
                    cost.operations += passes * each
                    cost.bytes += stored
        return self.found

    def _parts(self, step: Step, axes: dict[str, str]) -> Iterator[tuple[int, int, int]]:
        """Passes, operations of each, and bytes stored, of a job."""
        config: Any = step.config(self.params, **axes)
        model = self.backbones.get(axes.get("model", ""))
        manifest = self.manifests.get(axes.get("dataset", ""))
        if step.name == "train":
            trained = self.manifests[config.dataset]
            if trained is not None and model is not None:
                images = int((trained.table["split"] == "train").sum())
                yield BACKWARD * config.recipe.epochs * images, self.operations(model), 0
        if model is None or manifest is None:
            return
        if isinstance(config, configs.ExtractConfig):
            yield from self._extraction(config, model, manifest)
        elif isinstance(config, configs.CalibrateConfig):
            yield self._first(manifest, config.calibration.split, config.calibration.images), self.operations(model), 0
        elif isinstance(config, configs.DetectConfig):
            images = self._first(manifest, config.detection.split, config.detection.images)
            yield images * (1 + config.detection.repeats), self.operations(model), 0
        elif hasattr(config, "extraction"):  # a measure that passes the dense images again
            plan = self._plan(model, None, manifest, config.extraction, frozen_only=True)
            yield from ((n, each, 0) for n, each in self._dense(plan, model))

    def _first(self, manifest: Manifest, split: str, images: int) -> int:
        return min(images, int((manifest.table["split"] == split).sum()))

    def _plan(
        self, model: Backbone, applied: Applied | None, manifest: Manifest, extraction: Any, frozen_only: bool
    ) -> Plan:
        """The plan of an extraction."""
        return Plan(model, applied, manifest, extraction.model_copy(update=SIMPLER), frozen_only)

    def _dense(self, plan: Plan, model: Backbone) -> Iterator[tuple[int, int]]:
        """Dense images and the operations of each: at the input size, or by padded size at their own."""
        if not plan.native:
            yield len(plan.dense), self.operations(model)
            return
        table = plan.manifest.table.iloc[plan.dense]
        sizes = Counter(zip(table["height"].astype(int), table["width"].astype(int), strict=True))
        for size, images in sizes.items():
            yield images, self.operations(model, whole_patches(size, model.patch))

    def _extraction(
        self, config: configs.ExtractConfig, model: Backbone, manifest: Manifest
    ) -> Iterator[tuple[int, int, int]]:
        """All conditions. Where shards pass, the first of them counts for all, and what joins them stores."""
        number = config.part.number if isinstance(config, configs.ShardConfig) else 0
        if number > 1:
            return
        joins = config.extraction.shards > 1 and not number
        for name, source in config.interventions.items():
            for passes, each, stored in self._condition(config, name, source, model, manifest):
                yield 0 if joins else passes, each, 0 if number else stored

    def _condition(
        self, config: configs.ExtractConfig, name: str, source: Intervention | None, model: Backbone, manifest: Manifest
    ) -> Iterator[tuple[int, int, int]]:
        """A condition of an extraction: images at the input size and what is stored; then those at their own size."""
        applied = None if source is None else _Appended(source)
        plan = self._plan(model, applied, manifest, config.extraction, name in config.extraction.frozen_only)
        stored = _stored(plan)
        for setting, kept in _kept(plan, stored).items():
            self.found.kept[setting] += kept
        yield len(plan.passed) + len(plan.pairs), self.operations(model), sum(stored.values())
        if plan.native:
            yield from ((n, each, 0) for n, each in self._dense(plan, model))


def _stored(plan: Plan) -> Counter[str]:
    """Bytes of the arrays of a plan, by what these have rows of."""
    counts, found = plan.counts(), Counter[str]()
    for spec in plan.specs().values():
        row = int(np.prod(spec.shape, dtype=np.int64)) * np.dtype(spec.dtype).itemsize
        found[spec.rows] += counts[spec.rows] * row
    return found


def _kept(plan: Plan, stored: Counter[str]) -> Counter[str]:
    """Bytes that each setting of extraction is the reason for: what is stored less without it."""
    found = Counter[str]()
    for rows, setting in IMAGES.items():
        found[setting] += stored[rows]
    extraction = plan.extraction
    for setting, off in OFF.items():
        if getattr(extraction, setting) != off:
            plan.extraction = extraction.model_copy(update={setting: off})
            found[setting] += sum(stored.values()) - sum(_stored(plan).values())
    plan.extraction = extraction
    return found


def estimate(params: Params, at: Paths) -> Estimate:
    """Count a study; where its data sets are prepared, from their manifests."""
    return Estimator(params, at).run()


def text(params: Params, found: Estimate, tflops: float) -> str:
    """A table of steps, for a terminal; hours at ``tflops`` times 10^12 operations a second."""

    def hours(operations: int) -> float:
        return operations / (tflops * 1e12) / 3600

    lines = [
        f"{params.title}: {len(params.models_used())} models, "
        + (", ".join(f"{name} {n:,} images" for name, n in found.images.items()) or "no images counted"),
        f"{'step':<22}{'jobs':>6}{'passes':>15}{'GPU hours':>12}{'disk, GB':>10}",
    ]
    total = Cost()
    for name, cost in found.costs.items():
        lines.append(
            f"{name:<22}{cost.jobs:>6}{cost.passes:>15,}{hours(cost.operations):>12.3g}{cost.bytes / 1e9:>10.2f}"
        )
        for key in vars(total):
            setattr(total, key, getattr(total, key) + getattr(cost, key))
    lines += [
        f"{'all':<22}{total.jobs:>6}{total.passes:>15,}{hours(total.operations):>12.3g}{total.bytes / 1e9:>10.2f}",
        f"GPU hours: operations of the architectures at {tflops:g} TFLOP/s sustained; a training counts {BACKWARD} "
        "forward passes of an image in an epoch; tables, figures and heads are not counted",
        *_what_takes_disk(found),
        *(f"not counted: {line}" for line in found.unknown),
    ]
    return "\n".join(lines)


def _what_takes_disk(found: Estimate) -> list[str]:
    """Which settings to reduce where the disk is too small."""
    large = [f"{setting} {kept / 1e9:,.2f}" for setting, kept in found.kept.most_common() if kept > 5e6]
    if not large:
        return []
    return [
        f"disk, GB, by setting of extraction that keeps it: {', '.join(large)}; the rest is a few vectors of each "
        "image; reduce or switch off what no experiment reads (params that lack what one needs are refused)",
    ]
