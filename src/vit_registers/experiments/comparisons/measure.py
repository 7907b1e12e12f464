"""The step that compares conditions image by image: every difference with an interval and a paired test."""

from pathlib import Path

import numpy as np
import pandas as pd

from vit_registers.core import table as metrics
from vit_registers.core.errors import InputError
from vit_registers.core.seeds import generator
from vit_registers.core.stats import Bootstrap, mcnemar_exact, sign_flip
from vit_registers.core.table import Metric
from vit_registers.pipeline.configs import CompareStep

SOURCES = ("probe", "lost", "dense")
UNITS = {"squared_error": "squared depth"}  # of what an image gives; else a share


def run(cfg: CompareStep, readouts: Path, out: Path) -> None:
    """Write a row for each comparison, readout and metric that both sides have, from <readout>/<data set>/*.parquet."""
    sides = {side.split("/")[0] for comparison in cfg.comparisons for side in (comparison.a, comparison.b)}
    tables = {model: _values(cfg, readouts, model) for model in sorted(sides)}
    rows: list[Metric] = []
    resamples: dict[int, Bootstrap] = {}
    for comparison in cfg.comparisons:
        a, b = (_side(tables, side) for side in (comparison.a, comparison.b))
        measured = sorted(set(a) & set(b))
        if not measured:
            missing = [side for side, found in ((comparison.a, a), (comparison.b, b)) if not found]
            rows.append(_absent(cfg, comparison.a, comparison.b, missing))
        for readout, metric in measured:
            left, right = a[readout, metric], b[readout, metric]
            if not left.index.equals(right.index):
                raise InputError(f"{comparison.a} and {comparison.b}: {readout} was measured on different images")
            n = len(left)
            if n not in resamples:
                draw = generator(cfg.seed, "bootstrap", cfg.dataset, n)
                resamples[n] = Bootstrap(n, cfg.statistics.resamples, cfg.statistics.confidence, draw)
            rows.append(_difference(cfg, comparison.a, comparison.b, readout, metric, left, right, resamples[n]))
    metrics.write(metrics.frame(rows), out)


def _values(cfg: CompareStep, readouts: Path, model: str) -> pd.DataFrame:
    """What every image gave in each readout of a model."""
    paths = [readouts / name / cfg.dataset / f"{model}.images.parquet" for name in SOURCES]
    if model in cfg.with_text:
        paths.append(readouts / "probe" / cfg.dataset / f"{model}.zero_shot.images.parquet")
    for path in paths:
        if not path.is_file():
            raise InputError(f"{path}: no such file; run the readouts of '{model}' on '{cfg.dataset}' first")
    return pd.concat([pd.read_parquet(path) for path in paths])


def _side(tables: dict[str, pd.DataFrame], side: str) -> dict[tuple[str, str], pd.DataFrame]:
    """(readout, metric) -> images x seeds of one condition, images sorted by id."""
    model, condition = side.split("/")
    mine = tables[model][tables[model]["intervention"] == condition]
    return {
        (str(readout), str(metric)): group.assign(seed=group["seed"].fillna(-1)).pivot_table(
            index="image_id", columns="seed", values="value"
        )
        for (readout, metric), group in mine.groupby(["readout", "metric"])
    }


def _difference(
    cfg: CompareStep,
    a: str,
    b: str,
    readout: str,
    metric: str,
    left: pd.DataFrame,
    right: pd.DataFrame,
    bootstrap: Bootstrap,
) -> Metric:
    """Exact McNemar where an image has one 0/1 outcome; sign flips where it has a number, or several (their mean)."""
    difference = (left.mean(axis=1) - right.mean(axis=1)).to_numpy()
    single = left.shape[1] == 1 and right.shape[1] == 1
    outcomes = single and bool(left.isin([0.0, 1.0]).all(axis=None) and right.isin([0.0, 1.0]).all(axis=None))
    if outcomes:
        p = mcnemar_exact(left.to_numpy()[:, 0] > 0.5, right.to_numpy()[:, 0] > 0.5)
    else:
        draw = generator(cfg.seed, "sign flips", cfg.dataset, a, b, readout, metric)
        p = sign_flip(difference, cfg.statistics.resamples, draw)
    low, high = bootstrap.interval(difference)
    model, condition = a.split("/")
    return Metric(
        model,
        cfg.dataset,
        condition,
        readout,
        f"{metric}_difference",
        float(np.round(difference.mean(), 12)) + 0.0,  # sums of opposite signs leave -1e-19
        UNITS.get(metric, "fraction"),
        len(difference),
        low=low,
        high=high,
        reference=b,
        p=p,
        note="exact McNemar" if outcomes else "sign flips" if single else "sign flips of the mean over seeds",
    )


def _absent(cfg: CompareStep, a: str, b: str, missing: list[str]) -> Metric:
    """A comparison of which one side has no values; why it has none is noted in that condition's own rows."""
    model, condition = a.split("/")
    note = f"not measured: {' and '.join(missing)}"
    return Metric(model, cfg.dataset, condition, "none", "difference", None, "", 0, reference=b, note=note)
