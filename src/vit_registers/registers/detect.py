"""The step that finds outlier patches and ranks the neurons behind them; to find none is a result."""

import csv
import logging
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vit_registers.core.errors import InputError
from vit_registers.core.files import replacing, write_json
from vit_registers.core.seeds import generator
from vit_registers.core.stats import Bootstrap
from vit_registers.core.threads import threads
from vit_registers.data.manifest import Manifest
from vit_registers.extraction.images import Images
from vit_registers.extraction.memory import batch_size
from vit_registers.extraction.plan import batched
from vit_registers.extraction.store import Features, condition_folder
from vit_registers.forward.reading import reading
from vit_registers.models import backbone as backbones
from vit_registers.models.backbone import Backbone
from vit_registers.pipeline.configs import DetectConfig
from vit_registers.registers import outliers
from vit_registers.registers.neurons import NeuronScores, ranking, resample_counts

log = logging.getLogger(__name__)

Floats = NDArray[np.float32]
Scores = NDArray[np.float64]

LISTED = 100  # neurons of the ranking that are written out


@threads()
def run(cfg: DetectConfig, data: Path, model: Path, features: Path, out: Path) -> None:
    """Write ``out`` (json), and the ranking beside it.

    The threshold comes from the norms cached at baseline; the ranking from one pass over the first ``images`` dense
    images, of which only those with an outlier patch count. Refused: layers that the model lacks, norms that are not
    finite.
    """
    baseline = Features.open(condition_folder(features, cfg.dataset, cfg.model, "baseline"))
    norms = np.asarray(baseline.array("norms")[:, :, baseline.layout.patch_slice])  # (m, layers, p)
    _check(cfg, norms)
    result = {**_outliers(cfg, norms), "neurons": []}
    rows: list[list[Any]] = []
    if "reason" not in result:
        backbone = backbones.load(model, cfg.device)
        found, rows = _ranked(cfg, *_scores(cfg, data, backbone, baseline, result["threshold"]))
        result |= found
        if "reason" not in result:
            result |= _against_planted(
                backbone, [(layer, index) for layer, index, _ in result["neurons"][: cfg.detection.top_k]]
            )
    result["found"] = "reason" not in result
    log.info("%s: %s", cfg.model, result.get("reason", f"{result['share']:.2%} of the patches are outliers"))
    _write_ranking(out.with_suffix(".neurons.csv"), rows)
    write_json(out, result)


def _check(cfg: DetectConfig, norms: Floats) -> None:
    """Refuse what would end in a wrong answer without a word: a layer that is not there, NaN above no threshold."""
    depth = norms.shape[1]
    for key, layer in (
        ("outlier_layer", cfg.detection.outlier_layer),
        ("highest_layer", cfg.detection.highest_layer),
    ):
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


def _outliers(cfg: DetectConfig, norms: Floats) -> dict[str, Any]:
    """The threshold and what exceeds it, of patch norms (m, layers, p); a ``reason`` where that is too little.

    Intervals are over images. Their resamples are those of all experiments, so that a number that two of them report
    has one interval.
    """
    settings = cfg.detection
    at_layer = norms[:, settings.outlier_layer]
    limit = outliers.threshold(at_layer, settings.threshold_rule, settings.threshold)
    found = outliers.find(at_layer, limit)
    shares = [outliers.find(norms[:, layer], limit).share for layer in range(norms.shape[1])]
    draw = generator(cfg.seed, "bootstrap", cfg.dataset, len(at_layer))
    bootstrap = Bootstrap(len(at_layer), cfg.statistics.resamples, cfg.statistics.confidence, draw)
    result: dict[str, Any] = {
        "threshold": limit,
        "rule": f"{settings.threshold_rule} {settings.threshold:g}",
        "top_k": settings.top_k,
        "images": len(at_layer),
        "share": found.share,
        "share_interval": list(bootstrap.interval(found.per_image)),
        "images_affected": found.images_affected,
        "images_affected_interval": list(bootstrap.interval(found.affected)),
        "outlier_layer": settings.outlier_layer % norms.shape[1],
        "share_by_layer": shares,
        # the first block whose output has them, above the threshold of the outlier layer
        "first_layer": next((layer for layer, share in enumerate(shares) if share >= settings.minimum_share), None),
    }
    if found.share < settings.minimum_share:
        result["reason"] = (
            f"no outlier patches found: {found.share:.2%} of the patches exceed {limit:.3g} ({result['rule']}), "
            f"{settings.minimum_share:.2%} are needed"
        )
    return result


def _scores(
    cfg: DetectConfig, data: Path, backbone: Backbone, baseline: Features, limit: float
) -> tuple[int, Scores, Scores]:
    """One pass: images that passed, and neurons' scores (layers, h) over them and over resamples (n, layers, h)."""
    settings = cfg.detection
    chosen = baseline.dense_rows[: settings.images]
    counts = resample_counts(len(chosen), settings.bootstrap, generator(cfg.seed, "neurons", cfg.dataset, cfg.model))

    def scorer() -> list[NeuronScores]:
        layers = settings.outlier_layer, settings.highest_layer
        return [NeuronScores(backbone, *layers, limit, settings.sparsity, counts)]

    # A batch's activations of all ranked layers are held at once.
    size = batch_size(cfg.batch_size, backbone, None, scorer, cfg.precision, cfg.memory_mb)
    (reader,), batches = scorer(), batched(chosen, size)
    images = Images(Manifest.load(data), backbone.preprocess, pinned=backbone.device.type == "cuda")
    with reading(backbone, [reader], cfg.precision) as forward:
        for pixels in images.batches(batches):
            forward(pixels)
    return len(chosen), *reader.scores()


def _ranked(
    cfg: DetectConfig, images: int, scores: Scores, resampled: Scores
) -> tuple[dict[str, Any], list[list[Any]]]:
    """The best neurons with how stable they are, and rows of the ranking; a ``reason`` where too few fire.

    ``scores`` (layers, h) over ``images``, ``resampled`` (resamples, layers, h).
    """
    k, order = cfg.detection.top_k, ranking(scores)
    result: dict[str, Any] = {"ranked": len(order), "images_ranked": images}
    firing = int((scores > 0.0).sum())
    if firing < k:
        result["reason"] = (
            f"no register neurons found: {firing} neurons fire at the outlier patches of the first {images} images, "
            f"{k} are needed"
        )
        return result, []
    tops = [set(ranking(sample, k)) for sample in resampled]
    frequency = {neuron: float(np.mean([neuron in top for top in tops])) for neuron in order[:LISTED]}
    result["neurons"] = [[layer, index, float(scores[layer, index])] for layer, index in order[: 4 * k]]
    result["stability"] = float(np.mean([len(top & set(order[:k])) / k for top in tops]))
    if firing > k:
        result["next_ratio"] = float(scores[order[k - 1]] / scores[order[k]])
    return result, [[i, *n, float(scores[n]), frequency[n]] for i, n in enumerate(order[:LISTED])]


def _against_planted(backbone: Backbone, found: list[tuple[int, int]]) -> dict[str, Any]:
    """Precision and recall where the model was planted and its neurons are known."""
    if "planted" not in backbone.metadata:
        return {}
    planted = {(layer, index) for layer, index in backbone.metadata["planted"]["neurons"]}
    hits = len(planted & set(found))
    return {"precision": hits / len(found), "recall": hits / len(planted), "planted": sorted(planted)}


def _write_ranking(path: Path, rows: list[list[Any]]) -> None:
    """The first neurons of the ranking as CSV; only a header where none was found."""
    with replacing(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["rank", "layer", "index", "score", "frequency_in_top_k"])
        writer.writerows(rows)
