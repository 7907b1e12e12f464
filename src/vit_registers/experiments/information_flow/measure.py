"""What [CLS] and each register hold and get, block by block (parodi2026): attention, class, and each other.

Attention is that of the dense images, whose tokens are kept; probes and retrieval are of all test images. A token's
content arrives at the first block whose interval is above chance, attention at the first above what every token would
get if attention were uniform; from then on it may fall again.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from vit_registers.core.numerics.linalg import row_cosines
from vit_registers.core.numerics.logistic import classes
from vit_registers.core.numerics.neighbours import directions, nearest_other
from vit_registers.core.stats import Bootstrap, Resamples
from vit_registers.core.threads import threads
from vit_registers.data.manifest import Manifest
from vit_registers.experiments.information_flow import nearest
from vit_registers.experiments.information_flow.params import Config
from vit_registers.experiments.job import Job
from vit_registers.extraction.store import Features
from vit_registers.models.layout import TokenLayout
from vit_registers.params.condition import BASELINE
from vit_registers.params.passes import TRAIN

NO_SPECIALS = "the model has neither [CLS] nor registers"
NO_CLASSES = "images of the data set have no classes, or none are for training"
NEVER = "at no block"
Floats = NDArray[np.float64]
Axes = dict[str, Any]


@threads()
def run(cfg: Config, job: Job) -> None:
    """Fill the rows of every token at every block; keep the nearest patches of every register."""
    ((_, cached),) = job.conditions(cfg.dataset, cfg.model, [BASELINE])
    manifest, resamples = job.manifest(), Resamples(cfg.seed, cfg.statistics, cfg.dataset)
    if not cached.layout.prefix:
        job.rows.absent(["token_probe", "attention_to_register"], NO_SPECIALS, intervention=BASELINE)
        return
    _content(cfg, job, cached, manifest, resamples)
    if not cached.layout.registers:
        return
    _attention(job, cached, resamples)
    _register_cosines(job, cached, manifest.rows("test"), resamples)
    nearest.measure(cfg, job, cached, manifest, resamples)


def tokens(layout: TokenLayout) -> list[Axes]:
    """Axes of [CLS], where there is one, and of the registers, in the order of the sequence."""
    registers: list[Axes] = [{"group": "registers", "item": i + 1} for i in range(layout.registers)]
    return [{"group": "cls"}] * layout.cls + registers


def _content(cfg: Config, job: Job, cached: Features, manifest: Manifest, resamples: Resamples) -> None:
    """Whether a token tells the class of its image: by a probe, and by the nearest other image."""
    train, test = manifest.rows(TRAIN), manifest.rows("test")
    if not manifest.labelled or not len(train):
        job.rows.absent(["token_probe", "token_recall_at_1"], NO_CLASSES, intervention=BASELINE)
        return
    count = min(cfg.settings.training_images, len(train))
    train = train[np.arange(count) * len(train) // count]
    labels = manifest.table["label"].to_numpy()
    held, resampled = cached.array("specials"), resamples[len(test)]
    at_train, at_test = cached.places(train), cached.places(test)
    chance = float(np.bincount(labels[test]).max() / len(test))
    job.rows.add("token_probe_chance", chance, len(test), intervention=BASELINE)
    for token, axes in enumerate(tokens(cached.layout)):
        above = []
        for layer in range(held.shape[1]):
            given, tested = (np.asarray(held[at, layer, token]) for at in (at_train, at_test))
            right = classes(given, labels[train], tested) == labels[test]
            where = {**axes, "layer": layer, "intervention": BASELINE}
            job.rows.mean("token_probe", right, resampled, **where)
            above.append(resampled.interval(right)[0] > chance)
            found = nearest_other(each := directions(tested), each)
            job.rows.mean("token_recall_at_1", labels[test][found] == labels[test], resampled, **where)
        _onset(job, "content_onset", above, len(test), **axes)


def _onset(job: Job, metric: str, above: list[bool], n: int, **axes: Any) -> None:
    """The first block at which something is there."""
    first = next((layer for layer, there in enumerate(above) if there), None)
    note = NEVER if first is None else None
    job.rows.add(metric, None if first is None else float(first), n, note=note, intervention=BASELINE, **axes)


def _attention(job: Job, cached: Features, resamples: Resamples) -> None:
    """What [CLS] and the patches give to each register, mean over heads."""
    layout = cached.layout
    of_patches = np.asarray(cached.array("patch_attention"), dtype=np.float64)  # (m, layers, special tokens)
    given = {"patches": of_patches[:, :, layout.register_slice]}
    if layout.cls:
        given["cls"] = np.asarray(cached.array("attention")[:, :, 0, layout.register_slice], dtype=np.float64)
    resampled, uniform = resamples[len(of_patches)], 1.0 / layout.length
    job.rows.add("attention_to_one_uniform", uniform, len(of_patches), intervention=BASELINE)
    for group, shares in given.items():
        low, high = resampled.intervals(shares)
        for register in range(layout.registers):
            item: Axes = {"group": group, "item": register + 1}
            for layer in range(shares.shape[1]):
                value, ends = float(shares[:, layer, register].mean()), (low[layer, register], high[layer, register])
                number: Axes = {"low": float(ends[0]), "high": float(ends[1]), "intervention": BASELINE}
                job.rows.add("attention_to_register", value, len(shares), layer=layer, **number, **item)
            above = [bool(end > uniform) for end in low[:, register]]
            _onset(job, "attention_onset", above, len(shares), **item)


def _register_cosines(job: Job, cached: Features, rows: NDArray[np.int64], resamples: Resamples) -> None:
    """Cosine of registers of one image after the final norm, pair by pair, and of their means over images."""
    held = np.asarray(cached.array("registers")[cached.places(rows)], dtype=np.float64)
    resampled: Bootstrap = resamples[len(rows)]
    means = held.mean(axis=0)
    for one in range(held.shape[1]):
        for other in range(one + 1, held.shape[1]):
            axes: Axes = {"intervention": BASELINE, "item": one + 1, "other_item": other + 1}
            job.rows.mean("register_token_cosine", row_cosines(held[:, one], held[:, other]), resampled, **axes)
            of_means = float(row_cosines(means[one], means[other]))
            job.rows.add("mean_register_cosine", of_means, len(rows), **axes)
