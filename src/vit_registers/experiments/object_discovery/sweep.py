"""The step that runs LOST under every setting: nobody outside could repeat darcet2024's numbers with one.

A pass of its own: what a sweep reads of an image, queries, keys and values of several blocks, is too much to keep. Of
each image only its boxes stay. The setting is chosen on one part of the images and reported on the other, and CorLoc
under every setting is published.
"""

import itertools
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from vit_registers.core.errors import InputError
from vit_registers.core.numerics.boxes import best_iou
from vit_registers.core.seeds import generator
from vit_registers.core.stats import Bootstrap, mcnemar_exact, wilson
from vit_registers.core.threads import threads
from vit_registers.data.manifest import Manifest
from vit_registers.data.targets import NO_BOXES, has_boxes, target_boxes
from vit_registers.data.transforms import Floats
from vit_registers.experiments.job import Job
from vit_registers.experiments.object_discovery import lost
from vit_registers.experiments.object_discovery.measure import CHUNK, HIT
from vit_registers.experiments.object_discovery.params import Lost, LostSweep, SweepConfig
from vit_registers.extraction.images import Images
from vit_registers.extraction.plan import Plan
from vit_registers.forward.arrays import array_name
from vit_registers.forward.readers.projections import Projections
from vit_registers.forward.reading import reading
from vit_registers.models import backbone as backbones
from vit_registers.models.backbone import Backbone
from vit_registers.params.condition import BASELINE

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Setting:
    """What decides the similarities of LOST; ``layer`` counts from 0."""

    feature: str
    layer: int
    centre: bool
    normalise: bool
    bias: float

    @property
    def axes(self) -> dict[str, Any]:
        """Where its numbers stand in the tidy table."""
        given = {"feature": self.feature, "layer": self.layer, "centred": self.centre}
        return {**given, "normalised": self.normalise, "bias": self.bias}


def settings(sweep: LostSweep, depth: int) -> list[Setting]:
    """Every combination, in a fixed order; equal ones once."""
    every = [
        Setting(feature, layer % depth, centre, normalise, bias)
        for feature, layer, centre in itertools.product(sweep.features, sweep.layers, sweep.centre)
        for normalise, biases in ((False, [0.0]), (True, sweep.bias))
        for bias in biases
    ]
    return list(dict.fromkeys(every))


def default(single: Lost, depth: int) -> Setting:
    """The one setting that all conditions are measured with."""
    return Setting(single.feature, single.layer % depth, single.centre, single.normalise, single.bias)


def boxes(projected: Mapping[str, NDArray[Any]], wanted: list[Setting], grid: tuple[int, int], k: int) -> Floats:
    """LOST's boxes (b, settings, 4) in patches, NaN where none, of projections (b, p, d) by array name.

    What settings have in common is computed once: products of patches, their cosines, all biases on both.
    """
    found = np.full((len(next(iter(projected.values()))), len(wanted), 4), np.nan)
    by_array: dict[str, list[int]] = {}
    for i, setting in enumerate(wanted):
        by_array.setdefault(array_name(setting.feature, setting.layer), []).append(i)
    for name, members in by_array.items():
        features = torch.from_numpy(projected[name]).float().numpy()  # NumPy widens halves ten times slower
        for start in range(0, len(features), CHUNK):
            chunk = slice(start, start + CHUNK)
            for centre in dict.fromkeys(wanted[i].centre for i in members):
                products = lost.similarity(features[chunk], False, centre)
                cosines = lost.normalised(products)
                for i in (i for i in members if wanted[i].centre == centre):
                    similar = cosines if wanted[i].normalise else products
                    found[chunk, i] = lost.discover(similar, grid, k, wanted[i].bias).box
    return found


@threads()
def run(cfg: SweepConfig, job: Job) -> None:
    """Fill the rows of CorLoc under every setting, and of the one that was chosen."""
    manifest, backbone = job.manifest(), backbones.load(job.model, cfg.device)
    for layer in cfg.sweep.layers:
        if not -backbone.depth <= layer < backbone.depth:
            raise InputError(
                f"params: experiments.object_discovery.sweep.layers: {layer} for model '{cfg.model}' of "
                f"{backbone.depth} blocks; expected {-backbone.depth} to {backbone.depth - 1}"
            )
    plain = default(cfg.lost, backbone.depth)
    wanted = list(dict.fromkeys([*settings(cfg.sweep, backbone.depth), plain]))
    plan = _plan(cfg, backbone, manifest, wanted)
    truth = target_boxes(manifest, plan.dense)
    if not has_boxes(manifest, plan.dense, truth):
        job.rows.absent(["corloc_of_choice"], NO_BOXES, intervention=BASELINE, group="chosen")
        return
    found = _pass(cfg, plan, manifest, wanted)
    hits = np.stack([best_iou(found[:, i], truth) >= HIT for i in range(len(wanted))], axis=1)
    _fill(cfg, job, wanted, wanted.index(plain), hits)


