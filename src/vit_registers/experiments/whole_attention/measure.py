"""Pass a few images once more, with every attention map of every block kept."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vit_registers.core.errors import InputError
from vit_registers.core.threads import threads
from vit_registers.data import gallery
from vit_registers.experiments.job import Job, patch_norms
from vit_registers.experiments.whole_attention.params import Config
from vit_registers.extraction.images import Images
from vit_registers.forward.readers.attention import AttentionMaps
from vit_registers.forward.reading import reading
from vit_registers.interventions.base import Known, NotApplicable, applied
from vit_registers.models import backbone as backbones
from vit_registers.models.backbone import Backbone
from vit_registers.models.layout import TokenLayout
from vit_registers.params.condition import BASELINE
from vit_registers.views.gallery import shown

MIB = 2**20


@threads()
def run(cfg: Config, job: Job) -> None:
    """Keep maps (g, layers, heads, t, t) of the images that figures show, under every condition, and where tokens are.

    ``layout``: counts of [CLS], trained registers and appended tokens, height and width of the grid. Appended tokens
    come last in the sequence. A condition that does not apply has none. Refused: more than the limit of params.
    """
    manifest, backbone = job.manifest(), backbones.load(job.model, cfg.device)
    ((_, cached),) = job.conditions(cfg.dataset, cfg.model, [BASELINE])
    dense = cached.dense_rows
    candidates = gallery.choose(manifest, dense, cfg.gallery)
    known = gallery.kept(manifest, dense, candidates, patch_norms(cached, candidates), cfg.gallery)
    rows = dense[candidates[shown([known], cfg.settings.images)]]
    ids = manifest.table["image_id"].to_numpy()[rows].astype(str)
    job.keep({"images": gallery.pixels(manifest, rows, cached.index), "image_id": ids})
    images = Images(manifest, backbone.preprocess)
    for name, source in cfg.interventions.items():
        found = Known(job.found(cfg.dataset, cfg.model), None, (cfg.seed, cfg.dataset, cfg.model, name))
        intervention = None if source is None else source.resolve(backbone, found)
        if isinstance(intervention, NotApplicable):
            continue
        with applied(backbone, intervention) as layout:
            _refuse_too_much(cfg, backbone, layout, len(rows))
            maps = _maps(cfg, backbone, layout, images, rows)
        shape = [layout.cls, layout.registers, layout.appended, *layout.grid]
        job.keep({"maps": maps, "layout": np.array(shape)}, name)


def _maps(
    cfg: Config, backbone: Backbone, layout: TokenLayout, images: Images, rows: NDArray[np.int64]
) -> NDArray[np.float16]:
    """Maps of some images, one at a time: what a few images take in memory is known."""
    reader = AttentionMaps(backbone, layout)
    found = []
    with reading(backbone, [reader], cfg.precision) as forward:
        for row, pixels in zip(rows, images.batches([rows[i : i + 1] for i in range(len(rows))]), strict=True):
            forward(pixels, np.array([row]))
            maps: Any = reader.take()["attention_maps"]
            found.append(maps.astype(np.float32).mean(2, keepdims=True) if cfg.settings.heads == "mean" else maps)
    return np.concatenate(found).astype(np.float16)


def _refuse_too_much(cfg: Config, backbone: Backbone, layout: TokenLayout, images: int) -> None:
    """Half precision takes two bytes for each pair of tokens of each map."""
    heads = AttentionMaps(backbone, layout).shape[1] if cfg.settings.heads == "all" else 1
    needed = 2 * math.prod([images, backbone.depth, heads, layout.length, layout.length]) / MIB
    if needed > cfg.settings.limit_mb:
        fewer = "heads: mean, or fewer images" if cfg.settings.heads == "all" else "fewer images"
        raise InputError(
            f"params: experiments.whole_attention: '{cfg.model}' takes {needed:.0f} MiB for a condition, limit_mb is "
            f"{cfg.settings.limit_mb:g}; set {fewer}, a higher limit_mb, or null to leave it out"
        )
