"""The step that finds artifact tokens and ranks the neurons behind them; to find none is a result."""

import csv
import logging
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vit_registers.core import table as metrics
from vit_registers.core.errors import InputError
from vit_registers.core.files import read_json, replacing, write_json
from vit_registers.core.seeds import generator
from vit_registers.core.table import Metric
from vit_registers.data.manifest import Manifest
from vit_registers.extraction.images import Images
from vit_registers.extraction.memory import batch_size
from vit_registers.extraction.plan import batched
from vit_registers.extraction.store import Features, condition_folder
from vit_registers.forward.reading import reading
from vit_registers.models import backbone as backbones
from vit_registers.models.backbone import Backbone
from vit_registers.params import Detection
from vit_registers.pipeline.configs import DetectConfig
from vit_registers.registers import outliers as artifacts
from vit_registers.registers.neurons import NeuronScores, ranking, resample_counts

log = logging.getLogger(__name__)

THREADS = 1  # as in extraction: results must not depend on --cores
LISTED = 100  # neurons of the ranking that are written out


def run(cfg: DetectConfig, data: Path, model: Path, features: Path, out: Path, metrics_out: Path) -> None:
    """Write ``out`` (json), the ranking beside it, and rows of the tidy table to ``metrics_out``.

    The threshold comes from the norms cached at baseline; the ranking from one pass over the first ``images`` dense
    images, of which only those with an artifact count. Refused: layers that the model lacks, norms that are not finite.
    """
    torch.set_num_threads(THREADS)
    settings = cfg.detection
    baseline = Features.open(condition_folder(features, cfg.dataset, cfg.model, "baseline"))
    norms = np.asarray(baseline.array("norms")[:, :, baseline.layout.patch_slice])  # (m, layers, p)
    _check(cfg, norms)
    at_layer = norms[:, settings.outlier_layer]
    limit = artifacts.threshold(at_layer, settings.threshold_rule, settings.threshold)
    found = artifacts.find(at_layer, limit)
    result: dict[str, Any] = {
        "threshold": limit,
        "rule": f"{settings.threshold_rule} {settings.threshold:g}",
        "top_k": settings.top_k,
        "images": len(at_layer),
        "share": found.share,
        "share_interval": _interval(cfg, found.per_image),
        "images_affected": found.images_affected,
        "images_affected_interval": _interval(cfg, found.affected),
        "outlier_layer": settings.outlier_layer % norms.shape[1],
        "parameters": read_json(model / "model.json")["parameters"],
        "share_by_layer": [artifacts.find(norms[:, layer], limit).share for layer in range(norms.shape[1])],
        "first_layer": _first_layer(norms, limit, settings),
        "neurons": [],
    }
    rows: list[list[Any]] = []
    if found.share >= settings.minimum_share:
        rows = _rank(cfg, data, model, baseline, limit, result)
    else:
        result["reason"] = (
            f"no artifacts found: {found.share:.2%} of the patches exceed {limit:.3g} ({result['rule']}), "
            f"{settings.minimum_share:.2%} are needed"
        )
    result["found"] = "reason" not in result
    log.info("%s: %s", cfg.model, result.get("reason", f"{found.share:.2%} of the patches are artifacts"))
    with replacing(out.with_suffix(".neurons.csv")) as temporary, temporary.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["rank", "layer", "index", "score", "frequency_in_top_k"])
        writer.writerows(rows)
    metrics.write(metrics.frame(_metrics(cfg, result)), metrics_out)
    write_json(out, result)


def _check(cfg: DetectConfig, norms: NDArray[np.float32]) -> None:
    """Refuse what would end in a wrong answer without a word: a layer that is not there, NaN above no threshold."""
    depth = norms.shape[1]
    for key in ("outlier_layer", "highest_layer"):
        layer = getattr(cfg.detection, key)
        if not -depth <= layer < depth:
            raise InputError(
                f"params: detection: {key}: {layer} for model '{cfg.model}' of {depth} blocks; expected {-depth} to "
                f"{depth - 1}, or set it under detection_overrides"
            )
    broken = int((~np.isfinite(norms)).any(axis=(1, 2)).sum())
    if broken:
        raise InputError(
            f"norms of model '{cfg.model}' on '{cfg.dataset}' are not finite in {broken} of {len(norms)} images; "
            f"extraction ran in {cfg.precision}: take bf16 or fp32 for fp16, else check the weights"
        )


def _interval(cfg: DetectConfig, per_image: NDArray[np.float64]) -> list[float]:
    """Percentile bootstrap interval over images of a mean over them.

    Resamples are those of the readouts: a number that two of them report has one interval.
    """
    n, tail = len(per_image), (1.0 - cfg.statistics.confidence) / 2.0
    rng = generator(cfg.seed, "bootstrap", cfg.dataset, n)
    means = rng.multinomial(n, np.full(n, 1.0 / n), size=cfg.statistics.resamples) @ per_image / n
    return [float(x) for x in np.quantile(means, [tail, 1.0 - tail])]


