"""The step that probes cached features: linear heads and nearest neighbours, condition beside condition."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from sklearn.metrics import f1_score
from torch import Tensor

from vit_registers import metrics
from vit_registers.data.manifest import Manifest, stratified
from vit_registers.files import replacing
from vit_registers.forward.store import Features, condition_folder
from vit_registers.metrics import Metric
from vit_registers.readouts import heads, knn
from vit_registers.readouts.statistics import Bootstrap
from vit_registers.seeds import derive, generator
from vit_registers.steps import ProbeStep

log = logging.getLogger(__name__)

THREADS = 1  # as in extraction: results must not depend on --cores


def feature(cached: Features, name: str) -> Tensor | None:
    """Features (n, d) of a name of params, all images in manifest order; None where the condition has no such token."""
    parts = []
    for part in name.split("+"):
        if part not in cached.index["arrays"]:
            return None
        array = torch.from_numpy(np.array(cached.array(part)))
        parts.append(array.mean(1) if array.ndim == 3 else array)  # several appended tokens: their mean
    return torch.cat(parts, dim=1)


class Split:
    """Training, validation and test rows; validation is a stratified share of the training split, one for all arms."""

    def __init__(self, manifest: Manifest, cfg: ProbeStep) -> None:
        """Draw the validation rows from a generator named by the data set."""
        train = manifest.rows("train")
        labels = manifest.table["label"].to_numpy()
        draw = generator(cfg.seed, "validation", cfg.dataset)
        held = stratified(
            labels[train], cfg.probe.validation_share, draw, manifest.classes, f"data set '{manifest.name}'"
        )
        self.train, self.validation, self.test = train[~held], train[held], manifest.rows("test")
        self.labels = torch.from_numpy(labels.copy())
        self.classes = len(manifest.classes)

    def labels_of(self, rows: NDArray[np.int64]) -> Tensor:
        """Labels of some rows."""
        return self.labels[torch.from_numpy(rows)]


def run(cfg: ProbeStep, data: Path, features: Path, out: Path) -> None:
    """Write <model>.csv and <model>.images.parquet (right or wrong per test image) below ``out``."""
    torch.set_num_threads(THREADS)
    manifest = Manifest.load(data)
    split = Split(manifest, cfg)
    test = len(split.test)
    draw = generator(cfg.seed, "bootstrap", cfg.dataset, test)
    bootstrap = Bootstrap(test, cfg.statistics.resamples, cfg.statistics.confidence, draw)
    rows: list[Metric] = []
    images: list[pd.DataFrame] = []
    ids = manifest.table["image_id"].to_numpy()[split.test]
    opened = {name: Features.open(condition_folder(features, cfg.dataset, cfg.model, name)) for name in cfg.conditions}
    for name, cached in opened.items():
        if cached.status != "complete":
            rows.append(Metric(cfg.model, cfg.dataset, name, "probe", "none", None, "", 0, note=cached.reason))
    complete = {name: cached for name, cached in opened.items() if cached.status == "complete"}
    for kind in cfg.probe.features:
        found = {name: feature(cached, kind) for name, cached in complete.items()}
        arms = {name: x for name, x in found.items() if x is not None}
        if not arms:
            continue
        for name, logits in _linear(cfg, split, kind, arms).items():
            first, of_seeds = len(rows), []
            for seed, scores in zip(cfg.probe.seeds, logits, strict=True):
                hits = _score(cfg, split, bootstrap, rows, name, f"probe[{kind}]", scores, seed)
                images.append(_per_image(ids, name, f"probe[{kind}]", seed, hits["top1"]))
                of_seeds.append(hits)
            rows += _over_seeds(rows[first:], of_seeds, bootstrap)
        for name, x in arms.items():
            train = np.concatenate([split.train, split.validation])
            scores = knn.scores(
                x[train], split.labels_of(train), x[split.test], split.classes, cfg.knn.k, cfg.knn.temperature
            )
            hits = _score(cfg, split, bootstrap, rows, name, f"knn[{kind}]", scores, None)
            images.append(_per_image(ids, name, f"knn[{kind}]", None, hits["top1"]))
        log.info("%s: %s of %d conditions", cfg.model, kind, len(arms))
    metrics.write(metrics.frame(rows), out / f"{cfg.model}.csv")
    with replacing(out / f"{cfg.model}.images.parquet") as temporary:
        pd.concat(images, ignore_index=True).to_parquet(temporary, index=False)


def _linear(cfg: ProbeStep, split: Split, kind: str, arms: dict[str, Tensor]) -> dict[str, Tensor]:
    """Test scores (seeds, m, classes) of each arm; all arms and seeds train as one batch of heads.

    Arms of one seed start from the same weights and see the same batches: what differs between them is the features.
    """
    seeds = cfg.probe.seeds
    width = next(iter(arms.values())).shape[1]
    starts, orders = [], []
    for seed in seeds:
        draw = torch.Generator().manual_seed(derive(cfg.seed, "probe", cfg.dataset, kind, seed))
        starts.append(heads.initial(width, split.classes, draw))
        orders.append(torch.stack([torch.randperm(len(split.train), generator=draw) for _ in range(cfg.probe.epochs)]))
    count = len(arms)
    start = (torch.stack([w for w, _ in starts] * count), torch.stack([b for _, b in starts] * count))

    def stacked(rows: NDArray[np.int64]) -> Tensor:
        return torch.stack([x[torch.from_numpy(rows)] for x in arms.values() for _ in seeds])

    trained = heads.train(
        stacked(split.train),
        split.labels_of(split.train),
        stacked(split.validation),
        split.labels_of(split.validation),
        start,
        torch.stack(orders * count),
        cfg.probe,
    )
    logits = trained.logits(stacked(split.test)).view(count, len(seeds), len(split.test), split.classes)
    return dict(zip(arms, logits, strict=True))


def _score(
    cfg: ProbeStep,
    split: Split,
    bootstrap: Bootstrap,
    rows: list[Metric],
    condition: str,
    readout: str,
    scores: Tensor,
    seed: int | None,
) -> dict[str, NDArray[np.bool_]]:
    """Add top-1, top-3 and macro F1 of scores (m, classes) to ``rows``; return per image (m,) whether it was hit."""
    truth = split.labels_of(split.test).numpy()
    order = scores.argsort(dim=1, descending=True, stable=True).numpy()
    hit = {"top1": order[:, 0] == truth, "top3": (order[:, :3] == truth[:, None]).any(axis=1)}

    def row(metric: str, value: float, **more: Any) -> Metric:
        return Metric(
            cfg.model, cfg.dataset, condition, readout, metric, value, "fraction", len(truth), seed=seed, **more
        )

    for metric, hits in hit.items():
        low, high = bootstrap.interval(hits)
        rows.append(row(metric, float(hits.mean()), low=low, high=high))
    rows.append(row("macro_f1", float(f1_score(truth, order[:, 0], average="macro"))))
    return hit


def _over_seeds(rows: list[Metric], of_seeds: list[dict[str, NDArray[np.bool_]]], bootstrap: Bootstrap) -> list[Metric]:
    """One row per metric over all seeds: the mean, and for hits the interval over images of their mean over seeds."""
    pooled = []
    for metric in dict.fromkeys(row.metric for row in rows):
        mine = [row for row in rows if row.metric == metric]
        low = high = None
        if metric in of_seeds[0]:
            low, high = bootstrap.interval(np.mean([hits[metric] for hits in of_seeds], axis=0))
        value = float(np.mean([row.value for row in mine]))
        pooled.append(replace(mine[0], value=value, seed=None, low=low, high=high))
    return pooled


def _per_image(
    ids: NDArray[Any], condition: str, readout: str, seed: int | None, right: NDArray[np.bool_]
) -> pd.DataFrame:
    """The contract of compare.py: one value per image, condition, readout, metric and seed."""
    table = pd.DataFrame({"image_id": ids, "intervention": condition, "readout": readout, "metric": "top1"})
    return table.assign(seed=pd.array([seed] * len(table), dtype="Int64"), value=right.astype(float))
