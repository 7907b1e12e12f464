"""Token statistics: norms and attention by layer and condition, positions of artifacts, what registers look at."""

import numpy as np
from numpy.typing import NDArray

from vit_registers.core.stats import Bootstrap, bootstrap
from vit_registers.data import gallery
from vit_registers.experiments.job import Job
from vit_registers.experiments.token_statistics import attention, grid_positions, norms, register_maps
from vit_registers.experiments.token_statistics.params import Config
from vit_registers.experiments.token_statistics.tokens import EDGES, Tokens, histograms, maps
from vit_registers.params.condition import BASELINE


def run(cfg: Config, job: Job) -> None:
    """Fill the rows; keep histograms at the last block, maps of the gallery images, and means by grid position.

    The threshold is that of detection, in the model as it is: it marks artifacts in every condition, so that shares
    compare. What [CLS] gives to artifacts is what it gives to the places where the model as it is has them.
    """
    manifest = job.manifest()
    detected = job.found(cfg.dataset, cfg.model)
    limit, outlier_layer = float(detected["threshold"]), int(detected["outlier_layer"])
    resampled: Bootstrap | None = None
    artifacts = _artifacts(cfg, job, limit)
    job.keep({f"edges_{quantity}": edges for quantity, edges in EDGES.items()})
    for condition, cached in job.conditions(cfg.dataset, cfg.model, cfg.conditions):
        if cached.status != "complete":
            job.rows.absent(["norm_median", "attention"], cached.reason, intervention=condition)
            continue
        dense = cached.dense_rows
        resampled = resampled or bootstrap(cfg.seed, cfg.statistics, cfg.dataset, len(dense))
        tokens = Tokens(condition, cached, limit, resampled, job.rows)
        norms.by_layer(tokens)
        attention.by_group(tokens)
        if tokens.layout.cls:
            attention.of_cls(tokens, artifacts)
            if tokens.layout.registers:
                attention.register_cosines(tokens)
        chosen = gallery.choose(manifest, dense, cfg.gallery.images)
        job.keep(histograms(tokens) | maps(tokens, chosen), condition)
        if condition != BASELINE:
            continue
        if cfg.reference is not None and tokens.layout.cls:
            ((_, reference),) = job.conditions(cfg.dataset, cfg.reference, [BASELINE])
            attention.of_reference(tokens, artifacts, reference)
        ids = manifest.table["image_id"].to_numpy()[dense[chosen]].astype(str)
        job.keep({"image_id": ids, "images": gallery.pixels(manifest, dense[chosen], cached.index)})
        grid_positions.measure(tokens, outlier_layer)
        job.keep(grid_positions.maps(tokens, outlier_layer), condition)
        if tokens.layout.registers:
            register_maps.measure(tokens, register_maps.objects(manifest, cached))
            job.keep(register_maps.maps(tokens, chosen), condition)


def _artifacts(cfg: Config, job: Job, limit: float) -> NDArray[np.bool_]:
    """Which patches (m, p) of the dense images are above the threshold at the last block of the model as it is."""
    ((_, cached),) = job.conditions(cfg.dataset, cfg.model, [BASELINE])
    return np.asarray(cached.array("norms")[:, -1, cached.layout.patch_slice]) > limit
