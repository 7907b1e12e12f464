"""The class of an image by heads on cached features: linear probe, nearest neighbours, linear evaluation.

All conditions of a model are measured side by side: their heads start from the same weights and see the same batches,
so that what differs between conditions is the features. Heads are refitted to each condition, and those that were
fitted to the model as it is are frozen and tried on every condition, as a head that was trained before the model was
changed would meet it.
"""

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vit_registers.core.errors import InputError
from vit_registers.core.numerics.class_scores import add_rows, over_seeds, score
from vit_registers.core.seeds import derive, generator
from vit_registers.core.stats import bootstrap
from vit_registers.core.threads import threads
from vit_registers.data.manifest import Manifest
from vit_registers.data.splits import stratified
from vit_registers.experiments.classification import features, knn, linear_evaluation, linear_probe
from vit_registers.experiments.classification.linear_evaluation import Input, Winner
from vit_registers.experiments.classification.params import Config, LinearEvaluation
from vit_registers.experiments.job import Job
from vit_registers.extraction.store import Features
from vit_registers.params.condition import BASELINE

log = logging.getLogger(__name__)

TEST_ONLY = "only test images were passed"
Cached = Mapping[str, Features]  # by condition
ByCondition = dict[str, Tensor]


class Split:
    """Rows of the manifest to train on, to validate on and to test on.

    Those of split ``val`` validate where the data set brings one, else a stratified share of the training split.
    """

    def __init__(self, manifest: Manifest, cfg: Config) -> None:
        """Draw the validation rows, the same for all conditions, from a generator named by the data set."""
        train, self.test = manifest.rows("train"), manifest.rows("test")
        labels = manifest.table["label"].to_numpy()
        if (manifest.table["split"] == "val").any():
            self.train, self.validation = train, manifest.rows("val")
        else:
            draw = generator(cfg.seed, "validation", cfg.dataset)
            share = cfg.settings.probe.validation_share
            held_out = stratified(labels[train], share, draw, manifest.classes, f"data set '{manifest.name}'")
            self.train, self.validation = train[~held_out], train[held_out]
        self.fitted = np.concatenate([self.train, self.validation])
        self.labels = torch.from_numpy(labels.copy())
        self.classes = len(manifest.classes)

    def labels_of(self, rows: NDArray[np.int64]) -> Tensor:
        """Labels of some rows."""
        return self.labels[torch.from_numpy(rows)]


class Results:
    """Scores of test images, as they come, to rows and values by image."""

    def __init__(self, cfg: Config, job: Job, manifest: Manifest, split: Split) -> None:
        self.job, self.targets = job, split.labels_of(split.test)
        self.ids = manifest.table["image_id"].to_numpy()[split.test]
        self.bootstrap = bootstrap(cfg.seed, cfg.statistics, cfg.dataset, len(split.test))

    def add(self, scores: Tensor, condition: str, head: str, feature: str | None = None, **axes: Any) -> None:
        """Scores (m, classes) of one head."""
        found = score(scores, self.targets, self.bootstrap)
        add_rows(self.job.rows, found, self.bootstrap, intervention=condition, feature=feature, head=head, **axes)
        self.job.by_image("top1", self.ids, found.right, condition, feature=feature, head=head)

    def add_seeds(self, scores: Tensor, seeds: list[int], condition: str, head: str, feature: str) -> None:
        """Scores (seeds, m, classes) of heads that differ in their seed: a row for each, and for their mean."""
        axes = {"intervention": condition, "feature": feature, "head": head}
        found = [score(of_seed, self.targets, self.bootstrap) for of_seed in scores]
        for seed, one in zip(seeds, found, strict=True):
            add_rows(self.job.rows, one, self.bootstrap, seed=seed, **axes)
            self.job.by_image("top1", self.ids, one.right, condition, feature=feature, head=head, seed=seed)
        add_rows(self.job.rows, over_seeds(found), self.bootstrap, **axes)


@threads()
def run(cfg: Config, job: Job) -> None:
    """Fill the rows of all heads under every condition, and whether each test image was classified right."""
    manifest = job.manifest()
    split = Split(manifest, cfg)
    results = Results(cfg, job, manifest, split)
    complete = {}
    for name, cached in job.conditions(cfg.dataset, cfg.model, cfg.conditions):
        if cached.status == "complete":
            complete[name] = cached
        else:
            job.rows.absent(["top1"], cached.reason, intervention=name)
    for feature in cfg.settings.probe.features:
        _of_feature(cfg, split, results, feature, complete)
    if cfg.settings.linear_evaluation is not None:
        _linear_evaluation(cfg, cfg.settings.linear_evaluation, split, results, complete)
    if not job.images:
        wanted = ", ".join(cfg.settings.probe.features)
        raise InputError(
            f"experiments.classification.probe.features: no condition of '{cfg.model}' has {wanted}; add one it has, "
            "such as cls"
        )


