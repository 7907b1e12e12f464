"""The step that finds outlier patches and ranks the neurons behind them; to find none is a result.

It passes images of its own, as a rule of the training split: nothing that is repaired and measured later was chosen on
the images of the measurement. Norms come first, for a threshold is that of all images together; then those images that
have outliers pass again, and their neurons are ranked.
"""

import csv
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vit_registers.core.errors import InputError
from vit_registers.core.files import replacing, write_json
from vit_registers.core.seeds import generator
from vit_registers.core.stats import Bootstrap, percentiles
from vit_registers.core.threads import threads
from vit_registers.data.manifest import Manifest
from vit_registers.extraction.images import Batches, Images
from vit_registers.extraction.memory import batch_size
from vit_registers.extraction.plan import Rows, batched
from vit_registers.forward.readers.base import Reader
from vit_registers.forward.readers.norms import EmbeddingNorms, Norms
from vit_registers.forward.reading import reading
from vit_registers.models import backbone as backbones
from vit_registers.models.backbone import Backbone
from vit_registers.pipeline.configs import DetectConfig, PassConfig
from vit_registers.registers import outliers, repeated
from vit_registers.registers.neurons import NeuronScores, ranking, resample_counts, scored

log = logging.getLogger(__name__)

Floats = NDArray[np.float32]
Scores = NDArray[np.float64]
Neuron = tuple[int, int]  # layer, index

LISTED = 100  # neurons of the ranking that are written out


@threads()
def run(cfg: DetectConfig, data: Path, model: Path, out: Path) -> None:
    """Write ``out`` (json), and the ranking beside it.

    Norms come from one pass over the first ``images`` images of the split, the ranking from another over those with an
    outlier patch. Refused: a split without images, layers that the model lacks, norms that are not finite. Where params
    ask for it, all of it is repeated on the model with test-time registers.
    """
    manifest = Manifest.load(data)
    backbone = backbones.load(model, cfg.device)
    _check_layers(cfg, backbone)
    images = Images(manifest, backbone.preprocess, backbone.device, cfg)
    chosen: Rows = manifest.rows(cfg.detection.split)[: cfg.detection.images]
    result, rows = _look(cfg, backbone, images, chosen)
    log.info("%s: %s", cfg.model, result.get("reason", f"{result['share']:.2%} of the patches are outliers"))
    if cfg.detection.repeats:
        result["repeats"] = repeated.rounds(
            cfg.detection, backbone, result, lambda: _look(cfg, backbone, images, chosen)[0]
        )
    _write_ranking(out.with_suffix(".neurons.csv"), rows)
    write_json(out, result)


def _look(
    cfg: DetectConfig, backbone: Backbone, images: Images, chosen: Rows
) -> tuple[dict[str, Any], list[list[Any]]]:
    """What is found in the model under what is in force now, and rows of the ranking."""
    judged = judge(cfg, patch_norms(cfg, backbone, images, chosen))
    result = judged.result | {"resolution": list(backbone.preprocess.size), "neurons": []}
    rows: list[list[Any]] = []
    if judged.found:
        scores = neuron_scores(cfg, backbone, images, chosen, judged.affected, judged.layers)
        ranked, rows = rank(cfg, scores, planted_neurons(backbone))
        result |= {"highest_layer": scores.highest, **ranked}
    return result | {"found": "reason" not in result}, rows


@dataclass(frozen=True)
class Judged:
    """Outlier patches of n images: the blocks, what the deciding one has above its threshold, and all that in words.

    ``result`` holds numbers with intervals, and a ``reason`` where there are too few outliers to look for neurons.
    """

    layers: outliers.OutlierLayer
    tokens: outliers.OutlierTokens
    result: dict[str, Any]

    @property
    def found(self) -> bool:
        """Whether there are enough of them."""
        return "reason" not in self.result

    @property
    def affected(self) -> NDArray[np.bool_]:
        """Which images have any (n,)."""
        return self.tokens.affected.astype(bool)


def judge(cfg: DetectConfig, norms: "PatchNorms") -> Judged:
    """Which of the patches of some images are outliers."""
    settings = cfg.detection
    layers = outliers.outlier_layer(
        norms.blocks, settings.threshold_rule, settings.threshold, settings.outlier_layer, settings.minimum_share
    )
    found = outliers.find(norms.blocks[:, layers.layer], layers.threshold)
    judged = Judged(layers, found, _outliers(cfg, layers, found))
    if judged.found and judged.affected.any():
        own = judged.affected
        judged.result.update(_embedded(cfg, norms.embeddings[own], norms.embeddings, found.positions[own]))
    return judged


