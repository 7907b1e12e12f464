"""What [CLS] gets from patches and what from registers, against full outputs (lappe2025).

Two places. *At the attention output* the full output is the sum of its parts: what the pass kept of the model as it is
(reader ClsParts). *After the last block* parts are conditions under which the attention of [CLS] is restricted; the MLP
between sees a sum of parts, so that parts do not add up there.
"""

from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vit_registers.core.numerics.linalg import gram_shares, row_cosines
from vit_registers.core.numerics.similarity import ESTIMATORS, Compared
from vit_registers.core.seeds import generator
from vit_registers.core.stats import Resamples, jackknife
from vit_registers.core.threads import threads
from vit_registers.experiments.decoupling.one_shot import OneShot
from vit_registers.experiments.decoupling.params import Config
from vit_registers.experiments.job import Job
from vit_registers.extraction.store import Features
from vit_registers.forward.readers.parts import PARTS
from vit_registers.params.condition import BASELINE

FEWEST = 8  # test images: the jackknife leaves out one of two groups at least, and four must stay
ALIKE = "[CLS] is the same for all images"
NO_PARTS = "no [CLS], or its attention output is no sum over tokens"
METRICS = ["cka", "part_cosine"]
ATTENTION, STREAM = "attention output", "with the skip"
WHOLES = {ATTENTION: ("patches", "registers", "itself"), STREAM: ("patches", "registers", "itself", "skip")}
CROSS = "cross terms"
Floats = NDArray[np.float64]


@threads()
def run(cfg: Config, job: Job) -> None:
    """Fill the rows of every part against every full output."""
    manifest = job.manifest()
    rows = manifest.rows("test")
    if len(rows) < FEWEST:
        job.rows.absent(METRICS, f"{len(rows)} test images; {FEWEST} are needed", intervention=BASELINE)
        return
    labels = manifest.table["label"].to_numpy()[rows] if manifest.labelled else None
    to = Rows(cfg, job, len(rows), labels)
    conditions = dict(job.conditions(cfg.dataset, cfg.model, [*cfg.full, *cfg.parts]))
    _parts(to, conditions[BASELINE], rows)
    _conditions(to, conditions, rows)


def _parts(to: "Rows", cached: Features, rows: NDArray[np.int64]) -> None:
    """Addends of [CLS] in the model as it is, after the last attention."""
    if "cls_parts" not in cached.index["arrays"]:
        to.job.rows.absent(METRICS, NO_PARTS, intervention=BASELINE, full=ATTENTION)
        return
    held = np.asarray(cached.array("cls_parts")[cached.places(rows)], dtype=np.float64)
    parts = {name: held[:, i] for i, name in enumerate(PARTS) if name != "registers" or cached.layout.registers}
    parts["attention"] = held.sum(axis=1) - parts["skip"]
    for full, names in WHOLES.items():
        addends = {name: parts[name] for name in names if name in parts}
        whole = sum(addends.values(), parts["bias"])
        to.one_shot(whole, intervention=BASELINE, part="all", full=full)
        shown = addends if full == ATTENTION else {**addends, "attention": parts["attention"]}
        for name, part in shown.items():
            to.against(whole, part, intervention=BASELINE, part=name, full=full)
            to.norm(part, whole, intervention=BASELINE, part=name, full=full)
        to.gram(addends, intervention=BASELINE, full=full)


def _conditions(to: "Rows", conditions: dict[str, Features], rows: NDArray[np.int64]) -> None:
    """[CLS] after the last block and the final norm, under restricted attention."""
    features: dict[str, Floats] = {}
    for name, cached in conditions.items():
        if cached.status == "complete" and "cls" in cached.index["arrays"]:
            features[name] = np.asarray(cached.array("cls")[cached.places(rows)], dtype=np.float64)
        elif cached.status != "complete" and name in to.cfg.parts:
            to.job.rows.absent([*METRICS, "one_shot_top1"], cached.reason, intervention=name)
    parts = [name for name in to.cfg.parts if name in features]
    for full in (name for name in to.cfg.full if name in features and parts):
        to.one_shot(features[full], intervention=full, full=full)
        for part in parts:
            to.against(features[full], features[part], intervention=part, full=full)


class Rows:
    """Rows about parts of [CLS] of ``n`` test images, with the classes (n,) of these where they have some."""

    def __init__(self, cfg: Config, job: Job, n: int, labels: NDArray[np.int64] | None) -> None:
        self.cfg, self.job, self.n = cfg, job, n
        self.resampled = Resamples(cfg.seed, cfg.statistics, cfg.dataset)[n]
        self.groups = np.arange(n) % min(cfg.settings.groups, n // 4)
        drawn = generator(cfg.seed, "one shot", cfg.dataset), generator(cfg.seed, "episodes", cfg.dataset)
        self.episodes = OneShot.draw(labels, cfg.settings.episodes, cfg.statistics, *drawn)

    def against(self, whole: Floats, part: Floats, /, **axes: Any) -> None:
        """CKA, cosine and one shot of a part (n, d) against a whole (n, d)."""
        compared = Compared(whole, part)
        alike = [name for name in ESTIMATORS if not np.isfinite(compared.cka(name))]
        for name in alike:
            self.job.rows.absent(["cka"], ALIKE, estimator=name, **axes)
        if not alike:
            intervals = compared.intervals(self.groups, self.cfg.statistics.confidence)
            for name, (low, high) in intervals.items():
                self.job.rows.add("cka", compared.cka(name), self.n, low=low, high=high, estimator=name, **axes)
        self.job.rows.mean("part_cosine", row_cosines(whole, part), self.resampled, **axes)
        self.one_shot(whole, part, **axes)

    def one_shot(self, whole: Floats, part: Floats | None = None, /, **axes: Any) -> None:
        """One-shot classification of a part, or of the whole itself, fitted on the whole."""
        if isinstance(self.episodes, str):
            if part is None:
                self.job.rows.absent(["one_shot_top1"], self.episodes, **axes)
            return
        for metric, (value, low, high) in self.episodes.scores(whole, whole if part is None else part).items():
            self.job.rows.add(metric, value, self.episodes.count, low=low, high=high, **axes)

    def norm(self, part: Floats, whole: Floats, /, **axes: Any) -> None:
        """Length of a part, and over that of the whole."""
        norms = np.linalg.norm(part, axis=1)
        self.job.rows.mean("part_norm", norms, self.resampled, **axes)
        self.job.rows.mean("part_norm_ratio", norms / np.linalg.norm(whole, axis=1), self.resampled, **axes)

    def gram(self, parts: dict[str, Floats], /, **axes: Any) -> None:
        """How much of the whole's Gram matrix is that of each part, and how much the cross terms are (Eq. 5)."""
        shares = gram_shares(np.stack(list(parts.values())))
        without = np.array(
            [
                gram_shares(np.stack([part[self.groups != group] for part in parts.values()]))
                for group in range(self.groups.max() + 1)
            ]
        )
        own, left = np.append(np.diag(shares), shares.sum() - np.trace(shares)), np.diagonal(without, axis1=1, axis2=2)
        left = np.column_stack([left, without.sum(axis=(1, 2)) - left.sum(axis=1)])
        for i, name in enumerate(chain(parts, [CROSS])):
            low, high = jackknife(float(own[i]), left[:, i], self.cfg.statistics.confidence)
            self.job.rows.add("gram_share", float(own[i]), self.n, low=low, high=high, part=name, **axes)