def _plan(cfg: SweepConfig, backbone: Backbone, manifest: Manifest, wanted: list[Setting]) -> Plan:
    """The dense images of extraction, with the projections that the settings read and nothing else."""
    kinds = sorted({setting.feature for setting in wanted})
    projections = {kind: sorted({s.layer for s in wanted if s.feature == kind}) for kind in kinds}
    nothing = {"cls_blocks": 0, "specials_layers": False, "cls_parts": False, "patch_layers": [], "pairs": 0}
    nothing |= {"attention_heads": False, "attention_columns": False, "attention_maps": 0, "sink_images": 0}
    nothing |= {"neighbours": False}
    reads = cfg.extraction.model_copy(update={**nothing, "projections": projections})
    return Plan(backbone, None, manifest, reads)


def _pass(cfg: SweepConfig, plan: Plan, manifest: Manifest, wanted: list[Setting]) -> Floats:
    """Boxes (n, settings, 4) of the dense images in their own pixels."""
    found = np.full((len(plan.dense), len(wanted), 4), np.nan)
    images = Images(manifest, plan.backbone.preprocess, plan.backbone.device, cfg.extraction)
    progress = tqdm(total=len(plan.dense), desc="sweep", unit="img", disable=None)
    for phase in (phase for phase in plan.phases() if phase.for_projections):
        sized = phase.backbone
        reader = Projections(sized, sized.layout, {**plan.extraction.projections})
        with reading(sized, [reader], cfg.extraction.precision) as forward:
            for rows, pixels in zip(phase.batches, phase.pixels(images, phase.batches), strict=True):
                forward(pixels, rows)
                in_patches = boxes(reader.take(), wanted, sized.layout.grid, cfg.lost.k)
                in_input = in_patches * np.tile(sized.patch[::-1], 2)
                for row, at, box in zip(rows, np.searchsorted(plan.dense, rows), in_input, strict=True):
                    image = manifest.table.iloc[int(row)]
                    found[at] = phase.transform(int(image["height"]), int(image["width"])).to_image(box)
                progress.update(len(rows))
    progress.close()
    return found


def _fill(cfg: SweepConfig, job: Job, wanted: list[Setting], plain: int, hits: NDArray[np.bool_]) -> None:
    """The whole grid on the images to choose on; the chosen and the default setting, and their difference, on the rest.

    ``hits`` (n, settings). Of settings that are equally good the first is chosen.
    """
    order = generator(cfg.seed, "sweep", cfg.dataset, len(hits)).permutation(len(hits))
    count = min(max(round(cfg.sweep.chosen_on * len(hits)), 1), len(hits) - 1)
    choice, rest = np.sort(order[:count]), np.sort(order[count:])
    chosen = int(hits[choice].mean(axis=0).argmax())
    for i, setting in enumerate(wanted):
        _share(cfg, job, "corloc_at_setting", hits[choice, i], **setting.axes)
    best = wanted[chosen]
    for group, images, at in (("chosen", rest, chosen), ("chosen on", choice, chosen), ("default", rest, plain)):
        _share(cfg, job, "corloc_of_choice", hits[images, at], group=group, **wanted[at].axes)
    a, b = hits[rest, chosen], hits[rest, plain]
    draw = generator(cfg.seed, "bootstrap", cfg.dataset, len(rest))
    bootstrap = Bootstrap(len(rest), cfg.statistics.resamples, cfg.statistics.confidence, draw)
    low, high = bootstrap.interval(a.astype(float) - b)
    gain: dict[str, Any] = {"low": low, "high": high, "p": mcnemar_exact(a, b), "reference_group": "default"}
    value = float(a.mean() - b.mean())
    job.rows.add("corloc_of_choice", value, len(rest), intervention=BASELINE, group="chosen", **gain)
    log.info("%s: %s, CorLoc %.3f on the other images, %.3f by default", cfg.model, best, a.mean(), b.mean())


def _share(cfg: SweepConfig, job: Job, metric: str, hits: NDArray[np.bool_], **axes: Any) -> None:
    low, high = wilson(int(hits.sum()), len(hits), cfg.statistics.confidence)
    job.rows.add(metric, float(hits.mean()), len(hits), low=low, high=high, intervention=BASELINE, head="lost", **axes)
