"""The nearest other test image of every test image, by cosine of features; no head is fitted (parodi2026).

The gallery is either what the same condition makes of the other images, or what the model as it is makes of them: the
first asks whether a condition keeps images of a class together, the second whether it leaves them where they were.
"""

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from vit_registers.core.numerics.neighbours import directions, nearest_other
from vit_registers.core.stats import Resamples
from vit_registers.core.threads import threads
from vit_registers.experiments.job import Job
from vit_registers.experiments.retrieval.params import Config
from vit_registers.extraction.store import Features
from vit_registers.params.condition import BASELINE

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
            queries = of_rows(cached, feature, rows)
            if queries is None:
                continue
            right = labels[nearest_other(queries, queries)] == labels
            axes = {"intervention": name, "feature": feature}
            job.rows.mean("recall_at_1", right, resamples[len(rows)], **axes)
            job.by_image("recall_at_1", ids, right, name, feature=feature)
            intact = of_rows(conditions[BASELINE], feature, rows)
            if name != BASELINE and intact is not None:
                right = labels[nearest_other(queries, intact)] == labels
                job.rows.mean("recall_at_1_intact", right, resamples[len(rows)], **axes)


def of_rows(cached: Features, feature: str, rows: NDArray[np.int64]) -> Tensor | None:
    """Directions (n, d) of a feature of the images in manifest ``rows``; None where a condition has none."""
    if feature not in cached.index["arrays"]:
        return None
    return directions(np.asarray(cached.array(feature)[cached.places(rows)]))


def chance(labels: NDArray[np.int64]) -> float:
    """Share of all pairs of different images that are of one class."""
    _, counts = np.unique(labels, return_counts=True)
    return float((counts * (counts - 1)).sum() / (len(labels) * (len(labels) - 1)))
