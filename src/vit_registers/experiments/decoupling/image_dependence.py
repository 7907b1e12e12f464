"""How much [CLS] and registers depend on the image, and what [CLS] attends to, image by image (lappe2025).

Of models as they are. A register that is nearly the same for all images has a pairwise cosine near one; if a few large
dimensions make it so, the norm in front of the last attention takes these away, and so does taking the mean off.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from vit_registers.core.numerics.linalg import row_cosines
from vit_registers.core.stats import Resamples, jackknife
from vit_registers.core.threads import threads
from vit_registers.experiments.decoupling.params import ImagesConfig
from vit_registers.experiments.job import Job
from vit_registers.extraction.store import Features
from vit_registers.params.condition import BASELINE

FEWEST = 8  # as many images as the jackknife takes
RAW, NORMED, CENTRED = "raw", "normed", "centred"
LAST = -1
Floats = NDArray[np.float64]


@threads()
def run(cfg: ImagesConfig, job: Job) -> None:
    """Fill the rows of [CLS] and registers; keep shares of attention by image and the largest dimensions."""
    ((_, cached),) = job.conditions(cfg.dataset, cfg.model, [BASELINE])
    resamples = Resamples(cfg.seed, cfg.statistics, cfg.dataset)
    layout = cached.layout
    if layout.cls and layout.registers:
        _attention(job, cached, resamples)
    rows = job.manifest().rows("test")
    if "specials_normed" not in cached.index["arrays"] or len(rows) < FEWEST:
        reason = f"a model of one block, or {len(rows)} test images; {FEWEST} are needed"
        job.rows.absent(["pairwise_cosine", "cls_cosine_to_last"], reason, intervention=BASELINE)
        return
    at = cached.places(rows)
    specials = np.asarray(cached.array("specials")[at], dtype=np.float64)  # (n, layers, special tokens, d)
    normed = np.asarray(cached.array("specials_normed")[at], dtype=np.float64)
    if layout.cls:
        for layer in range(specials.shape[1]):
            cosines = row_cosines(specials[:, layer, 0], specials[:, LAST, 0])
            job.rows.mean("cls_cosine_to_last", cosines, resamples[len(rows)], intervention=BASELINE, layer=layer)
    groups = np.arange(len(rows)) % min(cfg.settings.groups, len(rows) // 4)
    entering = specials[:, LAST - 1]
    for token in range(layout.prefix):
        axes = {"group": "cls"} if token < layout.cls else {"group": "registers", "item": token - layout.cls + 1}
        raw = entering[:, token]
        states = {RAW: raw, NORMED: normed[:, token], CENTRED: raw - raw.mean(axis=0)}
        for state, values in states.items():
            _pairwise(cfg, job, values, groups, intervention=BASELINE, state=state, **axes)
        largest = _largest(raw, cfg.settings.largest_dimensions)
        for state in (RAW, NORMED):
            squares = np.square(states[state])
            share = squares[:, largest].sum(axis=1) / squares.sum(axis=1)
            job.rows.mean("largest_dimensions", share, resamples[len(rows)], intervention=BASELINE, state=state, **axes)
    if layout.registers:
        _highest(cfg, job, cached, entering[:, layout.register_slice], normed[:, layout.register_slice], resamples)


def _attention(job: Job, cached: Features, resamples: Resamples) -> None:
    """Of what [CLS] gives to registers and patches at the last block, the share of registers, image by image.

    What [CLS] gives to itself is left out, so that both add up to 1.
    """
    layout = cached.layout
    given = np.asarray(cached.array("attention")[:, LAST, 0], dtype=np.float64)
    registers, patches = given[:, layout.register_slice].sum(axis=1), given[:, layout.patch_slice].sum(axis=1)
    share = registers / (registers + patches)
    resampled, counts = resamples[len(share)], layout.registers + layout.patches
    job.rows.mean("register_share", share, resampled, intervention=BASELINE)
    job.rows.add("register_share_sd", float(share.std(ddof=1)), len(share), intervention=BASELINE)
    job.rows.add("register_share_uniform", layout.registers / counts, len(share), intervention=BASELINE)
    job.keep({"register_share": share.astype(np.float32)}, BASELINE)


def _pairwise(cfg: ImagesConfig, job: Job, values: Floats, groups: NDArray[np.int64], **axes: Any) -> None:
    """Mean cosine of the token (n, d) of one image to that of another, with its interval."""
    unit = values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-12)
    n, whole = len(unit), unit.sum(axis=0)
    without = []
    for group in range(groups.max() + 1):
        left = groups != group
        without.append(_of_sum(whole - unit[~left].sum(axis=0), int(left.sum())))
    low, high = jackknife(_of_sum(whole, n), np.array(without), cfg.statistics.confidence)
    job.rows.add("pairwise_cosine", _of_sum(whole, n), n, low=low, high=high, **axes)


def _of_sum(whole: Floats, n: int) -> float:
    """Mean cosine of all pairs of ``n`` unit vectors from their sum."""
    return float((whole @ whole - n) / (n * (n - 1)))


def _largest(values: Floats, count: int) -> NDArray[np.int64]:
    """The ``count`` dimensions of tokens (n, d) whose mean is farthest from zero, the farthest first."""
    return np.argsort(-np.abs(values.mean(axis=0)), kind="stable")[:count]


def _highest(
    cfg: ImagesConfig, job: Job, cached: Features, registers: Floats, normed: Floats, resamples: Resamples
) -> None:
    """Which register is the longest in front of the last block, how often, and by how much longer than other tokens.

    ``registers`` and ``normed``: (n, registers, d) of all test images; its ratio is that of the dense images, of which
    the norms of all tokens are kept.
    """
    longest = np.linalg.norm(registers, axis=2).argmax(axis=1)
    for register in range(registers.shape[1]):
        which = {"group": "registers", "item": register + 1}
        is_longest = longest == register
        job.rows.mean("longest_register", is_longest, resamples[len(longest)], intervention=BASELINE, **which)
    top = int(np.bincount(longest, minlength=registers.shape[1]).argmax())
    norms = np.asarray(cached.array("norms")[:, LAST - 1], dtype=np.float64)
    place = cached.layout.register_slice.start + top
    ratio = norms[:, place] / np.delete(norms, place, axis=1).mean(axis=1)
    axes = {"group": "registers", "item": top + 1}
    job.rows.mean("longest_register_ratio", ratio, resamples[len(ratio)], intervention=BASELINE, **axes)
    largest = _largest(registers[:, top], cfg.settings.largest_dimensions)
    means = {state: values[:, top].mean(axis=0)[largest] for state, values in ((RAW, registers), (NORMED, normed))}
    job.keep({f"largest_{state}": mean.astype(np.float32) for state, mean in means.items()}, BASELINE)
    job.keep({"longest_register": np.array([top + 1])}, BASELINE)
