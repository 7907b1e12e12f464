"""The step that asks what single tokens know: high-norm patches against ordinary ones (darcet2024, bach2025).

Local: how alike a patch is to its neighbours, where it stands, what it shows. Global: the class of its image. Probes
are trained on the tokens of one part of the dense images and tested on those of the rest; intervals and tests are over
images, not tokens.
"""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vit_registers.core import table as metrics
from vit_registers.core.files import read_json
from vit_registers.core.patches import patchify
from vit_registers.core.seeds import derive, generator
from vit_registers.core.stats import Bootstrap, sign_flip
from vit_registers.core.table import Metric
from vit_registers.data.manifest import Manifest
from vit_registers.experiments.single_tokens import probes as token_probes
from vit_registers.extraction.store import Features, condition_folder
from vit_registers.models.preprocess import Preprocess, load_pixels
from vit_registers.pipeline.configs import InformationStep

log = logging.getLogger(__name__)

THREADS = 1  # as in extraction: results must not depend on --cores
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


class Tokens:
    """What is cached of the first ``images`` dense images of a model as it is, and which patches are high."""

    def __init__(self, cfg: InformationStep, features: Features, manifest: Manifest, registers: Path) -> None:
        """The threshold is detection's where it found artifacts, else a percentile of the pooled norms."""
        settings, layout = cfg.information, features.layout
        count = min(settings.images, len(features.dense_rows))
        self.rows = features.dense_rows[:count]
        self.grid, self.patch = layout.grid, features.patch
        self.patches = torch.from_numpy(np.asarray(features.array("patches")[:count], dtype=np.float32))
        norms = np.asarray(features.array("norms")[:count, cfg.outlier_layer, layout.patch_slice])
        detected = read_json(registers)
        self.artifacts = bool(detected["found"])
        limit = detected["threshold"] if self.artifacts else np.percentile(norms, settings.high_percentile)
        self.high: Bools = norms > limit
        arrays = features.index["arrays"]
        self.cosines = np.asarray(features.array("neighbours")[:count]) if "neighbours" in arrays else None
        self.special = {name: np.array(features.array(name)) for name in ("cls", "registers") if name in arrays}
        self.labels = manifest.table["label"].to_numpy()[self.rows]
        preprocess = Preprocess.from_json(features.index["preprocess"])
        self.pixels = patchify(preprocess.normalise(load_pixels(manifest, self.rows, preprocess)[0]), self.patch)


def run(cfg: InformationStep, data: Path, features: Path, registers: Path, out: Path) -> None:
    """Write rows of the tidy table to ``out``; ``registers`` is what detection wrote."""
    torch.set_num_threads(THREADS)
    manifest = Manifest.load(data)
    cached = Features.open(condition_folder(features, cfg.dataset, cfg.model, "baseline"))
    tokens = Tokens(cfg, cached, manifest, registers)
    order = generator(cfg.seed, "information", cfg.dataset, len(tokens.rows)).permutation(len(tokens.rows))
    half = len(order) // 2
    train, test = np.sort(order[:half]), np.sort(order[half:])
    rows = [_row(cfg, "high_share", float(tokens.high.mean()), "share of patches", len(tokens.rows))]
    rows.append(_row(cfg, "high_are_artifacts", float(tokens.artifacts), "yes=1", len(tokens.rows)))
    if tokens.cosines is not None:
        everything = np.arange(len(tokens.rows))
        rows += _groups(cfg, "neighbour_cosine", "cosine", tokens.cosines, tokens.high, everything)
    for metric, unit, values in _local(cfg, tokens, train, test):
        rows += _groups(cfg, metric, unit, values, tokens.high[test], test)
    rows += _classes(cfg, tokens, train, test)
    metrics.write(metrics.frame(rows), out)
    log.info("%s: %d images, %.2f%% of the patches are high", cfg.model, len(tokens.rows), 100 * tokens.high.mean())


def _row(cfg: InformationStep, metric: str, value: float | None, unit: str, n: int, **more: Any) -> Metric:
    return Metric(cfg.model, cfg.dataset, "baseline", "information", metric, value, unit, n, **more)


def _local(
    cfg: InformationStep, tokens: Tokens, train: NDArray[np.int64], test: NDArray[np.int64]
) -> list[tuple[str, str, NDArray[Any]]]:
    """Metric, unit and values (m, p) of every patch of the test images."""
    draw = torch.Generator().manual_seed(derive(cfg.seed, "token probes", cfg.dataset, cfg.model))
    seen, asked = tokens.patches[train], tokens.patches[test]
    found = token_probes.positions(seen, asked, cfg.information, draw).numpy()
    truth = np.arange(asked.shape[1])
    y, x = np.divmod(found, tokens.grid[1])
    y, x = y - truth // tokens.grid[1], x - truth % tokens.grid[1]
    targets, expected = tokens.pixels[train], tokens.pixels[test]

    def error(predicted: Tensor) -> NDArray[Any]:
        return (predicted - expected).square().mean(-1).numpy()  # type: ignore[no-any-return]

    return [
        ("position_top1", "fraction", (found == truth).astype(float)),
        ("position_l1", "patches", (np.abs(y) + np.abs(x)).astype(float)),
        ("position_l2", "patches", np.hypot(y, x)),
        ("reconstruction_linear", "mean squared error", error(token_probes.linear_pixels(seen, targets, asked))),
        (
            "reconstruction_mlp",
            "mean squared error",
            error(token_probes.mlp_pixels(seen, targets, asked, cfg.information, draw)),
        ),
    ]


