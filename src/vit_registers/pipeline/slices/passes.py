"""Slices of the steps that pass images through a model."""

from typing import Annotated, Any, Literal

from vit_registers.core.errors import InputError
from vit_registers.params import (
    Calibration,
    Detection,
    Extraction,
    Lost,
    LostSweep,
    Params,
    Statistics,
    Strict,
)
from vit_registers.params.bases import Intervention
from vit_registers.params.kinds import KindsIn


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
    interventions: dict[str, Annotated[Intervention, KindsIn("vit_registers.interventions.kinds")] | None]

    @property
    def calibrated(self) -> bool:
        """Whether an intervention replaces tokens by what calibration found."""
        return any(each is not None and each.calibrated for each in self.interventions.values())


class DetectStep(PassStep):
    """Artifact tokens and register neurons of one model on one data set."""

    detection: Detection
    statistics: Statistics


class NeuronsStep(Strict):
    """The register neurons of one model on every data set it was looked at on."""

    model: str
    datasets: list[str]


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
