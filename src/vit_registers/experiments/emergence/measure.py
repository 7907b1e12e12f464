"""What was monitored during a training as rows: loss, norms and attention by epoch, and whether artifacts arose."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from vit_registers.core.doors import read_arrays, read_json, read_table
from vit_registers.core.stats import bootstrap, wilson
from vit_registers.experiments.emergence.params import Config
from vit_registers.experiments.job import Job

NORMS = ("norm_median", "norm_p99", "norm_max", "share_above")  # columns of norms.csv
MEANS = ("norm_max", "share_above")  # those of them that are means over images
COSINES = ("register_cosine", "cls_register_cosine")
MAPS = ("images", "maps", "focus")  # arrays of attention.npz that figures draw, epoch first


def run(cfg: Config, job: Job) -> None:
    """Fill rows by epoch and over the whole training from what training left, and keep maps (training.monitor)."""
    again = "train the model again"
    metadata = read_json(job.model / "model.json", "training", "parameters", damaged=again, missing=again)
    norms = read_table(job.model / "norms.csv", "epoch", "layer", *NORMS, damaged=again, missing=again)
    losses = read_table(job.model / "training.csv", "loss", damaged=again, missing=again)["loss"].to_numpy()
    attention = read_arrays(job.model / "attention.npz", damaged=again, missing=again)
    training = metadata["training"]
    images, dataset = training["monitored"], training["dataset"]
    _norms(cfg, job, norms, attention, dataset)
    _losses(job, losses.reshape(int(norms["epoch"].max()), -1), dataset)
    _cosines(cfg, job, attention, int(norms["layer"].max()), dataset)
    _peaks(job, norms, images, dataset)
    job.rows.add("training_parameters", metadata["parameters"], images, dataset=dataset)
    job.rows.add("training_epochs", len(set(norms["epoch"])), images, dataset=dataset)
    _top1(cfg, job, training)
    job.keep({name: attention[name] for name in MAPS})


def _norms(cfg: Config, job: Job, norms: pd.DataFrame, kept: Mapping[str, np.ndarray], dataset: str) -> None:
    """Norms of every epoch and block; those that are means over images with the interval of what images gave."""
    images = kept["norm_max"].shape[2]
    resampled = bootstrap(cfg.seed, cfg.statistics, dataset, images)
    bounds = {name: [resampled.intervals(of_epoch.T) for of_epoch in kept[name]] for name in MEANS}
    for name in NORMS:
        for epoch, layer, value in zip(norms["epoch"], norms["layer"], norms[name], strict=True):
            axes: dict[str, Any] = {"dataset": dataset, "epoch": int(epoch), "layer": int(layer)}
            if name in MEANS:
                low, high = (float(edges[int(layer)]) for edges in bounds[name][int(epoch) - 1])
                axes |= {"low": low, "high": high}
            job.rows.add(f"training_{name}", value, images, **axes)


def _losses(job: Job, losses: np.ndarray, dataset: str) -> None:
    """Mean loss of every epoch; ``losses`` (epochs, steps)."""
    for epoch, of_epoch in enumerate(losses, start=1):
        job.rows.add("training_loss", float(of_epoch.mean()), len(of_epoch), dataset=dataset, epoch=epoch)


def _cosines(cfg: Config, job: Job, attention: Mapping[str, np.ndarray], last: int, dataset: str) -> None:
    """How similar the maps of registers are, and to that of [CLS], after every epoch at the ``last`` block (bach2025).

    The mean over the monitored images of what token statistics measure of the finished model. Models with fewer than
    two registers have no pairs of them.
    """
    for name in (name for name in COSINES if name in attention):
        resampled = bootstrap(cfg.seed, cfg.statistics, dataset, attention[name].shape[1])
        for epoch, values in enumerate(attention[name].astype(float), start=1):  # (n,)
            job.rows.mean(f"training_{name}", values, resampled, dataset=dataset, epoch=epoch, layer=last)


def _peaks(job: Job, norms: pd.DataFrame, images: int, dataset: str) -> None:
    """Whether artifacts arose at any time: where most patches stood above three medians, and the largest norm.

    The first epoch and the first block of several that share the most. The last epoch is taken over all blocks, as
    artifacts may stand inside a model and not at its end (DINOv2 B and L).
    """
    norms = norms.assign(norm_ratio=norms["norm_max"] / norms["norm_median"])
    last = norms[norms["epoch"] == norms["epoch"].max()]
    job.rows.add("training_share_above_last", last["share_above"].max(), images, dataset=dataset)
    for name in ("share_above", "norm_ratio"):
        place = int(norms[name].to_numpy().argmax())  # rows are sorted by epoch, then block
        epoch, layer, most = (norms[column].to_numpy()[place] for column in ("epoch", "layer", name))
        job.rows.add(f"training_{name}_peak", float(most), images, dataset=dataset, epoch=int(epoch), layer=int(layer))


def _top1(cfg: Config, job: Job, training: Mapping[str, Any]) -> None:
    """Accuracy of the head that was trained, where training had labels."""
    share, n = training["test_top1"], training["tested"]
    if share is None:
        return
    low, high = wilson(round(share * n), n, cfg.statistics.confidence)
    job.rows.add("training_top1", share, n, low=low, high=high, dataset=training["dataset"])
