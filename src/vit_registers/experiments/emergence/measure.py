"""The step that puts what was monitored during a training into the tidy table: loss, patch norms and attention by
epoch, and whether artifacts arose.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from vit_registers.core import table as metrics
from vit_registers.core.errors import InputError
from vit_registers.core.files import read_json, replacing
from vit_registers.core.seeds import generator
from vit_registers.core.stats import Bootstrap, wilson
from vit_registers.core.table import Metric
from vit_registers.pipeline.configs import TrainingStep

UNITS = {"norm_median": "L2 norm", "norm_p99": "L2 norm", "norm_max": "L2 norm", "share_above": "share of patches"}
COSINES = ("register_cosine", "cls_register_cosine")
MAPS = ("images", "maps", "focus")  # what figures show of attention.npz


def run(cfg: TrainingStep, model: Path, out: Path) -> None:
    """Write <model>.csv and <model>.maps.npz below ``out`` from what training left in the folder ``model``.

    The epoch stands where a condition does: ``epoch 3`` is the model after three. Maps are those of
    :mod:`backbones.watch`, epoch first.
    """
    for name in ("norms.csv", "training.csv", "attention.npz"):
        if not (model / name).is_file():
            raise InputError(f"{model / name}: no such file; train the model again")
    norms, losses = pd.read_csv(model / "norms.csv"), pd.read_csv(model / "training.csv")["loss"].to_numpy()
    with np.load(model / "attention.npz", allow_pickle=False) as content:
        attention = {name: content[name] for name in content.files}
    card = read_json(model / "model.json")
    of = card["training"]
    epochs = int(norms["epoch"].max())
    rows = [
        Metric(
            cfg.model,
            of["dataset"],
            f"epoch {epoch}",
            "training",
            metric,
            value,
            unit,
            of["monitored"],
            layer=int(layer),
        )
        for metric, unit in UNITS.items()
        for epoch, layer, value in zip(norms["epoch"], norms["layer"], norms[metric], strict=True)
    ]
    for epoch, of_epoch in enumerate(losses.reshape(epochs, -1)):
        where = (cfg.model, of["dataset"], f"epoch {epoch + 1}", "training")
        rows.append(Metric(*where, "loss", float(of_epoch.mean()), "cross-entropy, mean over steps", len(of_epoch)))
    rows += _cosines(cfg, of["dataset"], attention, int(norms["layer"].max()))
    rows += [*_emergence(cfg.model, card, norms), *_top1(cfg, of)]
    metrics.write(metrics.frame(rows), out / f"{cfg.model}.csv")
    with replacing(out / f"{cfg.model}.maps.npz") as temporary:
        np.savez_compressed(temporary, allow_pickle=False, **{name: attention[name] for name in MAPS})  # type: ignore[arg-type]  # its stub takes names for options


def _cosines(cfg: TrainingStep, dataset: str, attention: Mapping[str, np.ndarray], last: int) -> list[Metric]:
    """How alike the maps of registers are, and to that of [CLS], after every epoch at the ``last`` block (bach2025).

    The mean over the monitored images of what ``readouts.tokens`` measures of the finished model.
    """
    rows: list[Metric] = []
    for metric in (name for name in COSINES if name in attention):
        n = attention[metric].shape[1]  # (epochs, n)
        rng = generator(cfg.seed, "bootstrap", dataset, n)
        bootstrap = Bootstrap(n, cfg.statistics.resamples, cfg.statistics.confidence, rng)
        for epoch, values in enumerate(attention[metric].astype(float)):
            low, high = bootstrap.interval(values)
            where = (cfg.model, dataset, f"epoch {epoch + 1}", "training", metric)
            rows.append(Metric(*where, float(values.mean()), "cosine", n, layer=last, low=low, high=high))
    return rows


def _emergence(model: str, card: Mapping[str, Any], norms: pd.DataFrame) -> list[Metric]:
    """Whether artifacts arose at any time: where most patches stood above three medians, and the largest norm.

    The first epoch and the first block of several that share the most. The last epoch is looked at over all blocks,
    as artifacts may stand inside a model and not at its end (DINOv2 B and L).
    """
    norms = norms.assign(ratio=norms["norm_max"] / norms["norm_median"])
    last = norms[norms["epoch"] == norms["epoch"].max()]
    of = card["training"]

    def row(metric: str, value: float, unit: str, layer: int | None = None) -> Metric:
        return Metric(model, of["dataset"], "training", "emergence", metric, value, unit, of["monitored"], layer=layer)

    rows = [row("parameters", card["parameters"], "count"), row("epochs", len(set(norms["epoch"])), "count")]
    rows += [row("share_last", last["share_above"].max(), UNITS["share_above"])]
    for metric, unit in (("share_above", UNITS["share_above"]), ("ratio", "medians")):
        place = int(norms[metric].to_numpy().argmax())  # rows are sorted by epoch, then block
        epoch, layer, most = (norms[column].to_numpy()[place] for column in ("epoch", "layer", metric))
        rows.append(row(f"{metric}_most", float(most), unit, int(layer)))
        rows.append(row(f"{metric}_most_epoch", float(epoch), "count"))
    return rows


def _top1(cfg: TrainingStep, training: Mapping[str, Any]) -> list[Metric]:
    """Accuracy of the head that was trained, where training had labels."""
    share, n = training["test_top1"], training["tested"]
    if share is None:
        return []
    low, high = wilson(round(share * n), n, cfg.statistics.confidence)
    where = (cfg.model, training["dataset"], "training", "emergence", "top1")
    return [Metric(*where, share, "accuracy", n, low=low, high=high)]
