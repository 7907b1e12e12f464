"""Recall and precision of register neurons that were planted at every activation, by how neurons are scored."""

import itertools
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vit_registers.core.seeds import generator
from vit_registers.core.threads import threads
from vit_registers.data.manifest import Manifest
from vit_registers.experiments.detection_limits.params import Config
from vit_registers.experiments.job import Job
from vit_registers.extraction.images import Images
from vit_registers.forward.hooks import second_linear
from vit_registers.forward.readers.base import Reader
from vit_registers.models import backbone as backbones
from vit_registers.params.condition import BASELINE
from vit_registers.pipeline.configs import PassConfig
from vit_registers.planted import spread
from vit_registers.planted.plant import random_direction, sample
from vit_registers.planted.spread import Neuron, Planted
from vit_registers.registers import detect, outliers
from vit_registers.registers.neurons import NeuronScores, ranking, scored

log = logging.getLogger(__name__)

SCORES = ("activation", "contribution")
SPARSITIES = ("off", "absolute")
RANKED = ("every block", "to where artifacts arise")
KINDS = ("everywhere", "downstream")  # of decoys

Setting = tuple[str, str, str]  # score, sparsity, blocks that are ranked
Key = tuple[str, str | None, float, Setting | None]  # metric, kind of decoy, activation, setting


@dataclass(frozen=True)
class Look:
    """Share of artifacts in a planted model, and mean |activation| (layers, h) at them, by sparsity filter.

    ``highest``: by which blocks are ranked, the last of them.
    """

    share: float
    scores: dict[str, NDArray[np.float64]]
    highest: dict[str, int]


def _pass(cfg: Config) -> PassConfig:
    """What a pass over images needs."""
    return PassConfig(**{name: getattr(cfg, name) for name in PassConfig.model_fields})


def look(cfg: Config, planted: Planted, manifest: Manifest) -> Look:
    """Pass the images of detection twice, as detection does: for norms, then those that have outliers for neurons."""
    backbone, passes = planted.backbone, _pass(cfg)
    images = Images(manifest, backbone.preprocess, backbone.device, cfg)
    rows = manifest.rows(cfg.split)[: cfg.settings.images]
    norms = detect.patch_norms(passes, backbone, images, rows).blocks
    layers = outliers.outlier_layer(norms, cfg.threshold_rule, cfg.threshold, cfg.outlier_layer, cfg.minimum_share)
    found = outliers.find(norms[:, layers.layer], layers.threshold)
    affected, none = found.affected.astype(bool), np.zeros((0, found.images_affected), dtype=np.int64)

    def fresh() -> list[Reader]:
        last, judged = backbone.depth - 1, cfg.sparsity_tokens
        return [NeuronScores(backbone, layers.layer, last, layers.threshold, how, none, judged) for how in SPARSITIES]

    readers = detect.passed(passes, backbone, images, rows[affected], fresh)
    by_filter = {how: reader.scores()[0] for how, reader in zip(SPARSITIES, readers, strict=True)}  # type: ignore[attr-defined]
    arising = detect.highest_layer("arising", layers, backbone.depth)
    return Look(found.share, by_filter, dict(zip(RANKED, (backbone.depth - 1, arising), strict=True)))


def rankings(seen: Look, planted: Planted) -> Iterator[tuple[Setting, list[Neuron]]]:
    """The neurons in order, under every setting."""
    for score, how in itertools.product(SCORES, SPARSITIES):
        scores = scored(seen.scores[how], score, planted.backbone)
        for blocks in RANKED:
            yield (score, how, blocks), ranking(scores[: seen.highest[blocks] + 1])


def _neurons(planted: Planted) -> int:
    """Neurons of all blocks of a model."""
    return sum(second_linear(planted.backbone, layer).in_features for layer in range(planted.backbone.depth))


def quality(order: list[Neuron], planted: Planted) -> dict[tuple[str, str | None], float]:
    """What a ranking finds, by metric and kind of decoy: recall, precision, decoys among the first.

    Taken are as many neurons as were planted, so recall is the precision of these as well. Precision is that of the
    shortest list that holds all of them; where some are not ranked at all, no list does and it is that of all neurons
    of the model.
    """
    count, first = len(planted.neurons), set(order[: len(planted.neurons)])
    place = {neuron: rank for rank, neuron in enumerate(order, start=1)}
    longest = max(place.get(neuron, _neurons(planted)) for neuron in planted.neurons)
    found: dict[tuple[str, str | None], float] = {
        ("planted_recall", None): len(first & set(planted.neurons)) / count,
        ("planted_precision", None): count / longest,
    }
    return found | {("decoys_taken", kind): len(first & set(planted.decoys[kind])) / count for kind in KINDS}


@threads()
def run(cfg: Config, job: Job) -> None:
    """Plant, look, rank; a row for every planting, and the mean over seeds with the least and the most of them."""
    manifest, settings = job.manifest(), cfg.settings
    backbone = backbones.load(job.model, cfg.device)
    where = "experiments.detection_limits.planting"
    pixels = sample(manifest, settings.planting.images, cfg.seed, backbone).pixels
    clean = spread.look(settings.planting, backbone, pixels, where)
    values: dict[Key, list[float]] = {}
    for seed in settings.seeds:
        direction = random_direction(backbone.width, cfg.seed, f"{cfg.model} spread {seed}")
        fitted = spread.fit(settings.planting, backbone, clean, direction)
        for activation in settings.activations:
            draw = generator(cfg.seed, "spread planting", cfg.dataset, cfg.model, seed)
            planted = spread.plant(settings.planting, backbone, clean, fitted, activation, draw)
            seen = look(cfg, planted, manifest)
            own = [seen.scores["off"][neuron] for neuron in planted.neurons]
            values.setdefault(("planted_activation", None, activation, None), []).append(float(np.mean(own)))
            values.setdefault(("planted_share", None, activation, None), []).append(seen.share)
            for setting, order in rankings(seen, planted):
                for (metric, kind), value in quality(order, planted).items():
                    values.setdefault((metric, kind, activation, setting), []).append(value)
            chance = len(planted.neurons) / _neurons(planted)
            values.setdefault(("planted_chance", None, activation, None), []).append(chance)
            log.info("seed %d, activation %g: %.2f%% of the patches are artifacts", seed, activation, 100 * seen.share)
    for key, of_seeds in values.items():
        _add(job, settings.seeds, key, of_seeds)


def _add(job: Job, seeds: list[int], key: Key, of: list[float]) -> None:
    """Rows of single plantings ``of`` every seed, and of all."""
    metric, kind, activation, setting = key
    axes: dict[str, Any] = {"intervention": BASELINE, "activation": activation}
    if kind is not None:
        axes["group"] = kind
    if setting is not None:
        axes |= dict(zip(("score", "sparsity", "ranked"), setting, strict=True))
    for seed, value in zip(seeds, of, strict=True):
        job.rows.add(metric, value, 1, seed=seed, note="one planting has no interval", **axes)
    job.rows.add(metric, float(np.mean(of)), len(of), low=min(of), high=max(of), **axes)
