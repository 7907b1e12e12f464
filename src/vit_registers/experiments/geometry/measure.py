"""Effective rank of patch features, how far conditions move them and attention, principal components as colours.

The effective rank is exp of the entropy of the normalised singular values of the centred patches (Roy and Vetterli
2007; parodi2026). Texts do not always say whether singular values or eigenvalues are meant, nor whether the patches are
those of one image or of all: each is measured, by name.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from vit_registers.core.numerics.linalg import effective_rank, jensen_shannon, principal_axes, row_cosines, spectrum
from vit_registers.core.stats import Resamples
from vit_registers.data import gallery
from vit_registers.experiments.geometry.params import Config
from vit_registers.experiments.job import Job, patch_norms
from vit_registers.extraction.store import Features
from vit_registers.params.condition import BASELINE

COMPONENTS = 3  # red, green, blue
CHUNK = 100  # images whose patches are held in double precision at once
SCALE = (2.0, 98.0)  # percentiles of a component that are its darkest and its brightest colour
POWERS = {"singular values": 0.5, "eigenvalues": 1.0}  # of eigenvalues, by name of the spectrum
Floats = NDArray[np.float64]


def run(cfg: Config, job: Job) -> None:
    """Fill the rows of every condition, values by image, and colours of the gallery images."""
    manifest, resamples = job.manifest(), Resamples(cfg.seed, cfg.statistics, cfg.dataset)
    conditions = dict(job.conditions(cfg.dataset, cfg.model, cfg.conditions))
    intact = conditions[BASELINE]
    dense = intact.dense_rows
    ids = manifest.table["image_id"].to_numpy()
    chosen = gallery.choose(manifest, dense, cfg.gallery)
    mean, products = moments(intact)
    axes = principal_axes(products, COMPONENTS)
    low, high = np.percentile(_projected(intact, np.arange(len(dense)), mean, axes), SCALE, axis=(0, 1))
    names = ids[dense[chosen]].astype(str)
    job.keep({"images": gallery.pixels(manifest, dense[chosen], intact.index), "image_id": names})
    job.keep(gallery.kept(manifest, dense, chosen, patch_norms(intact, chosen), cfg.gallery))
    for name, cached in conditions.items():
        if cached.status != "complete":
            job.rows.absent(["effective_rank", "pooled_effective_rank"], cached.reason, intervention=name)
            continue
        of_images = np.concatenate([spectrum(patches) for patches in _chunks(cached)])
        mine = products if name == BASELINE else moments(cached)[1]
        of_all = np.maximum(np.linalg.eigvalsh(mine), 0.0)
        for kind, power in POWERS.items():
            ranks = effective_rank(of_images**power)
            job.rows.mean("effective_rank", ranks, resamples[len(ranks)], intervention=name, spectrum=kind)
            if kind == "singular values":  # the paper's; comparisons are of one
                job.by_image("effective_rank", ids[cached.dense_rows], ranks, name)
            whole = float(effective_rank(of_all**power))
            job.rows.add("pooled_effective_rank", whole, len(ranks), intervention=name, spectrum=kind)
        if name != BASELINE:
            cosines = row_cosines(cached.array("patches"), intact.array("patches")).mean(axis=1)
            job.rows.mean("intact_cosine", cosines, resamples[len(cosines)], intervention=name)
            _divergence(job, name, cached, intact, resamples)
        colours = (_projected(cached, chosen, mean, axes) - low) / np.maximum(high - low, 1e-12)
        height, width = cached.layout.grid
        shaped = colours.reshape(len(chosen), height, width, COMPONENTS)
        job.keep({"colours": np.clip(shaped, 0.0, 1.0).astype(np.float16)}, name)


def _divergence(job: Job, name: str, cached: Features, intact: Features, resamples: Resamples) -> None:
    """How far the attention of [CLS] is from that in the model as it is, block by block; of the same tokens alone."""
    if cached.layout != intact.layout or not intact.layout.cls:
        return
    given = [np.asarray(each.array("attention")[:, :, 0], dtype=np.float64) for each in (cached, intact)]
    found = jensen_shannon(*given)  # (m, layers)
    for layer in range(found.shape[1]):
        axes = {"intervention": name, "layer": layer}
        job.rows.mean("attention_divergence", found[:, layer], resamples[len(found)], **axes)


def _chunks(cached: Features) -> Iterator[Floats]:
    """Patches (c, p, d) of some images after another."""
    patches = cached.array("patches")
    for start in range(0, len(patches), CHUNK):
        yield np.asarray(patches[start : start + CHUNK], dtype=np.float64)


def moments(cached: Features) -> tuple[Floats, Floats]:
    """Mean (d,) and covariance (d, d) of all patches of all dense images, divided by their number."""
    count, total, products = 0, np.zeros(1), np.zeros((1, 1))
    for patches in _chunks(cached):
        flat = patches.reshape(-1, patches.shape[2])
        count, total, products = count + len(flat), total + flat.sum(axis=0), products + flat.T @ flat
    mean = total / count
    return mean, products / count - np.outer(mean, mean)


def _projected(cached: Features, images: NDArray[np.int64], mean: Floats, axes: Floats) -> Floats:
    """Patches of some dense images along ``axes`` (d, 3): (n, p, 3)."""
    patches = cached.array("patches")
    parts = [images[start : start + CHUNK] for start in range(0, len(images), CHUNK)]
    return np.concatenate([(np.asarray(patches[part], dtype=np.float64) - mean) @ axes for part in parts])