def _check_layers(cfg: DetectConfig, backbone: Backbone) -> None:
    """Refuse a layer that the model lacks."""
    depth = backbone.depth
    for key, layer in (
        ("outlier_layer", cfg.detection.outlier_layer),
        ("highest_layer", cfg.detection.highest_layer),
    ):
        if isinstance(layer, int) and not -depth <= layer < depth:
            raise InputError(
                f"params: detection: {key}: {layer} for model '{cfg.model}' of {depth} blocks; expected {-depth} to "
                f"{depth - 1}, or set it under detection_overrides"
            )


def passed(
    cfg: PassConfig,
    backbone: Backbone,
    images: Batches,
    rows: Rows,
    fresh: Callable[[], list[Reader]],
    each: Callable[[Sequence[Reader]], None] = lambda readers: None,
) -> list[Reader]:
    """Pass images to ``fresh`` readers, call ``each`` after every batch, and return the readers."""
    size = batch_size(cfg.batch_size, backbone, None, fresh, cfg.precision, cfg.memory_mb)
    readers, batches = fresh(), batched(rows, size)
    with reading(backbone, readers, cfg.precision) as forward:
        for pixels in images.batches(batches):
            forward(pixels)
            each(readers)
    return readers


@dataclass(frozen=True)
class PatchNorms:
    """Norms of the patches of m images: at the output of every block (m, layers, p), and of their embeddings (m, p)."""

    blocks: Floats
    embeddings: Floats


def patch_norms(cfg: PassConfig, backbone: Backbone, images: Batches, rows: Rows) -> PatchNorms:
    """Norms of the patches of images."""
    found: dict[str, list[Floats]] = {"norms": [], "embedding_norms": []}

    def keep(readers: Sequence[Reader]) -> None:
        for name, array in (item for reader in readers for item in reader.take().items()):
            found[name].append(array[:, :, backbone.layout.patch_slice] if name == "norms" else array)

    def fresh() -> list[Reader]:
        return [Norms(backbone, backbone.layout), EmbeddingNorms(backbone, backbone.layout)]

    passed(cfg, backbone, images, rows, fresh, keep)
    norms = PatchNorms(np.concatenate(found["norms"]), np.concatenate(found["embedding_norms"]))
    refuse_not_finite(cfg, norms)
    return norms


def refuse_not_finite(cfg: PassConfig, norms: PatchNorms) -> None:
    """:class:`InputError` where norms are not finite: they would be above no threshold, without a word."""
    broken = int((~np.isfinite(norms.blocks)).any(axis=(1, 2)).sum())
    if broken:
        raise InputError(
            f"norms of model '{cfg.model}' on '{cfg.dataset}' are not finite in {broken} of {len(norms.blocks)} "
            f"images; detection ran in {cfg.precision}: take bf16 or fp32 for fp16, else check the weights"
        )


def _embedded(cfg: DetectConfig, affected: Floats, everywhere: Floats, positions: NDArray[np.bool_]) -> dict[str, Any]:
    """Share of the outliers whose patch embeddings are outliers by the same rule: no neuron has made those.

    Mean over the images that have outliers at ``positions`` (n, p); ``affected`` (n, p): norms of their embeddings,
    ``everywhere`` (m, p) those of all images, which the threshold is of.
    """
    limit = outliers.threshold(everywhere, cfg.detection.threshold_rule, cfg.detection.threshold)
    shares = ((affected > limit) & positions).sum(axis=1) / positions.sum(axis=1)
    draw = generator(cfg.seed, "bootstrap", cfg.dataset, len(shares))
    bootstrap = Bootstrap(len(shares), cfg.statistics.resamples, cfg.statistics.confidence, draw)
    return {"embedded": float(shares.mean()), "embedded_interval": list(bootstrap.interval(shares))}


def _outliers(cfg: DetectConfig, layers: outliers.OutlierLayer, found: outliers.OutlierTokens) -> dict[str, Any]:
    """The threshold and what exceeds it; a ``reason`` where that is too little, or where it was defined to be there.

    Intervals are over images. Their resamples are those of all experiments, so that a number that two of them report
    has one interval.
    """
    settings, images = cfg.detection, len(found.positions)
    draw = generator(cfg.seed, "bootstrap", cfg.dataset, images)
    bootstrap = Bootstrap(images, cfg.statistics.resamples, cfg.statistics.confidence, draw)
    rule = f"{settings.threshold_rule} {settings.threshold:g}"
    result: dict[str, Any] = {
        "threshold": layers.threshold,
        "rule": rule,
        "score": settings.score,
        "top_k": settings.top_k,
        "split": settings.split,
        "images": images,
        "share": found.share,
        "share_interval": list(bootstrap.interval(found.per_image)),
        "images_affected": found.images_affected,
        "images_affected_interval": list(bootstrap.interval(found.affected)),
        "outlier_layer": layers.layer,
        "share_by_layer": layers.shares,
        "threshold_by_layer": layers.thresholds,
        "first_layer": layers.first,
        "defined": not settings.finds,
    }
    if result["defined"]:
        result["reason"] = (
            f"artifacts were not looked for: patches above the {settings.threshold:g}th percentile of all norms are "
            "high-norm patches by definition"
        )
    elif found.share < settings.minimum_share:
        result["reason"] = (
            f"no outlier patches found: {found.share:.2%} of the patches exceed {layers.threshold:.3g} ({rule}), "
            f"{settings.minimum_share:.2%} are needed"
        )
    return result


