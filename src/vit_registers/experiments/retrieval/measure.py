"""The nearest other test image of every test image, by cosine of features; no head is fitted (parodi2026).

The gallery is either what the same condition makes of the other images, or what the model as it is makes of them: the
first asks whether a condition keeps images of a class together, the second whether it leaves them where they were.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vit_registers.core.stats import Resamples
from vit_registers.core.threads import threads
from vit_registers.experiments.job import Job
from vit_registers.experiments.retrieval.params import Config
from vit_registers.extraction.store import Features
from vit_registers.params.study import BASELINE

CHUNK = 1024  # images whose similarities to all others are held at once
NO_CLASSES = "images of the data set have no classes"


@threads()
def run(cfg: Config, job: Job) -> None:
    """Fill the rows of every condition, and whether each image found its class."""
    manifest, resamples = job.manifest(), Resamples(cfg.seed, cfg.statistics, cfg.dataset)
    if not manifest.labelled:
        job.rows.absent(["recall_at_1"], NO_CLASSES, intervention=BASELINE)
        return
    rows = manifest.rows("test")
    labels, ids = (manifest.table[column].to_numpy()[rows] for column in ("label", "image_id"))
    job.rows.add("recall_at_1_chance", chance(labels), len(rows), intervention=BASELINE)
    conditions = dict(job.conditions(cfg.dataset, cfg.model, cfg.conditions))
    for name, cached in conditions.items():
        if cached.status != "complete":
            job.rows.absent(["recall_at_1"], cached.reason, intervention=name)
            continue
        for feature in cfg.settings.features:
            queries = directions(cached, feature, rows)
            if queries is None:
                continue
            right = labels[nearest(queries, queries)] == labels
            axes = {"intervention": name, "feature": feature}
            job.rows.mean("recall_at_1", right, resamples[len(rows)], **axes)
            job.by_image("recall_at_1", ids, right, name, feature=feature)
            intact = directions(conditions[BASELINE], feature, rows)
            if name != BASELINE and intact is not None:
                right = labels[nearest(queries, intact)] == labels
                job.rows.mean("recall_at_1_intact", right, resamples[len(rows)], **axes)


def directions(cached: Features, feature: str, rows: NDArray[np.int64]) -> Tensor | None:
    """Features (n, d) of the images in manifest ``rows``, each of length one; None where a condition has none."""
    if feature not in cached.index["arrays"]:
        return None
    found = torch.from_numpy(np.array(cached.array(feature))[cached.places(rows)])
    return torch.nn.functional.normalize(found.float(), dim=1)


def nearest(queries: Tensor, gallery: Tensor) -> NDArray[np.int64]:
    """For each of n queries (n, d) the place of the gallery image (n, d) with the largest cosine, never its own."""
    found = []
    for start in range(0, len(queries), CHUNK):
        cosines = queries[start : start + CHUNK] @ gallery.T
        each = torch.arange(len(cosines))
        cosines[each, start + each] = -torch.inf
        found.append(cosines.argmax(dim=1))
    return torch.cat(found).numpy()


def chance(labels: NDArray[np.int64]) -> float:
    """Share of all pairs of different images that are of one class."""
    _, counts = np.unique(labels, return_counts=True)
    return float((counts * (counts - 1)).sum() / (len(labels) * (len(labels) - 1)))
