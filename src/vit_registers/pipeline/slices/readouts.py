"""Slices of the steps that measure cached features."""

from typing import Any

from vit_registers.core.errors import InputError
from vit_registers.params import (
    AnyModel,
    Comparison,
    Dense,
    DinoSeg,
    Gallery,
    Information,
    Knn,
    LinearEvaluation,
    Lost,
    Params,
    Probe,
    Statistics,
    Strict,
    ZeroShot,
)


class ReadoutStep(Strict):
    """What every readout of cached features needs to know; ``conditions`` are names of interventions."""

    seed: int
    dataset: str
    model: str
    conditions: list[str]
    statistics: Statistics


class ProbeStep(ReadoutStep):
    """Linear probe and kNN."""

    probe: Probe
    linear_evaluation: LinearEvaluation | None
    knn: Knn


class LostStep(ReadoutStep):
    """Boxes without labels and their CorLoc: LOST, and the attention of [CLS]."""

    lost: Lost
    dino_seg: DinoSeg
    gallery: Gallery


class DenseStep(ReadoutStep):
    """Segmentation and depth from patch tokens."""

    dense: Dense


class ZeroShotStep(ReadoutStep):
    """Classification by the text tower of an OpenCLIP model."""

    device: str
    source: AnyModel
    zero_shot: ZeroShot


class InformationStep(Strict):
    """What single tokens of one model on one data set know; ``outlier_layer`` is the block whose norms are high."""

    seed: int
    dataset: str
    model: str
    outlier_layer: int
    information: Information
    statistics: Statistics


class TokensStep(ReadoutStep):
    """Norms, attention and maps of tokens, layer by layer, and by grid position at ``outlier_layer``."""

    outlier_layer: int
    gallery: Gallery


class CompareStep(Strict):
    """Paired differences between conditions; ``with_text`` are the models that have a text tower."""

    seed: int
    dataset: str
    with_text: list[str]
    comparisons: list[Comparison]
    statistics: Statistics


def _readout(params: Params, dataset: str, model: str) -> dict[str, Any]:
    conditions = params.conditions(dataset, model)
    return {
        "seed": params.seed,
        "dataset": dataset,
        "model": model,
        "conditions": conditions,
        "statistics": params.statistics,
    }


def probe(params: Params, dataset: str, model: str) -> ProbeStep:
    """Slice of ``vit-registers probe``."""
    return ProbeStep(
        **_readout(params, dataset, model),
        probe=params.probe,
        linear_evaluation=params.linear_evaluation,
        knn=params.knn,
    )


def lost(params: Params, dataset: str, model: str) -> LostStep:
    """Slice of ``vit-registers lost``."""
    return LostStep(
        **_readout(params, dataset, model), lost=params.lost, dino_seg=params.dino_seg, gallery=params.gallery
    )


def dense(params: Params, dataset: str, model: str) -> DenseStep:
    """Slice of ``vit-registers dense``."""
    return DenseStep(**_readout(params, dataset, model), dense=params.dense)


def zero_shot(params: Params, dataset: str, model: str) -> ZeroShotStep:
    """Slice of ``vit-registers zero-shot``."""
    common = _readout(params, dataset, model)
    source = params.models[model]
    if not source.has_text_tower:
        raise InputError(f"models.{model}: kind '{source.kind}' has no text tower; zero-shot needs an openclip model")
    return ZeroShotStep(**common, device=params.device, source=source, zero_shot=params.zero_shot)


def information(params: Params, dataset: str, model: str) -> InformationStep:
    """Slice of ``vit-registers information``."""
    return InformationStep(
        seed=params.seed,
        dataset=dataset,
        model=model,
        outlier_layer=params.detection_of(model).outlier_layer,
        information=params.information,
        statistics=params.statistics,
    )


def tokens(params: Params, dataset: str, model: str) -> TokensStep:
    """Slice of ``vit-registers tokens``."""
    layer = params.detection_of(model).outlier_layer
    return TokensStep(**_readout(params, dataset, model), outlier_layer=layer, gallery=params.gallery)


def compare(params: Params, dataset: str) -> CompareStep:
    """Slice of ``vit-registers compare``: the comparisons whose both sides ran on the data set."""
    models = {m for run in params.study.runs if run.dataset == dataset for m in run.models}
    mine = [c for c in params.study.comparisons if {c.a.split("/")[0], c.b.split("/")[0]} <= models]
    compared = {side.split("/")[0] for c in mine for side in (c.a, c.b)}
    return CompareStep(
        seed=params.seed,
        dataset=dataset,
        with_text=[model for name, model in params.text_pairs() if name == dataset and model in compared],
        comparisons=mine,
        statistics=params.statistics,
    )