def highest_layer(asked: int | str, layers: outliers.OutlierLayer, depth: int) -> int:
    """The last block whose neurons are ranked, counted from 0; the last of all where artifacts arise nowhere."""
    if asked == "arising":
        return depth - 1 if layers.first is None else layers.first
    return int(asked) % depth


@dataclass(frozen=True)
class Scored:
    """Scores of neurons up to block ``highest``, over so many ``images`` with outliers.

    ``whole``: (layers, h); ``resampled``: (n, layers, h), over resamples of all images that were looked at.
    """

    highest: int
    images: int
    whole: Scores
    resampled: Scores


def neuron_scores(
    cfg: DetectConfig,
    backbone: Backbone,
    images: Batches,
    chosen: Rows,
    affected: NDArray[np.bool_],
    layers: outliers.OutlierLayer,
) -> Scored:
    """Scores of neurons at the outliers of the images ``chosen`` (n,); those that are ``affected`` (n,) pass again."""
    settings = cfg.detection
    draw = generator(cfg.seed, "neurons", cfg.dataset, cfg.model)
    counts = resample_counts(len(chosen), settings.bootstrap, draw)[:, affected]
    highest = highest_layer(settings.highest_layer, layers, backbone.depth)

    def fresh() -> list[Reader]:
        how = settings.sparsity, counts, settings.sparsity_tokens
        return [NeuronScores(backbone, layers.layer, highest, layers.threshold, *how)]

    # A batch's activations of all ranked layers are held at once.
    (reader,) = passed(cfg, backbone, images, chosen[affected], fresh)
    assert isinstance(reader, NeuronScores)
    whole, resampled = (scored(scores, settings.score, backbone) for scores in reader.scores())
    return Scored(highest, int(affected.sum()), whole, resampled)


def rank(cfg: DetectConfig, found: Scored, planted: set[Neuron]) -> tuple[dict[str, Any], list[list[Any]]]:
    """The best neurons with how stable they are, and rows of the ranking; a ``reason`` where too few fire.

    Where the model was ``planted``, how many of the best are planted ones, and of those how many are among the best.
    """
    scores, k = found.whole, cfg.detection.top_k
    order = ranking(scores)
    result: dict[str, Any] = {"ranked": len(order), "images_ranked": found.images}
    firing = int((scores > 0.0).sum())
    if firing < k:
        result["reason"] = (
            f"no register neurons found: {firing} neurons fire at the outlier patches of {found.images} images, {k} "
            "are needed"
        )
        return result, []
    orders = [ranking(sample, k + 1) for sample in found.resampled]
    tops = [set(each[:k]) for each in orders]
    frequency = {neuron: float(np.mean([neuron in top for top in tops])) for neuron in order[:LISTED]}
    result["neurons"] = [[layer, index, float(scores[layer, index])] for layer, index in order[: 4 * k]]
    result["stability"] = float(np.mean([len(top & set(order[:k])) / k for top in tops]))

    def interval(values: list[float]) -> list[float]:
        return list(percentiles(np.asarray(values), cfg.statistics.confidence))

    if firing > k:
        result["next_ratio"] = float(scores[order[k - 1]] / scores[order[k]])
        ratios = [s[o[k - 1]] / s[o[k]] for s, o in zip(found.resampled, orders, strict=True) if s[o[k]] > 0.0]
        result["next_ratio_interval"] = interval(ratios) if ratios else [None, None]
    if planted:
        hits, again = len(planted & set(order[:k])), [len(planted & top) for top in tops]
        result |= {"precision": hits / k, "precision_interval": interval([each / k for each in again])}
        result |= {"recall": hits / len(planted), "recall_interval": interval([n / len(planted) for n in again])}
        result["planted"] = sorted(planted)
    return result, [[i, *n, float(scores[n]), frequency[n]] for i, n in enumerate(order[:LISTED])]


def planted_neurons(backbone: Backbone) -> set[Neuron]:
    """Neurons that the pipeline made register neurons; empty where none are known."""
    neurons = backbone.metadata.get("planted", {}).get("neurons", [])
    return {(int(layer), int(index)) for layer, index in neurons}


def _write_ranking(path: Path, rows: list[list[Any]]) -> None:
    """The first neurons of the ranking as CSV; only a header where none was found."""
    with replacing(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["rank", "layer", "index", "score", "frequency_in_top_k"])
        writer.writerows(rows)
