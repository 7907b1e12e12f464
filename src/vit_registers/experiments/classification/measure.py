"""The step that probes cached features: linear heads and nearest neighbours, condition beside condition."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from vit_registers.core import table as metrics
from vit_registers.core.errors import InputError
from vit_registers.core.files import replacing
from vit_registers.core.seeds import derive, generator
from vit_registers.core.stats import Bootstrap, Floats
from vit_registers.core.table import Metric
from vit_registers.data.manifest import Manifest, stratified
from vit_registers.experiments.classification import knn
from vit_registers.experiments.classification import linear_evaluation as linear_eval
from vit_registers.experiments.classification import linear_probe as heads
from vit_registers.experiments.classification.scores import Scored, over_seeds, score
from vit_registers.extraction.store import Features, condition_folder
from vit_registers.params import LinearEvaluation
from vit_registers.pipeline.configs import ProbeStep

log = logging.getLogger(__name__)

BASELINE = "baseline"
THREADS = 1  # as in extraction: results must not depend on --cores


def feature(cached: Features, name: str) -> Tensor | None:
    """Features (n, d) of a name of params, all images in manifest order; None where the condition has no such token."""
    parts = []
    for part in name.split("+"):
        if part not in cached.index["arrays"]:
            return None
        array = torch.from_numpy(np.array(cached.array(part)))
        if not array.isfinite().all():
            raise InputError(
                f"{cached.folder / part}.npy: holds values that are not finite; set extraction.precision to fp32 "
                "or look at the model's weights"
            )
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
    truth = split.labels_of(split.test)
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
        for readout, by_arm in _linear(cfg, split, kind, arms).items():
            for name, logits in by_arm.items():
                scored = [score(logit, truth, bootstrap) for logit in logits]
                for seed, one in zip(cfg.probe.seeds, scored, strict=True):
                    rows += _rows(cfg, bootstrap, name, f"{readout}[{kind}]", one, seed)
                    images.append(_per_image(ids, name, f"{readout}[{kind}]", seed, one.right))
                rows += _rows(cfg, bootstrap, name, f"{readout}[{kind}]", over_seeds(scored), None)
        train = np.concatenate([split.train, split.validation])
        for name, x in arms.items():
            votes = knn.scores(
                x[train], split.labels_of(train), x[split.test], split.classes, cfg.knn.k, cfg.knn.temperature
            )
            one = score(votes, truth, bootstrap)
            rows += _rows(cfg, bootstrap, name, f"knn[{kind}]", one, None)
            images.append(_per_image(ids, name, f"knn[{kind}]", None, one.right))
        log.info("%s: %s of %d conditions", cfg.model, kind, len(arms))
    if cfg.linear_evaluation is not None:
        for name, winner in _linear_evaluation(cfg, cfg.linear_evaluation, split, complete).items():
            one = score(winner.scores.double().softmax(1), truth, bootstrap)
            note = f"{winner.input}, learning rate {winner.lr:g}, chosen on held-out training images"
            rows += _rows(cfg, bootstrap, name, "linear_evaluation", one, None, note)
            images.append(_per_image(ids, name, "linear_evaluation", None, one.right))
    if not images:
        wanted = ", ".join(cfg.probe.features)
        raise InputError(f"probe.features: no condition of '{cfg.model}' has {wanted}; add one it has, such as cls")
    metrics.write(metrics.frame(rows), out / f"{cfg.model}.csv")
    with replacing(out / f"{cfg.model}.images.parquet") as temporary:
        pd.concat(images, ignore_index=True).to_parquet(temporary, index=False)


def _linear(cfg: ProbeStep, split: Split, kind: str, arms: dict[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """Test probabilities (seeds, m, classes) of each arm by readout; all arms and seeds train as one batch of heads.

    Arms of one seed start from the same weights and see the same batches: what differs between them is the features.
    ``probe``: heads fitted to the arm's own features. ``kept``: those fitted to the baseline's, on every arm's
    features, as a head that was fine-tuned before the model was changed would see them.
    """
    width = next(iter(arms.values())).shape[1]
    starts, orders = [], []
    for seed in cfg.probe.seeds:
        draw = torch.Generator().manual_seed(derive(cfg.seed, "probe", cfg.dataset, kind, seed))
        starts.append(heads.initial(width, split.classes, draw))
        orders.append(torch.stack([torch.randperm(len(split.train), generator=draw) for _ in range(cfg.probe.epochs)]))

    def stacked(rows: NDArray[np.int64]) -> Tensor:
        return torch.stack([x[torch.from_numpy(rows)] for x in arms.values()])

    trained = heads.train(
        stacked(split.train),
        split.labels_of(split.train),
        stacked(split.validation),
        split.labels_of(split.validation),
        (torch.stack([weight for weight, _ in starts]), torch.stack([bias for _, bias in starts])),
        torch.stack(orders),
        cfg.probe,
    )
    test = stacked(split.test)
    found = {"probe": dict(zip(arms, trained.logits(test).double().softmax(3), strict=True))}
    if BASELINE in arms and len(arms) > 1:
        kept = trained.of(list(arms).index(BASELINE)).logits(test).double().softmax(3)
        found["kept"] = dict(zip(arms, kept, strict=True))
    return found


def _linear_evaluation(
    cfg: ProbeStep, settings: LinearEvaluation, split: Split, complete: dict[str, Features]
) -> dict[str, linear_eval.Winner]:
    """The winning head of every condition that has [CLS]."""
    arms = {name: cached for name, cached in complete.items() if "cls" in cached.index["arrays"]}
    if not arms:
        return {}
    inputs: dict[str, Tensor] = {}
    for blocks in settings.blocks:
        cls = torch.stack([_cls_of(cached, blocks) for cached in arms.values()])  # (arms, n, blocks * d)
        means = torch.stack([torch.from_numpy(np.array(cached.array("patch_mean"))) for cached in arms.values()])
        name = "[CLS]" if blocks == 1 else f"[CLS] of {blocks} blocks"
        inputs |= {name: cls, f"{name} with mean patch": torch.cat([cls, means], dim=2)}
    seeds = {
        name: torch.Generator().manual_seed(derive(cfg.seed, "linear evaluation", cfg.dataset, name)) for name in inputs
    }
    parts = [torch.from_numpy(rows) for rows in (split.train, split.validation, split.test)]
    winners = linear_eval.choose(inputs, split.labels, parts, seeds, split.classes, settings)
    return dict(zip(arms, winners, strict=True))


def _cls_of(cached: Features, blocks: int) -> Tensor:
    """[CLS] after the final norm of the last ``blocks`` blocks, side by side: (n, blocks * d)."""
    if blocks == 1:
        return torch.from_numpy(np.array(cached.array("cls")))
    return torch.from_numpy(np.array(cached.array("cls_blocks")[:, -blocks:])).flatten(1)


def _rows(
    cfg: ProbeStep,
    bootstrap: Bootstrap,
    condition: str,
    readout: str,
    scored: Scored,
    seed: int | None,
    note: str | None = None,
) -> list[Metric]:
    """A row per metric with its percentile interval."""
    rows = []
    for metric, value in scored.means.items():
        low, high = (float(edge) for edge in np.quantile(scored.resampled[metric], bootstrap.tails))
        rows.append(
            Metric(
                cfg.model,
                cfg.dataset,
                condition,
                readout,
                metric,
                value,
                "fraction",
                len(scored.right),
                seed=seed,
                low=low,
                high=high,
                note=note,
            )
        )
    return rows


def _per_image(ids: NDArray[Any], condition: str, readout: str, seed: int | None, right: Floats) -> pd.DataFrame:
    """The contract of compare.py: one value per image, condition, readout, metric and seed."""
    table = pd.DataFrame({"image_id": ids, "intervention": condition, "readout": readout, "metric": "top1"})
    return table.assign(seed=pd.array([seed] * len(table), dtype="Int64"), value=right)