def _bootstrap(cfg: InformationStep, n: int) -> Bootstrap:
    draw = generator(cfg.seed, "bootstrap", cfg.dataset, n)
    return Bootstrap(n, cfg.statistics.resamples, cfg.statistics.confidence, draw)


def _groups(
    cfg: InformationStep, metric: str, unit: str, values: NDArray[Any], high: Bools, images: NDArray[np.int64]
) -> list[Metric]:
    """Means over high and over normal patches of values (m, p), and their difference within images that have both.

    Intervals are over images: a resample draws images with all their patches.
    """
    bootstrap, rows, values = _bootstrap(cfg, len(images)), [], values.astype(float)
    for name, where in (("high", high), ("normal", ~high)):
        count, total = where.sum(axis=1).astype(float), (values * where).sum(axis=1)
        if not count.any():
            rows.append(_row(cfg, f"{metric}[{name}]", None, unit, 0, note=f"no {name} patches"))
            continue
        drawn = bootstrap.means(count)
        shares = np.divide(bootstrap.means(total), drawn, out=np.full_like(drawn, np.nan), where=drawn > 0)
        low, high_edge = (float(edge) for edge in np.nanquantile(shares, bootstrap.tails))
        value, n = float(total.sum() / count.sum()), int((count > 0).sum())
        rows.append(_row(cfg, f"{metric}[{name}]", value, unit, n, low=low, high=high_edge))
    both = high.any(axis=1) & ~high.all(axis=1)
    if both.any():
        means = [(values * where).sum(axis=1)[both] / where.sum(axis=1)[both] for where in (high, ~high)]
        rows.append(_difference(cfg, metric, unit, means[0] - means[1]))
    return rows


def _difference(cfg: InformationStep, metric: str, unit: str, differences: Floats) -> Metric:
    """Mean of paired differences, one per image, with interval and sign-flip p."""
    low, high = _bootstrap(cfg, len(differences)).interval(differences)
    draw = generator(cfg.seed, "sign flips", cfg.dataset, cfg.model, metric)
    tested = {"low": low, "high": high, "p": sign_flip(differences, cfg.statistics.resamples, draw)}
    name, mean = f"{metric}_difference", float(differences.mean())
    return _row(cfg, name, mean, unit, len(differences), reference="normal", **tested)


def _classes(cfg: InformationStep, tokens: Tokens, train: NDArray[np.int64], test: NDArray[np.int64]) -> list[Metric]:
    """Class of the image from one token: one high and one normal patch drawn per image and seed, one register, [CLS].

    Images without a high patch, or without a normal one, are left out of all of them.
    """
    both = np.flatnonzero(tokens.high.any(axis=1) & ~tokens.high.all(axis=1))
    train, test = np.intersect1d(train, both), np.intersect1d(test, both)
    kinds = ["cls"] * ("cls" in tokens.special) + ["high", "normal"] + ["register"] * ("registers" in tokens.special)
    present = set(tokens.labels[train])
    if len(train) < 2 or len(test) < 2 or len(present) < 2:
        reason = f"{len(train)} training and {len(test)} test images have high patches and others"
        return [_row(cfg, f"class_top1[{kind}]", None, "fraction", len(test), note=reason) for kind in kinds]
    right: dict[str, list[NDArray[Any]]] = {kind: [] for kind in kinds}
    rows: list[Metric] = []
    for seed in cfg.information.seeds:
        draw = generator(cfg.seed, "one token", cfg.dataset, cfg.model, seed)
        chosen = _drawn(tokens, draw)
        for kind in kinds:
            given = chosen[kind]
            hit = token_probes.classes(given[train], tokens.labels[train], given[test]) == tokens.labels[test]
            right[kind].append(hit.astype(float))
            rows.append(_row(cfg, f"class_top1[{kind}]", float(hit.mean()), "fraction", len(test), seed=seed))
    bootstrap = _bootstrap(cfg, len(test))
    means = {kind: np.mean(of_seeds, axis=0) for kind, of_seeds in right.items()}
    for kind, mean in means.items():
        low, high = bootstrap.interval(mean)
        rows.append(_row(cfg, f"class_top1[{kind}]", float(mean.mean()), "fraction", len(test), low=low, high=high))
        deviation = float(np.std([hits.mean() for hits in right[kind]]))  # of draws, as bach2025 reports it
        rows.append(_row(cfg, f"class_top1_std[{kind}]", deviation, "fraction", len(test)))
    return [*rows, _difference(cfg, "class_top1", "fraction", means["high"] - means["normal"])]


def _drawn(tokens: Tokens, draw: np.random.Generator) -> dict[str, NDArray[Any]]:
    """A token (n, d) of each kind for every image; where an image has no such patch, any."""
    images = np.arange(len(tokens.rows))
    luck = draw.random(tokens.high.shape)
    chosen: dict[str, NDArray[Any]] = {}
    for kind, where in (("high", tokens.high), ("normal", ~tokens.high)):
        chosen[kind] = tokens.patches.numpy()[images, np.where(where, luck, -1.0).argmax(axis=1)]
    if "cls" in tokens.special:
        chosen["cls"] = tokens.special["cls"][tokens.rows]
    if "registers" in tokens.special:
        registers = tokens.special["registers"][tokens.rows]
        chosen["register"] = registers[images, draw.integers(registers.shape[1], size=len(images))]
    return chosen
