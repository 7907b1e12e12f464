"""What single tokens know: outlier (high-norm) patches against normal ones (darcet2024, bach2025).

Local: how similar a patch is to its neighbours, where it stands, what it shows. Global: the class of its image. Probes
are trained on the tokens of one part of the dense images and tested on those of the rest; intervals and tests are over
images, not tokens.
"""

import logging
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vit_registers.core.seeds import derive, generator
from vit_registers.core.stats import Floats, bootstrap, sign_flip
from vit_registers.core.threads import threads
from vit_registers.experiments.job import Job
from vit_registers.experiments.single_tokens import probes
from vit_registers.experiments.single_tokens.params import Config
from vit_registers.experiments.single_tokens.tokens import Tokens
from vit_registers.params.study import BASELINE

log = logging.getLogger(__name__)

Rows = NDArray[np.int64]


@threads()
def run(cfg: Config, job: Job) -> None:
    """Fill the rows of outlier and normal patches, their differences, and of what [CLS] and registers know."""
    ((_, cached),) = job.conditions(cfg.dataset, cfg.model, [BASELINE])
    tokens = Tokens(cfg, cached, job.manifest(), job.found(cfg.dataset, cfg.model))
    count = len(tokens.rows)
    order = generator(cfg.seed, "information", cfg.dataset, count).permutation(count)
    train, test = np.sort(order[: count // 2]), np.sort(order[count // 2 :])
    resampled = bootstrap(cfg.seed, cfg.statistics, cfg.dataset, count)
    job.rows.mean("outlier_patch_share", tokens.outlier.mean(axis=1), resampled, intervention=BASELINE)
    job.rows.add("outliers_are_artifacts", float(tokens.artifacts), count, intervention=BASELINE)
    if tokens.cosines is not None:
        _by_group(cfg, job, tokens, "neighbour_cosine", tokens.cosines, np.arange(count))
    for metric, values in _local(cfg, tokens, train, test).items():
        _by_group(cfg, job, tokens, metric, values, test)
    _classes(cfg, job, tokens, train, test)
    log.info("%s: %d images, %.2f%% of the patches are outliers", cfg.model, count, 100 * tokens.outlier.mean())


def _local(cfg: Config, tokens: Tokens, train: Rows, test: Rows) -> dict[str, NDArray[np.generic]]:
    """Values (m, p) of every patch of the test images by metric."""
    settings = cfg.settings
    draw = torch.Generator().manual_seed(derive(cfg.seed, "token probes", cfg.dataset, cfg.model))
    given, tested = tokens.patches[train], tokens.patches[test]
    predicted = probes.positions(given, tested, settings, draw).numpy()
    target = np.arange(tested.shape[1])
    y, x = np.divmod(predicted, tokens.grid[1])
    y, x = y - target // tokens.grid[1], x - target % tokens.grid[1]
    pixels, true_pixels = tokens.pixels[train], tokens.pixels[test]

    def error(reconstructed: Tensor) -> NDArray[np.float32]:
        return (reconstructed - true_pixels).square().mean(-1).numpy()  # type: ignore[no-any-return]

    return {
        "position_top1": (predicted == target).astype(float),
        "position_l1": (np.abs(y) + np.abs(x)).astype(float),
        "position_l2": np.hypot(y, x),
        "reconstruction_linear": error(probes.linear_pixels(given, pixels, tested)),
        "reconstruction_mlp": error(probes.mlp_pixels(given, pixels, tested, settings, draw)),
    }


def _by_group(cfg: Config, job: Job, tokens: Tokens, metric: str, values: NDArray[np.generic], images: Rows) -> None:
    """Means over outlier and over normal patches of values (m, p), and their difference within images that have both.

    Intervals are over images: a resample draws images with all their patches.
    """
    resampled, values = bootstrap(cfg.seed, cfg.statistics, cfg.dataset, len(images)), values.astype(float)
    means, both = {}, tokens.both[images]
    for group, of_all in tokens.groups.items():
        where = of_all[images]
        count, total = where.sum(axis=1).astype(float), (values * where).sum(axis=1)
        if not count.any():
            job.rows.absent([metric], f"no {group} patches", intervention=BASELINE, group=group)
            continue
        drawn = resampled.means(count)
        shares = np.divide(resampled.means(total), drawn, out=np.full_like(drawn, np.nan), where=drawn > 0)
        low, high = (float(edge) for edge in np.nanquantile(shares, resampled.tails))
        value, n = float(total.sum() / count.sum()), int((count > 0).sum())
        job.rows.add(metric, value, n, low=low, high=high, intervention=BASELINE, group=group)
        means[group] = total[both] / count[both]
    if both.any():
        _difference(cfg, job, metric, means["outlier"] - means["normal"], metric)


def _difference(cfg: Config, job: Job, metric: str, differences: Floats, draws: str) -> None:
    """Mean of paired differences (m,), one per image, with interval and sign-flip p, from the draws of that name."""
    n = len(differences)
    low, high = bootstrap(cfg.seed, cfg.statistics, cfg.dataset, n).interval(differences)
    signs = generator(cfg.seed, "sign flips", cfg.dataset, cfg.model, draws)
    p = sign_flip(differences, cfg.statistics.sign_flips, signs)
    axes: dict[str, Any] = {"intervention": BASELINE, "group": "outlier", "reference_group": "normal"}
    job.rows.add(metric, float(differences.mean()), n, low=low, high=high, p=p, **axes)


def _classes(cfg: Config, job: Job, tokens: Tokens, train: Rows, test: Rows) -> None:
    """Class of the image from one token: an outlier and a normal patch drawn per image and seed, a register, [CLS].

    Images without an outlier patch, or without a normal one, are left out of all of them.
    """
    both = np.flatnonzero(tokens.both)
    train, test = np.intersect1d(train, both), np.intersect1d(test, both)
    kinds = [*tokens.groups, *tokens.special]
    if len(train) < 2 or len(test) < 2 or len(set(tokens.labels[train])) < 2:
        reason = f"{len(train)} training and {len(test)} test images have outlier patches and others"
        for kind in kinds:
            job.rows.absent(["token_class_top1"], reason, intervention=BASELINE, group=kind)
        return
    right: dict[str, list[Floats]] = {kind: [] for kind in kinds}
    resampled = bootstrap(cfg.seed, cfg.statistics, cfg.dataset, len(test))
    for seed in cfg.settings.seeds:
        chosen = tokens.drawn(generator(cfg.seed, "one token", cfg.dataset, cfg.model, seed))
        for kind in kinds:
            given, labels = chosen[kind], tokens.labels
            hit = probes.classes(given[train], labels[train], given[test]) == labels[test]
            right[kind].append(hit.astype(float))
            job.rows.mean("token_class_top1", hit, resampled, intervention=BASELINE, group=kind, seed=seed)
    means = {kind: np.mean(of_seeds, axis=0) for kind, of_seeds in right.items()}
    for kind, mean in means.items():
        job.rows.mean("token_class_top1", mean, resampled, intervention=BASELINE, group=kind)
        deviation = float(np.std([hits.mean() for hits in right[kind]]))  # of draws, as bach2025 reports it
        job.rows.add("token_class_top1_sd", deviation, len(test), intervention=BASELINE, group=kind)
    _difference(cfg, job, "token_class_top1", means["outlier"] - means["normal"], "class_top1")
