"""What single tokens know: outlier (high-norm) patches against normal ones (darcet2024, bach2025).

Local: how similar a patch is to its neighbours, where it stands, what it shows. Global: the class of its image. Probes
are trained on tokens of training images and tested on those of the dense images; intervals and tests are over images,
not tokens.

One probe for all tokens, as published, is fitted to normal ones, which are nearly all: what it misses of outliers is in
part not in the probe rather than not in the token. So outlier and as many normal tokens get probes of their own, and
those of a model that was written into are compared with the same patches of the model that it was made from.
"""

import logging
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vit_registers.core.numerics.logistic import classes
from vit_registers.core.seeds import derive, generator
from vit_registers.core.stats import Floats, Resamples
from vit_registers.core.threads import threads
from vit_registers.experiments.job import Job
from vit_registers.experiments.single_tokens import neighbours, probes
from vit_registers.experiments.single_tokens.estimates import Estimates, Groups
from vit_registers.experiments.single_tokens.params import Config
from vit_registers.experiments.single_tokens.tokens import Bools, Probed, load, of_reference
from vit_registers.extraction.store import Features
from vit_registers.params.condition import BASELINE

log = logging.getLogger(__name__)

Local = dict[str, NDArray[np.generic]]  # values (m, p) of every test patch by metric
POSITION = ("position_top1", "position_l1", "position_l2")


@threads()
def run(cfg: Config, job: Job) -> None:
    """Fill the rows of outlier and normal patches, their differences, and of what [CLS] and registers know."""
    ((_, cached),) = job.conditions(cfg.dataset, cfg.model, [BASELINE])
    if "train_patches" not in cached.index["arrays"]:
        metrics = [name for name in job.rows.metrics if name != "outliers_are_artifacts"]
        job.rows.absent(metrics, "the data set has no training images", intervention=BASELINE)
        return
    probed = load(cfg, cached, job.manifest(), job.found(cfg.dataset, cfg.model))
    test, count = probed.test, len(probed.test.rows)
    estimates = Estimates(cfg, job.rows, Resamples(cfg.seed, cfg.statistics, cfg.dataset), count)
    job.rows.mean("outlier_patch_share", test.outlier.mean(axis=1), estimates.resampled, intervention=BASELINE)
    job.rows.add("outliers_are_artifacts", float(probed.artifacts), count, intervention=BASELINE)
    where = {"outlier": test.outlier, "normal": ~test.outlier, "matched": test.outlier}
    if probed.cosines is not None:
        both, mean = {group: where[group] for group in ("outlier", "normal")}, np.nanmean(probed.cosines, axis=-1)
        estimates.by_group("neighbour_cosine", {group: mean for group in both}, where)
        job.keep(neighbours.histograms(probed.cosines, both), BASELINE)
    reference = None
    if cfg.reference is not None:
        ((_, reference),) = job.conditions(cfg.dataset, cfg.reference, [BASELINE])
    _local(cfg, estimates, probed, reference, where)
    _classes(cfg, job, estimates, probed)
    log.info("%s: %d images, %.2f%% of the patches are outliers", cfg.model, count, 100 * test.outlier.mean())


# What is local.


@dataclass(frozen=True)
class Sample:
    """Tokens (n, d) to train a probe on, the positions (n,) that they stand at, and their pixels (n, k)."""

    tokens: Tensor
    positions: NDArray[np.int64]
    pixels: Tensor

    @classmethod
    def of(cls, patches: Tensor, pixels: Tensor, where: Bools) -> "Sample":
        """The patches (n, p, d) ``where`` (n, p) is true."""
        images, places = np.nonzero(where)
        return cls(patches[images, places], places, pixels[images, places])


def _local(cfg: Config, to: Estimates, probed: Probed, reference: Features | None, where: Groups) -> None:
    """Rows of position and pixels, by the probe of all tokens and by each group's own."""
    train, test = probed.train, probed.test
    everywhere = np.ones_like(train.outlier)
    mine = (train.patches, test.patches)
    clean = of_reference(reference, probed) if reference is not None else None

    pooled = _linear(Sample.of(mine[0], train.pixels, everywhere), mine[1], probed)
    values = {"outlier": pooled, "normal": pooled}
    if clean is not None:
        values["matched"] = _linear(Sample.of(clean[0], train.pixels, everywhere), clean[1], probed)
    _rows(to, values, probed, where, "pooled")

    draw = torch.Generator().manual_seed(derive(cfg.seed, "token probes", cfg.dataset, cfg.model))
    sample = Sample.of(mine[0], train.pixels, everywhere)
    drawn = probes.mlp_pixels(sample.tokens, sample.pixels, mine[1], cfg.settings, draw)
    by_mlp: Local = {"reconstruction_mlp": _error(drawn, test.pixels)}
    _rows(to, {"outlier": by_mlp, "normal": by_mlp}, probed, where, "pooled")

    samples = {"outlier": train.outlier, "normal": _as_many(cfg, train.outlier)}
    tokens, channels = int(train.outlier.sum()), train.patches.shape[-1]
    if tokens < channels:
        reason = f"{tokens} outlier tokens to train a probe of {channels} channels on"
        names = [*POSITION, *_of_error("reconstruction_linear")]
        for group in ("outlier", "normal", *(["matched"] if clean is not None else [])):
            to.rows.absent(names, reason, intervention=BASELINE, group=group, probe="own")
        return
    own = {g: _linear(Sample.of(mine[0], train.pixels, mask), mine[1], probed) for g, mask in samples.items()}
    if clean is not None:
        own["matched"] = _linear(Sample.of(clean[0], train.pixels, train.outlier), clean[1], probed)
    _rows(to, own, probed, where, "own")


