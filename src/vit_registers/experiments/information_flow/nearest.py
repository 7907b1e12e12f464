"""Patches that are nearest to a register, over many images (parodi2026)."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vit_registers.core.numerics.neighbours import directions
from vit_registers.core.stats import Resamples
from vit_registers.data import gallery
from vit_registers.data.manifest import Manifest
from vit_registers.experiments.information_flow.params import Config
from vit_registers.experiments.job import Job
from vit_registers.extraction.store import Features
from vit_registers.params.condition import BASELINE

Places = NDArray[np.int64]


def measure(cfg: Config, job: Job, cached: Features, manifest: Manifest, resamples: Resamples) -> None:
    """Whether the patch nearest to a register is one of its own image; keep the patches nearest to its mean.

    All after the final norm, by cosine; of the patches kept at most one is of an image. If a register knew nothing of
    its image, the nearest patch would be one of it one time in the number of images.
    """
    rows = cached.dense_rows[: cfg.settings.nearest_images]
    patches = np.asarray(cached.array("patches")[: len(rows)])
    images, count = patches.shape[:2]
    flat = directions(patches.reshape(images * count, -1))
    registers = np.asarray(cached.array("registers")[cached.places(rows)])
    job.rows.add("nearest_patch_own_chance", 1.0 / images, images, intervention=BASELINE)
    found = []
    for register in range(registers.shape[1]):
        own = nearest_patches(directions(registers[:, register]), flat, 1)[:, 0] // count == np.arange(images)
        axes = {"intervention": BASELINE, "group": "registers", "item": register + 1}
        job.rows.mean("nearest_patch_own", own, resamples[images], **axes)
        mean = directions(registers[:, register].mean(axis=0, keepdims=True))
        found.append(one_of_an_image(mean, flat, count, cfg.settings.nearest))
    _keep(job, cached, manifest, rows, np.stack(found), count)


def nearest_patches(queries: Tensor, patches: Tensor, count: int) -> Places:
    """Places (q, count) of the patches (n, d) with the largest cosine to each query (q, d), the nearest first.

    Both are directions.
    """
    parts = [torch.topk(part @ patches.T, count, dim=1).indices for part in queries.split(64)]
    return np.asarray(torch.cat(parts).numpy())


def one_of_an_image(query: Tensor, patches: Tensor, count: int, wanted: int) -> Places:
    """Places (wanted,) of the patches (n, d) nearest to a query (1, d), the nearest of each image alone.

    ``count``: patches of an image; images follow one another.
    """
    best = (patches @ query[0]).unflatten(0, (-1, count)).max(dim=1)
    images = torch.topk(best.values, min(wanted, len(best.values))).indices
    return np.asarray((images * count + best.indices[images]).numpy())


def _keep(job: Job, cached: Features, manifest: Manifest, rows: Places, found: Places, count: int) -> None:
    """Pictures (registers, k, h, w, 3), ids, and the cells (registers, k, 2) of the nearest patches in the grid."""
    images, cells = np.divmod(found, count)
    pictures = gallery.pixels(manifest, rows[images.ravel()], cached.index)
    ids = manifest.table["image_id"].to_numpy()[rows[images]].astype(str)
    at = np.stack(np.divmod(cells, cached.layout.grid[1]), axis=-1)
    shaped = pictures.reshape(*found.shape, *pictures.shape[1:])
    job.keep({"nearest_pictures": shaped, "nearest_ids": ids, "nearest_cells": at}, BASELINE)
    job.keep({"grid": np.array(cached.layout.grid)}, BASELINE)
