"""Conditions compared image by image: every difference with an interval and a paired test."""

from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from vit_registers.core.errors import InputError
from vit_registers.core.seeds import generator
from vit_registers.core.stats import Bootstrap, bootstrap, mcnemar_exact, sign_flip
from vit_registers.experiments.comparisons.params import Condition, Config, Pair
from vit_registers.experiments.job import Job


class Measured(NamedTuple):
    """What has values by image: a metric, of a feature and by a head where it goes by these."""

    metric: str
    feature: str | None
    head: str | None

    @property
    def test(self) -> str:
        """Name of its sign-flip test: ``probe[cls]``, ``knn[cls]``, ``dense[refit]``, ``lost``.

        It decides the draws: another name changes the last digits of every p-value.
        """
        if self.feature:
            heads = {"refitted": "probe", "frozen": "kept"}
            return f"{heads.get(self.head or '', self.head)}[{self.feature}]"
        heads = {"refitted": "dense[refit]", "frozen": "dense[kept]"}
        return heads.get(self.head or "", self.head or "")


ByImage = dict[Measured, pd.DataFrame]  # images x seeds, images sorted by id


def run(cfg: Config, job: Job) -> None:
    """Fill a row for each comparison and everything that both sides have values by image of."""
    models = sorted({side.model for pair in cfg.pairs for side in (pair.a, pair.b)})
    tables = {model: _values(cfg, job, model) for model in models}
    resamples: dict[int, Bootstrap] = {}
    for pair in cfg.pairs:
        a, b = _of(tables, pair.a), _of(tables, pair.b)
        if not set(a) & set(b):
            missing = [str(side) for side, found in ((pair.a, a), (pair.b, b)) if not found]
            reason = f"not measured: {' and '.join(missing)}" if missing else "nothing was measured of both"
            job.rows.absent(["difference"], reason, **_axes(pair))
        for measured in (each for each in a if each in b):
            left, right = a[measured], b[measured]
            if not left.index.equals(right.index):
                raise InputError(f"{pair.a} and {pair.b}: {measured.metric} was measured on different images")
            n = len(left)
            if n not in resamples:
                resamples[n] = bootstrap(cfg.seed, cfg.statistics, cfg.dataset, n)
            _difference(cfg, job, pair, measured, left, right, resamples[n])


def _values(cfg: Config, job: Job, model: str) -> pd.DataFrame:
    """What every image gave in each measure of a model."""
    found = []
    for measure in (name for name, models in cfg.sources.items() if model in models):
        path = job.measures / measure / cfg.dataset / model / "images.parquet"
        if not path.is_file():
            command = measure.replace("_", "-")
            command += f" --dataset {cfg.dataset} --model {model}"
            raise InputError(f"{path}: no such file; run `vit-registers {command}` first")
        found.append(pd.read_parquet(path))
    found = [table for table in found if len(table)]
    return pd.concat(found) if found else pd.DataFrame(columns=["intervention"])


def _of(tables: dict[str, pd.DataFrame], condition: Condition) -> ByImage:
    """All that was measured of one condition, in a fixed order."""
    mine = tables[condition.model]
    mine = mine[mine["intervention"] == condition.intervention]
    if mine.empty:
        return {}
    found: ByImage = {}
    for key, group in mine.groupby(["metric", "feature", "head"], dropna=False):
        metric, feature, head = (part if isinstance(part, str) else None for part in key)  # type: ignore[attr-defined]
        assert metric is not None
        seeds = group.assign(seed=group["seed"].fillna(-1))
        found[Measured(metric, feature, head)] = seeds.pivot_table(index="image_id", columns="seed", values="value")
    return found


def _axes(pair: Pair) -> dict[str, Any]:
    """Where a difference stands in the table."""
    return {
        "model": pair.a.model,
        "intervention": pair.a.intervention,
        "reference_model": pair.b.model,
        "reference_intervention": pair.b.intervention,
    }


def _difference(
    cfg: Config,
    job: Job,
    pair: Pair,
    measured: Measured,
    left: pd.DataFrame,
    right: pd.DataFrame,
    resampled: Bootstrap,
) -> None:
    """Exact McNemar where an image has one 0/1 outcome; sign flips where it has a number, or several (their mean)."""
    difference = (left.mean(axis=1) - right.mean(axis=1)).to_numpy()
    single = left.shape[1] == 1 and right.shape[1] == 1
    outcomes = single and bool(left.isin([0.0, 1.0]).all(axis=None) and right.isin([0.0, 1.0]).all(axis=None))
    if outcomes:
        p = mcnemar_exact(left.to_numpy()[:, 0] > 0.5, right.to_numpy()[:, 0] > 0.5)
    else:
        draw = generator(cfg.seed, "sign flips", cfg.dataset, str(pair.a), str(pair.b), measured.test, measured.metric)
        p = sign_flip(difference, cfg.statistics.resamples, draw)
    low, high = resampled.interval(difference)
    job.rows.add(
        measured.metric,
        float(np.round(difference.mean(), 12)) + 0.0,  # sums of opposite signs leave -1e-19
        len(difference),
        low=low,
        high=high,
        p=p,
        note="exact McNemar" if outcomes else "sign flips" if single else "sign flips of the mean over seeds",
        feature=measured.feature,
        head=measured.head,
        **_axes(pair),
    )