def _as_many(cfg: Config, outlier: Bools) -> Bools:
    """As many normal training tokens as there are outliers, drawn (n, p)."""
    normal = np.flatnonzero(~outlier)
    draw = generator(cfg.seed, "equal tokens", cfg.dataset, cfg.model)
    chosen = draw.choice(normal, size=min(int(outlier.sum()), len(normal)), replace=False)
    where = np.zeros(outlier.size, dtype=bool)
    where[chosen] = True
    return where.reshape(outlier.shape)


def _linear(sample: Sample, tested: Tensor, probed: Probed) -> Local:
    """Where a classifier places every test patch (m, p, d), and how far a linear reconstruction misses its pixels."""
    predicted = probes.positions(sample.tokens, sample.positions, tested)
    target = np.arange(tested.shape[1])
    y, x = np.divmod(predicted, probed.grid[1])
    y, x = y - target // probed.grid[1], x - target % probed.grid[1]
    return {
        "position_top1": (predicted == target).astype(float),
        "position_l1": (np.abs(y) + np.abs(x)).astype(float),
        "position_l2": np.hypot(y, x),
        "reconstruction_linear": _error(probes.linear_pixels(sample.tokens, sample.pixels, tested), probed.test.pixels),
    }


def _error(reconstructed: Tensor, pixels: Tensor) -> NDArray[np.float32]:
    """Mean squared error (m, p) over the pixels (m, p, k) of a patch."""
    return (reconstructed - pixels).square().mean(-1).numpy()  # type: ignore[no-any-return]


def _of_error(metric: str) -> tuple[str, str, str]:
    """Metrics that an error has: its mean square, the norm of a patch's errors, and the share of variance explained."""
    return metric, f"{metric}_l2", f"{metric}_r2"


def _rows(to: Estimates, found: dict[str, Local], probed: Probed, where: Groups, probe: str) -> None:
    """Rows of what the probes of each group found."""
    pixels = probed.test.pixels.numpy()
    for metric in found["outlier"]:
        values = {group: of_group[metric] for group, of_group in found.items()}
        to.by_group(metric, values, where, probe=probe)
        if metric.startswith("reconstruction"):
            _, norm, explained = _of_error(metric)
            norms = {group: np.sqrt(errors * pixels.shape[-1]) for group, errors in values.items()}
            to.by_group(norm, norms, where, probe=probe)
            to.explained(explained, values, pixels, where, probe=probe)


# The class of the image.


def _classes(cfg: Config, job: Job, to: Estimates, probed: Probed) -> None:
    """Class of the image from one token of it, by kind of token and draw.

    [CLS], a register, the patch of the largest norm and another one are there in every image. Images without an outlier
    patch, or without a normal one, are left out of these two alone.
    """
    train, test = probed.train, probed.test
    everything = {"train": np.arange(len(train.rows)), "test": np.arange(len(test.rows))}
    both = {"train": np.flatnonzero(train.both), "test": np.flatnonzero(test.both)}
    right: dict[str, list[Floats]] = {}

    def score(group: str, given: NDArray[np.generic], tested: NDArray[np.generic], images: dict, seed: int) -> None:  # type: ignore[type-arg]
        of_train, of_test = images["train"], images["test"]
        predicted = classes(given[of_train], train.labels[of_train], tested[of_test])
        hit = (predicted == test.labels[of_test]).astype(float)
        right.setdefault(group, []).append(hit)
        job.rows.mean("token_class_top1", hit, to.resamples[len(hit)], intervention=BASELINE, group=group, seed=seed)

    apart = len(both["train"]) >= 2 and len(both["test"]) >= 2 and len(set(train.labels[both["train"]])) >= 2
    if not apart:
        reason = f"{len(both['train'])} training and {len(both['test'])} test images have outlier patches and others"
        for group in ("outlier", "normal"):
            job.rows.absent(["token_class_top1"], reason, intervention=BASELINE, group=group)
    for seed in cfg.settings.seeds:
        # One generator for each split, named by it: tokens of a split do not depend on the other.
        draws = [generator(cfg.seed, "one token", cfg.dataset, cfg.model, split, seed) for split in ("train", "test")]
        if seed == cfg.settings.seeds[0]:  # nothing is drawn of these
            score("highest", train.highest(), test.highest(), everything, seed)
            if "cls" in test.special:
                score("cls", train.special["cls"], test.special["cls"], everything, seed)
        score("other", train.other(draws[0]), test.other(draws[1]), everything, seed)
        if "registers" in test.special:
            score("registers", train.register(draws[0]), test.register(draws[1]), everything, seed)
        if apart:
            of_train, of_test = train.outlier_and_normal(draws[0]), test.outlier_and_normal(draws[1])
            for group in of_train:
                score(group, of_train[group], of_test[group], both, seed)
    means = {group: np.mean(of_seeds, axis=0) for group, of_seeds in right.items()}
    for group, mean in means.items():
        job.rows.mean("token_class_top1", mean, to.resamples[len(mean)], intervention=BASELINE, group=group)
        if len(right[group]) > 1:  # of draws, as bach2025 reports it
            deviation = float(np.std([hits.mean() for hits in right[group]]))
            job.rows.add("token_class_top1_sd", deviation, len(mean), intervention=BASELINE, group=group)
    for group, against in (("outlier", "normal"), ("highest", "other")):
        if group in means and against in means:
            to.difference("token_class_top1", means[group] - means[against], group, against)
