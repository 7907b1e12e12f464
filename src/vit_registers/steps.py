"""The slice of params that each step sees, and nothing more.

Snakemake compares these slices to decide what is redone, and hands each step its own as JSON: what is tracked is what
runs. A name in a slice that is also in the output's path (``dataset``, ``model``) tells the step where it is.
"""

from typing import Any, Literal

from vit_registers.errors import InputError
from vit_registers.params import (
    Calibration,
    Comparison,
    CountedArchitecture,
    Dataset,
    Detection,
    DinoSeg,
    Extraction,
    Gallery,
    Information,
    Intervention,
    Knn,
    LinearEvaluation,
    Lost,
    LostSweep,
    Model,
    Params,
    PlantedModel,
    Planting,
    Probe,
    Recipe,
    Replace,
    Statistics,
    Strict,
    TaggedModel,
    TrainedModel,
    singles,
)


class PrepareStep(Strict):
    """A data set to a manifest."""

    seed: int
    name: str
    source: Dataset


class FetchStep(Strict):
    """A model of timm or OpenCLIP to a model card."""

    seed: int
    name: str
    source: Model


class TrainStep(Strict):
    """A small ViT from nothing."""

    seed: int
    device: str
    name: str
    dataset: str
    registers: int
    recipe: Recipe


class PlantStep(Strict):
    """A trained model to a tagged one, or a tagged model to a planted one."""

    seed: int
    name: str
    kind: str
    base: str
    dataset: str
    planting: Planting


class PassStep(Strict):
    """One model over one data set, once."""

    seed: int
    device: str
    dataset: str
    model: str
    batch_size: int | Literal["auto"]
    memory_mb: int
    precision: str


class CalibrateStep(PassStep):
    """Moments of one model's block outputs on one data set."""

    calibration: Calibration


class ExtractStep(Strict):
    """One model over one data set under named interventions (``baseline``: none)."""

    seed: int
    device: str
    dataset: str
    model: str
    extraction: Extraction
    interventions: dict[str, Intervention | None]

    @property
    def calibrated(self) -> bool:
        """Whether an intervention replaces tokens by what calibration found."""
        single = [part for each in self.interventions.values() for part in singles(each)]
        return any(isinstance(part, Replace) and part.calibrated for part in single)


class DetectStep(PassStep):
    """Artifact tokens and register neurons of one model on one data set."""

    detection: Detection
    statistics: Statistics


class NeuronsStep(Strict):
    """The register neurons of one model on every data set it was looked at on."""

    model: str
    datasets: list[str]


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


class SweepStep(Strict):
    """LOST of one model on one data set under every setting."""

    seed: int
    device: str
    dataset: str
    model: str
    extraction: Extraction
    lost: Lost
    sweep: LostSweep
    statistics: Statistics


class InformationStep(Strict):
    """What single tokens of one model on one data set know; ``outlier_layer`` is the block whose norms are high."""

    seed: int
    dataset: str
    model: str
    outlier_layer: int
    information: Information
    statistics: Statistics


class CostStep(Strict):
    """Parameters and operations of architectures by number of registers."""

    registers: list[int]
    architectures: dict[str, CountedArchitecture]


class TrainingStep(Strict):
    """What was watched while a model trained."""

    model: str


class TokensStep(ReadoutStep):
    """Norms, attention and maps of tokens, layer by layer."""

    gallery: Gallery


class CompareStep(Strict):
    """Paired differences between conditions."""

    seed: int
    dataset: str
    comparisons: list[Comparison]
    statistics: Statistics


class ViewStep(Strict):
    """Tables and figures: which rows, in which order, under which names."""

    title: str
    runs: list[dict[str, Any]]
    detections: list[dict[str, Any]]
    comparisons: list[Comparison]
    interventions: dict[str, Intervention]
    kinds: dict[str, str]
    registers: dict[str, int]
    costs: list[str]
    confidence: float


class ReportStep(Strict):
    """The methods text states the params that ran."""

    params: dict[str, Any]


def prepare(params: Params, dataset: str) -> PrepareStep:
    """Slice of ``vit-registers prepare``."""
    if dataset not in params.datasets:
        raise InputError(f"datasets: unknown data set '{dataset}'; known are {', '.join(params.datasets)}")
    return PrepareStep(seed=params.seed, name=dataset, source=params.datasets[dataset])


def _source(params: Params, model: str) -> Any:
    if model not in params.models:
        raise InputError(f"models: unknown model '{model}'; known are {', '.join(params.models)}")
    return params.models[model]


