"""How many heads have a sink, which token it is, and whether it writes nothing or the same to all (fesser2026)."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vit_registers.core.stats import Bootstrap, Resamples
from vit_registers.experiments.attention_sinks.params import AttentionSinks, Config
from vit_registers.experiments.job import Job
from vit_registers.extraction.store import Features
from vit_registers.registers.sinks import KINDS, Kinds, Masks, artifacts, kinds_of

Floats = NDArray[np.float64]
EVERY, NO_OP, BROADCAST, NEITHER = "all", "no-op", "broadcast", "neither"


def run(cfg: Config, job: Job) -> None:
    """Fill the rows of every condition, block by block."""
    resamples = Resamples(cfg.seed, cfg.statistics, cfg.dataset)
    detected = job.found(cfg.dataset, cfg.model)
    for condition, cached in job.conditions(cfg.dataset, cfg.model, cfg.conditions):
        if cached.status != "complete":
            job.rows.absent(["sink_share", "sink_layer"], cached.reason, intervention=condition)
            continue
        sinks = Sinks.read(cached, detected)
        _rows(job, sinks, resamples[len(sinks.shares)], cfg.settings, condition)


@dataclass(frozen=True)
class Sinks:
    """The most attended tokens of every block, in m images: of the mean over heads (m, L), or of each head (m, L, h).

    ``shares``, ``medians``: attention that it and the median token get (m, L); ``kinds``: which token it is (m, L), and
    ``kinds_by_head`` of each head (m, L, h); ``queries``: share of the queries that give it half of their attention;
    ``ratios`` and ``ranks``: of what it writes (m, L, h).
    """

    shares: Floats
    medians: Floats
    kinds: Kinds
    kinds_by_head: Kinds
    queries: Floats
    ratios: Floats
    ranks: Floats

    @classmethod
    def read(cls, cached: Features, detected: dict[str, Any]) -> "Sinks":
        """From what a pass left; ``detected``: thresholds of artifacts, where detection found outliers."""
        found = {name: np.asarray(cached.array(f"sink_{name}"), dtype=float) for name in _ARRAYS}
        shares, tokens = found["shares"], found["tokens"].astype(np.int64)
        norms = np.asarray(cached.array("norms"))[: len(shares)]
        limits = detected["threshold_by_layer"] if "images_ranked" in detected else None  # no outliers without these
        kinds = kinds_of(tokens, cached.layout, artifacts(norms, cached.layout, limits))
        written = found["medians"], kinds[..., 0], kinds[..., 1:], found["queries"], found["ratios"], found["ranks"]
        return cls(shares[..., 0], *written)

    def events(self, settings: AttentionSinks) -> dict[str, Masks]:
        """Where there is a sink event (m, L, h): all of them, and by what the sink writes."""
        every = self.queries.astype(np.float32) >= np.float32(settings.queries)  # as the pass compared
        no_op = every & (self.ratios <= settings.no_op)
        broadcast = every & (self.ratios >= settings.broadcast) & (self.ranks <= settings.stable_rank)
        return {EVERY: every, NO_OP: no_op, BROADCAST: broadcast, NEITHER: every & ~no_op & ~broadcast}


_ARRAYS = ("shares", "tokens", "medians", "queries", "ratios", "ranks")


def _over_median(job: Job, sinks: Sinks, resampled: Bootstrap, axes: dict[str, Any]) -> None:
    """A ratio of two means: that of single images has no mean, as the median token may get next to nothing."""
    layer = axes["layer"]
    both = np.stack([sinks.shares[:, layer], sinks.medians[:, layer]], axis=1)
    (share, median), resamples = both.mean(axis=0), resampled.means(both)
    low, high = resampled.percentiles(resamples[:, 0] / resamples[:, 1])
    job.rows.add("sink_over_median", float(share / median), len(both), low=low, high=high, **axes)


def _rows(job: Job, sinks: Sinks, resampled: Bootstrap, settings: AttentionSinks, condition: str) -> None:
    """Numbers of one condition, by block."""
    events = sinks.events(settings)
    linear = np.asarray(np.isfinite(sinks.ratios).all(axis=(0, 2)))
    for layer in range(sinks.shares.shape[1]):
        axes: dict[str, Any] = {"intervention": condition, "layer": layer}

        def mean(metric: str, values: NDArray[Any], axes: dict[str, Any] = axes, **more: str) -> None:
            job.rows.mean(metric, values, resampled, **axes, **more)

        mean("sink_share", sinks.shares[:, layer])
        _over_median(job, sinks, resampled, axes)
        mean("sink_events", events[EVERY][:, layer].mean(axis=1), sink_class=EVERY)
        for kind, name in enumerate(KINDS):
            mean("sink_token", sinks.kinds[:, layer] == kind, group=name)
            of_kind = events[EVERY][:, layer] & (sinks.kinds_by_head[:, layer] == kind)
            mean("sink_events", of_kind.mean(axis=1), sink_class=EVERY, group=name)
        if linear[layer]:  # else what a token writes is not defined
            mean("sink_ratio", sinks.ratios[:, layer].mean(axis=1))
            for name in (NO_OP, BROADCAST, NEITHER):
                mean("sink_events", events[name][:, layer].mean(axis=1), sink_class=name)
    strongest = int(sinks.shares.mean(axis=0).argmax())
    job.rows.add("sink_layer", strongest, len(sinks.shares), intervention=condition)
