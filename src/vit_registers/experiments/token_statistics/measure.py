"""Token statistics: norms and attention by layer and condition, positions of artifacts, what registers look at."""

import numpy as np
from numpy.typing import NDArray

from vit_registers.core.stats import Bootstrap, bootstrap
from vit_registers.data import gallery
from vit_registers.experiments.job import Job, patch_norms
from vit_registers.experiments.token_statistics import attention, grid_positions, norms, register_maps, severity
from vit_registers.experiments.token_statistics.params import Config
from vit_registers.experiments.token_statistics.tokens import EDGES, Tokens, histograms, maps
from vit_registers.params.condition import BASELINE


def run(cfg: Config, job: Job) -> None:
    """Fill the rows; keep histograms, maps of the gallery images, and means by grid position.

    The model as it is comes first of the conditions: what they take away is a share of what it has. The threshold is
    that of detection in it: it marks artifacts in every condition, so that shares compare. What [CLS] gives to
    artifacts is what it gives to the places where the model as it is has them.
    """
    manifest = job.manifest()
    detected = job.found(cfg.dataset, cfg.model)
    limit, outlier_layer = float(detected["threshold"]), int(detected["outlier_layer"])
    resampled: Bootstrap | None = None
    before: dict[str, severity.Peak] = {}
    artifacts = _artifacts(cfg, job, limit)
    job.keep({f"edges_{quantity}": edges for quantity, edges in EDGES.items()})
    for condition, cached in job.conditions(cfg.dataset, cfg.model, cfg.conditions):
        if cached.status != "complete":
            job.rows.absent(["norm_median", "attention"], cached.reason, intervention=condition)
            continue
        dense = cached.dense_rows
        resampled = resampled or bootstrap(cfg.seed, cfg.statistics, cfg.dataset, len(dense))
        tokens = Tokens(condition, cached, limit, resampled, job.rows)
        _statistics(tokens, artifacts, outlier_layer)
        found = severity.peaks(tokens)
        before = found if condition == BASELINE else before
        severity.measure(tokens, found, before)
        chosen = gallery.choose(manifest, dense, cfg.gallery)
        job.keep(histograms(tokens, outlier_layer) | maps(tokens, chosen), condition)
        if condition == BASELINE:
            _as_it_is(cfg, job, tokens, artifacts, outlier_layer, chosen)


def _statistics(tokens: Tokens, artifacts: NDArray[np.bool_], outlier_layer: int) -> None:
    """Rows of every condition."""
    norms.by_layer(tokens)
    severity.medians(tokens, outlier_layer)
    attention.by_group(tokens)
    if tokens.layout.cls:
        attention.of_cls(tokens, artifacts)
        if tokens.layout.registers:
            attention.register_cosines(tokens)


def _as_it_is(
    cfg: Config,
    job: Job,
    tokens: Tokens,
    artifacts: NDArray[np.bool_],
    outlier_layer: int,
    chosen: NDArray[np.int64],
) -> None:
    """What is measured and kept of the model as it is alone; pictures of the ``chosen`` images."""
    cached, manifest = tokens.cached, job.manifest()
    if cfg.reference is not None and tokens.layout.cls:
        ((_, reference),) = job.conditions(cfg.dataset, cfg.reference, [BASELINE])
        attention.of_reference(tokens, artifacts, reference)
    rows = cached.dense_rows[chosen]
    ids = manifest.table["image_id"].to_numpy()[rows].astype(str)
    job.keep({"image_id": ids, "images": gallery.pixels(manifest, rows, cached.index)})
    job.keep(gallery.kept(manifest, cached.dense_rows, chosen, patch_norms(cached, chosen), cfg.gallery))
    grid_positions.measure(tokens, outlier_layer)
    job.keep(grid_positions.maps(tokens, outlier_layer), BASELINE)
    if tokens.layout.registers:
        register_maps.measure(tokens, register_maps.objects(manifest, cached))
        job.keep(register_maps.maps(tokens, chosen), BASELINE)


def _artifacts(cfg: Config, job: Job, limit: float) -> NDArray[np.bool_]:
    """Which patches (m, p) of the dense images are above the threshold at the last block of the model as it is."""
    ((_, cached),) = job.conditions(cfg.dataset, cfg.model, [BASELINE])
    return np.asarray(cached.array("norms")[:, -1, cached.layout.patch_slice]) > limit