def _first_layer(norms: NDArray[np.float32], limit: float, settings: Detection) -> int | None:
    """First block whose output shows artifacts above the threshold of the outlier layer."""
    for layer in range(norms.shape[1]):
        if artifacts.find(norms[:, layer], limit).share >= settings.minimum_share:
            return layer
    return None


def _rank(
    cfg: DetectConfig, data: Path, model: Path, baseline: Features, limit: float, result: dict[str, Any]
) -> list[list[Any]]:
    """Rank neurons, put the best into ``result`` and return the ranking's rows; or put there why there are none."""
    settings = cfg.detection
    backbone = backbones.load(model, cfg.device)
    chosen = baseline.dense_rows[: settings.images]
    counts = resample_counts(len(chosen), settings.bootstrap, generator(cfg.seed, "neurons", cfg.dataset, cfg.model))

    def scorer() -> NeuronScores:
        layers = settings.outlier_layer, settings.highest_layer
        return NeuronScores(backbone, *layers, limit, settings.sparsity, counts)

    # A batch's activations of all ranked layers are held at once.
    size = batch_size(cfg.batch_size, backbone, None, lambda: [scorer()], cfg.precision, cfg.memory_mb)
    reader, batches = scorer(), batched(chosen, size)
    images = Images(Manifest.load(data), backbone.preprocess, pinned=backbone.device.type == "cuda")
    with reading(backbone, [reader], cfg.precision) as forward:
        for pixels in images.batches(batches):
            forward(pixels)
    scores, resampled = reader.scores()
    order = ranking(scores)
    result |= {"ranked": len(order), "images_ranked": len(chosen)}
    k = settings.top_k
    firing = int((scores > 0.0).sum())
    if firing < k:
        result["reason"] = (
            f"no register neurons found: {firing} neurons fire at the artifacts of the first {len(chosen)} images, "
            f"{k} are needed"
        )
        return []
    tops = [set(ranking(sample, k)) for sample in resampled]
    frequency = {neuron: float(np.mean([neuron in top for top in tops])) for neuron in order[:LISTED]}
    result["neurons"] = [[layer, index, float(scores[layer, index])] for layer, index in order[: 4 * k]]
    result["stability"] = float(np.mean([len(top & set(order[:k])) / k for top in tops]))
    if firing > k:
        result["next_ratio"] = float(scores[order[k - 1]] / scores[order[k]])
    result |= _against_truth(backbone, order[:k])
    return [[i, *n, float(scores[n]), frequency[n]] for i, n in enumerate(order[:LISTED])]


def _against_truth(backbone: Backbone, found: list[tuple[int, int]]) -> dict[str, Any]:
    """Precision and recall where the model was planted and its neurons are known."""
    if "planted" not in backbone.metadata:
        return {}
    truth = {(layer, index) for layer, index in backbone.metadata["planted"]["neurons"]}
    hits = len(truth & set(found))
    return {"precision": hits / len(found), "recall": hits / len(truth), "planted": sorted(truth)}


def _metrics(cfg: DetectConfig, result: dict[str, Any]) -> list[Metric]:
    note = result.get("reason")
    low, high = result["share_interval"]
    affected = dict(zip(("low", "high"), result["images_affected_interval"], strict=True))

    def row(metric: str, value: float | None, unit: str, n: int = result["images"], **more: Any) -> Metric:
        return Metric(cfg.model, cfg.dataset, "baseline", "detection", metric, value, unit, n, note=note, **more)

    rows = [
        row("found", float(result["found"]), "yes=1"),
        row("threshold", result["threshold"], "L2 norm"),
        row("artifact_share", result["share"], "share of patches", low=low, high=high),
        row("images_affected", result["images_affected"] / result["images"], "share of images", **affected),
        row("outlier_layer", float(result["outlier_layer"]), "block"),
        row("parameters", float(result["parameters"]), "parameters"),
        *(
            row("artifact_share_by_layer", s, "share of patches", layer=i)
            for i, s in enumerate(result["share_by_layer"])
        ),
    ]
    if result["first_layer"] is not None:
        rows.append(row("first_layer", float(result["first_layer"]), "block"))
    for name, unit in (
        ("stability", "overlap of top k"),
        ("next_ratio", "score ratio"),
        ("precision", "share of top k"),
        ("recall", "share of planted"),
    ):
        if name in result:
            rows.append(row(name, result[name], unit, min(cfg.detection.images, result["images"])))
    return rows