def _of_feature(cfg: Config, split: Split, results: Results, feature: str, complete: Cached) -> None:
    """Linear probe and nearest neighbours on one feature of all conditions that have it."""
    given = {name: x for name, cached in complete.items() if (x := features.read(cached, feature)) is not None}
    test = {name: x[complete[name].places(split.test)] for name, x in given.items()}
    fitted = {name: x for name, x in given.items() if features.has(complete[name], split.fitted)}
    for name in (name for name in given if name not in fitted):
        for head in ("refitted", "knn"):
            results.job.rows.absent(["top1"], TEST_ONLY, intervention=name, feature=feature, head=head)
    if not fitted:
        return
    for head, by_condition in _linear(cfg, split, feature, fitted, test).items():
        for name, scores in by_condition.items():
            results.add_seeds(scores, cfg.settings.probe.seeds, name, head, feature)
    labels, settings = split.labels_of(split.fitted), cfg.settings.knn
    for name, x in fitted.items():
        votes = knn.scores(x[split.fitted], labels, test[name], split.classes, settings.k, settings.temperature)
        results.add(votes, name, "knn", feature)
    log.info("%s: %s of %d conditions", cfg.model, feature, len(given))


def _linear(cfg: Config, split: Split, feature: str, fitted: ByCondition, test: ByCondition) -> dict[str, ByCondition]:
    """Test probabilities (seeds, m, classes) by head (refitted, frozen) and condition.

    Heads are refitted to the conditions ``fitted``, features (n, d) of all images, side by side with all seeds. Those
    of the model as it is are tried on all of ``test``, features (m, d) of the test images.
    """
    settings = cfg.settings.probe
    width = next(iter(fitted.values())).shape[1]
    starts, orders = [], []
    for seed in settings.seeds:
        draw = torch.Generator().manual_seed(derive(cfg.seed, "probe", cfg.dataset, feature, seed))
        starts.append(linear_probe.initial(width, split.classes, draw))
        orders.append(torch.stack([torch.randperm(len(split.train), generator=draw) for _ in range(settings.epochs)]))

    def stacked(rows: NDArray[np.int64]) -> Tensor:
        return torch.stack([x[torch.from_numpy(rows)] for x in fitted.values()])

    trained = linear_probe.train(
        stacked(split.train),
        split.labels_of(split.train),
        stacked(split.validation),
        split.labels_of(split.validation),
        (torch.stack([weight for weight, _ in starts]), torch.stack([bias for _, bias in starts])),
        torch.stack(orders),
        settings,
    )
    refitted = trained.logits(torch.stack([test[name] for name in fitted])).double().softmax(3)
    found = {"refitted": dict(zip(fitted, refitted, strict=True))}
    if BASELINE in fitted and len(test) > 1:
        heads = trained.frozen(list(fitted).index(BASELINE), len(test))
        frozen = heads.logits(torch.stack(list(test.values()))).double().softmax(3)
        found["frozen"] = dict(zip(test, frozen, strict=True))
    return found


def _linear_evaluation(
    cfg: Config, settings: LinearEvaluation, split: Split, results: Results, complete: Cached
) -> None:
    """The head that DINOv2's linear evaluation chooses, for every condition that has [CLS]."""
    fitted = {}
    for name, cached in complete.items():
        if "cls" not in cached.index["arrays"]:
            continue
        if features.has(cached, split.fitted):
            fitted[name] = cached
        else:
            results.job.rows.absent(["top1"], TEST_ONLY, intervention=name, head="linear_evaluation")
    for name, winner in _winners(cfg, settings, split, fitted).items():
        chosen: dict[str, Any] = {"blocks": winner.input.blocks, "with_mean_patch": winner.input.with_mean_patch}
        results.add(winner.scores.double().softmax(1), name, "linear_evaluation", lr=winner.lr, **chosen)


def _winners(cfg: Config, settings: LinearEvaluation, split: Split, fitted: Cached) -> dict[str, Winner]:
    """The winning head of every condition."""
    if not fitted:
        return {}
    inputs: dict[Input, Tensor] = {}
    for blocks in settings.blocks:
        cls = torch.stack([features.cls_of_blocks(cached, blocks) for cached in fitted.values()])
        means = torch.stack([torch.from_numpy(np.array(cached.array("patch_mean"))) for cached in fitted.values()])
        inputs |= {Input(blocks, False): cls, Input(blocks, True): torch.cat([cls, means], dim=2)}
    draws = {
        one: torch.Generator().manual_seed(derive(cfg.seed, "linear evaluation", cfg.dataset, one.name))
        for one in inputs
    }
    parts = [torch.from_numpy(rows) for rows in (split.train, split.validation, split.test)]
    winners = linear_evaluation.choose(inputs, split.labels, parts, draws, split.classes, settings)
    return dict(zip(fitted, winners, strict=True))