def model(params: Params, name: str) -> FetchStep | TrainStep | PlantStep:
    """Slice of the step that makes a model: ``fetch``, ``train`` or ``plant``."""
    source = _source(params, name)
    if isinstance(source, TrainedModel):
        recipe = params.recipes[source.recipe]
        return TrainStep(
            seed=params.seed,
            device=params.device,
            name=name,
            dataset=source.dataset,
            registers=source.registers,
            recipe=recipe,
        )
    if isinstance(source, TaggedModel | PlantedModel):
        return PlantStep(
            seed=params.seed,
            name=name,
            kind=source.kind,
            base=source.base,
            dataset=params.training_dataset(name),
            planting=params.plantings[source.planting],
        )
    return FetchStep(seed=params.seed, name=name, source=source)


def extract(params: Params, dataset: str, model: str, ablated: bool) -> ExtractStep:
    """Slice of ``vit-registers extract``: the baseline, or every named intervention of the pair."""
    names = params.conditions(dataset, model)[1:] if ablated else ["baseline"]
    return ExtractStep(
        seed=params.seed,
        device=params.device,
        dataset=dataset,
        model=model,
        extraction=params.extraction,
        interventions={name: params.interventions.get(name) for name in names},
    )


def calibrate(params: Params, dataset: str, model: str) -> CalibrateStep:
    """Slice of ``vit-registers calibrate``."""
    return CalibrateStep(**_pass(params, dataset, model), calibration=params.calibration)


def _pass(params: Params, dataset: str, model: str) -> dict[str, Any]:
    return {
        "seed": params.seed,
        "device": params.device,
        "dataset": dataset,
        "model": model,
        "batch_size": params.extraction.batch_size,
        "memory_mb": params.extraction.memory_mb,
        "precision": params.extraction.precision,
    }


def detect(params: Params, dataset: str, model: str) -> DetectStep:
    """Slice of ``vit-registers detect``: the general settings with the model's own on top."""
    return DetectStep(
        **_pass(params, dataset, model), detection=params.detection_of(model), statistics=params.statistics
    )


def neurons(params: Params, model: str) -> NeuronsStep:
    """Slice of ``vit-registers neurons``: every data set that the model's neurons are looked for on."""
    datasets = [dataset for dataset, name in params.detected_pairs() if name == model]
    if not datasets:
        raise InputError(f"study.runs: no run has model '{model}'")
    return NeuronsStep(model=model, datasets=datasets)


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


def sweep(params: Params, dataset: str, model: str) -> SweepStep:
    """Slice of ``vit-registers sweep``."""
    if params.lost_sweep is None:
        raise InputError("lost_sweep: null; say which settings to sweep over")
    return SweepStep(
        seed=params.seed,
        device=params.device,
        dataset=dataset,
        model=model,
        extraction=params.extraction,
        lost=params.lost,
        sweep=params.lost_sweep,
        statistics=params.statistics,
    )


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


def cost(params: Params) -> CostStep:
    """Slice of ``vit-registers cost``."""
    return CostStep(registers=params.cost.registers, architectures=params.cost.architectures)


def training(params: Params, model: str) -> TrainingStep:
    """Slice of ``vit-registers training``."""
    if not isinstance(_source(params, model), TrainedModel):
        raise InputError(f"models.{model}: not trained by this pipeline")
    return TrainingStep(model=model)


def tokens(params: Params, dataset: str, model: str) -> TokensStep:
    """Slice of ``vit-registers tokens``."""
    return TokensStep(**_readout(params, dataset, model), gallery=params.gallery)


def compare(params: Params, dataset: str) -> CompareStep:
    """Slice of ``vit-registers compare``: the comparisons whose both sides ran on the data set."""
    models = {m for run in params.study.runs if run.dataset == dataset for m in run.models}
    mine = [c for c in params.study.comparisons if {c.a.split("/")[0], c.b.split("/")[0]} <= models]
    return CompareStep(seed=params.seed, dataset=dataset, comparisons=mine, statistics=params.statistics)


def view(params: Params) -> ViewStep:
    """Slice of ``vit-registers table`` and ``vit-registers figure``."""
    used = params.models_used()
    return ViewStep(
        title=params.study.title,
        runs=[run.model_dump() for run in params.study.runs],
        detections=[further.model_dump() for further in params.study.detections],
        comparisons=params.study.comparisons,
        interventions={name: params.interventions[name] for run in params.study.runs for name in run.interventions},
        kinds={name: params.models[name].kind for name in used},
        registers={name: m.registers for name in used if isinstance(m := params.models[name], TrainedModel)},
        costs=list(params.cost.architectures),
        confidence=params.statistics.confidence,
    )


def report(params: Params) -> ReportStep:
    """Slice of ``vit-registers report``: all of it, because the methods text states all of it."""
    return ReportStep(params=params.model_dump(mode="json"))
