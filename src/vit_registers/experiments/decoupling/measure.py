"""[CLS] under restricted attention against full outputs: CKA, cosine, and one-shot classification (lappe2025).

The paper compares attention outputs of [CLS]. Here it is [CLS] after the last block and the final norm, which every
condition has: the MLP between sees a sum of parts, so that parts do not add up there.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vit_registers.core.linalg import cka, row_cosines, unbiased_cka
from vit_registers.core.seeds import generator
from vit_registers.core.stats import Resamples, jackknife, percentiles
from vit_registers.core.threads import threads
from vit_registers.data.manifest import Manifest
from vit_registers.experiments.decoupling.params import Config
from vit_registers.experiments.job import Job

ESTIMATORS = {"linear": cka, "unbiased": unbiased_cka}
MANY_CLASSES = 50  # fewer make a class among five no question: of ten classes half are
NO_CLASSES = "images of the data set have no classes"
FEW = "a class has one test image; one-shot classification takes two"
FEWEST = 8  # test images: the jackknife leaves out one of two groups at least, and four must stay
ALIKE = "[CLS] is the same for all images"
METRICS = ["cka", "part_cosine"]
Floats = NDArray[np.float64]


@threads()
def run(cfg: Config, job: Job) -> None:
    """Fill the rows of every part against every full output."""
    manifest, resamples = job.manifest(), Resamples(cfg.seed, cfg.statistics, cfg.dataset)
    rows = manifest.rows("test")
    features: dict[str, Floats] = {}
    for name, cached in job.conditions(cfg.dataset, cfg.model, [*cfg.full, *cfg.parts]):
        if cached.status == "complete" and "cls" in cached.index["arrays"]:
            features[name] = np.asarray(cached.array("cls")[cached.places(rows)], dtype=np.float64)
        elif cached.status != "complete" and name in cfg.parts:
            job.rows.absent([*METRICS, "one_shot_top1"], cached.reason, intervention=name)
    if len(rows) < FEWEST:
        job.rows.absent(METRICS, f"{len(rows)} test images; {FEWEST} are needed", intervention=cfg.full[0])
        return
    groups = np.arange(len(rows)) % min(cfg.settings.groups, len(rows) // 4)
    for full in (name for name in cfg.full if name in features):
        for part in (name for name in cfg.parts if name in features):
            axes: dict[str, Any] = {"intervention": part, "full": full}
            x, y = features[full], features[part]
            for name, estimator in ESTIMATORS.items():
                with np.errstate(invalid="ignore", divide="ignore"):
                    value = estimator(x, y)
                if not np.isfinite(value):
                    job.rows.absent(["cka"], ALIKE, estimator=name, **axes)
                    continue
                without = [estimator(x[groups != g], y[groups != g]) for g in range(groups.max() + 1)]
                low, high = jackknife(value, np.array(without), cfg.statistics.confidence)
                job.rows.add("cka", value, len(rows), low=low, high=high, estimator=name, **axes)
            job.rows.mean("part_cosine", row_cosines(x, y), resamples[len(rows)], **axes)
        _one_shot(cfg, job, manifest, features, full)


def _one_shot(cfg: Config, job: Job, manifest: Manifest, features: dict[str, Floats], full: str) -> None:
    """One image of each class of the ``full`` output to fit, another to test, in many draws; parts are tested alike."""
    if not manifest.labelled:
        job.rows.absent(["one_shot_top1"], NO_CLASSES, intervention=full, full=full)
        return
    labels = manifest.table["label"].to_numpy()[manifest.rows("test")]
    drawn = episodes(labels, cfg.settings.episodes, generator(cfg.seed, "one shot", cfg.dataset))
    if drawn is None:
        job.rows.absent(["one_shot_top1"], FEW, intervention=full, full=full)
        return
    for name in [full, *(part for part in cfg.parts if part in features)]:
        ranks = ranks_of_truth(features[full], features[name], *drawn)
        for metric, first in (("one_shot_top1", 1), ("one_shot_top5", 5)):
            if first == 1 or len(np.unique(labels)) >= MANY_CLASSES:
                right = (ranks < first).mean(axis=1)
                low, high = percentiles(_means(right, cfg), cfg.statistics.confidence)
                job.rows.add(metric, float(right.mean()), len(right), low=low, high=high, intervention=name, full=full)


def _means(values: Floats, cfg: Config) -> Floats:
    """Means over episodes drawn with replacement (resamples,)."""
    rng = generator(cfg.seed, "episodes", cfg.dataset)
    drawn = rng.integers(len(values), size=(cfg.statistics.resamples, len(values)))
    return np.asarray(values[drawn].mean(axis=1))


def episodes(labels: NDArray[np.int64], count: int, rng: np.random.Generator) -> tuple[NDArray[np.int64], ...] | None:
    """Places of one image of each class to fit, and of another to test, (count, classes) each.

    None where a class has one image alone.
    """
    members = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    if min(len(each) for each in members) < 2:
        return None
    drawn = np.stack([[rng.choice(each, 2, replace=False) for each in members] for _ in range(count)])
    return drawn[:, :, 0], drawn[:, :, 1]


def ranks_of_truth(full: Floats, part: Floats, fit: NDArray[np.int64], test: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many classes are nearer than the true one, (episodes, classes): cosine of tested parts to fitted wholes."""
    fitted, tested = (torch.nn.functional.normalize(torch.from_numpy(x), dim=1) for x in (full, part))
    cosines = tested[torch.from_numpy(test)] @ fitted[torch.from_numpy(fit)].transpose(1, 2)  # (e, tested, fitted)
    truth = cosines.diagonal(dim1=1, dim2=2).unsqueeze(2)
    return np.asarray((cosines > truth).sum(dim=2).numpy())
