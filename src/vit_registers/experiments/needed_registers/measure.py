"""What the model's own head says under every condition, and how far its patches are from those of its base.

A planted model differs from the model that was planted into, its *base*, by artifacts alone. Of each condition two
things are asked: whether the class of the image is still where the head reads it, and whether patches hold what they
held without artifacts. Both need no fitting.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from vit_registers.core.files import read_json
from vit_registers.core.numerics.linalg import row_cosines
from vit_registers.core.stats import Resamples
from vit_registers.data.manifest import Manifest
from vit_registers.experiments.job import Job
from vit_registers.experiments.needed_registers.params import Config
from vit_registers.extraction.store import Features
from vit_registers.params.condition import BASELINE

NO_HEAD = "the model has no head of its own"
NO_BASE = "the model that this one was made from is not measured"
NO_ARTIFACTS = "neurons write no artifact in these images"
WRITTEN = 0.5  # of the norm that neurons write: a patch that leaves their block with more holds an artifact
Places = NDArray[np.bool_]


def right(cached: Features, rows: NDArray[np.int64], labels: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether the head's most likely class is that of the image, for the images in manifest ``rows`` (n,)."""
    logits = cached.array("logits")[cached.places(rows)]
    return np.asarray(logits.argmax(axis=1) == labels[rows])


def artifact_places(baseline: Features, planted: dict[str, Any]) -> Places:
    """Where neurons of the planted model write artifacts, (n, p), by the norms of the model as it is."""
    norms = baseline.array("norms")[:, planted["block"], baseline.layout.patch_slice]
    return np.asarray(norms > WRITTEN * planted["norm"])


def cosines(cached: Features, base: Features) -> NDArray[np.float64]:
    """Cosine of every patch (n, p) to the same patch of the base."""
    return row_cosines(cached.array("patches"), base.array("patches"))


def run(cfg: Config, job: Job) -> None:
    """Fill the rows of every condition, and values by image."""
    conditions = dict(job.conditions(cfg.dataset, cfg.model, cfg.conditions))
    planted = read_json(job.model / "model.json").get("planted")
    places = artifact_places(conditions[BASELINE], planted) if planted else None
    base = dict(job.conditions(cfg.dataset, cfg.base, [BASELINE]))[BASELINE] if cfg.base else None
    resamples, manifest = Resamples(cfg.seed, cfg.statistics, cfg.dataset), job.manifest()
    if places is not None:  # how many artifacts there are in the model as it is
        of_image, affected = np.asarray(places.sum(axis=1)), np.asarray(places.any(axis=1))
        job.rows.mean("artifact_patches", of_image, resamples[len(places)], intervention=BASELINE)
        job.rows.mean("affected_images", affected, resamples[len(places)], intervention=BASELINE)
    for name, cached in conditions.items():
        if cached.status != "complete":
            job.rows.absent(["own_head_top1", "patch_cosine"], cached.reason, intervention=name)
            continue
        _own_head(job, manifest, name, cached, resamples)
        if base is None:
            job.rows.absent(["patch_cosine"], NO_BASE, intervention=name)
        else:
            _patches(job, name, cosines(cached, base), places, resamples)


def _own_head(job: Job, manifest: Manifest, condition: str, cached: Features, resamples: Resamples) -> None:
    """Top-1 on the test images."""
    if "logits" not in cached.index["arrays"]:
        job.rows.absent(["own_head_top1"], NO_HEAD, intervention=condition)
        return
    rows = manifest.rows("test")
    found = right(cached, rows, manifest.table["label"].to_numpy())
    job.rows.mean("own_head_top1", found, resamples[len(rows)], intervention=condition, head="own")
    job.by_image("own_head_top1", manifest.table["image_id"].to_numpy()[rows], found, condition, head="own")


def _patches(job: Job, condition: str, found: NDArray[np.float64], places: Places | None, resamples: Resamples) -> None:
    """Cosines of all patches, and of those where artifacts are, of images that have one."""
    job.rows.mean("patch_cosine", found.mean(axis=1), resamples[len(found)], intervention=condition, group="patches")
    if places is None:
        return
    affected = places.any(axis=1)
    if not affected.any():
        job.rows.absent(["patch_cosine"], NO_ARTIFACTS, intervention=condition, group="artifacts")
        return
    of_image = np.where(places, found, 0.0).sum(axis=1)[affected] / places.sum(axis=1)[affected]
    job.rows.mean("patch_cosine", of_image, resamples[len(of_image)], intervention=condition, group="artifacts")
