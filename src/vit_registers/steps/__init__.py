"""The slice of params that each step sees, and nothing more.

Snakemake compares these slices to decide what is redone, and hands each step its own as JSON: what is tracked is what
runs. A name in a slice that is also in the output's path (``dataset``, ``model``) tells the step where it is.
"""

from vit_registers.steps.models import (
    CostStep,
    FetchStep,
    PlantStep,
    PrepareStep,
    TrainingStep,
    TrainStep,
    cost,
    model,
    prepare,
    training,
)
from vit_registers.steps.passes import (
    CalibrateStep,
    DetectStep,
    ExtractStep,
    NeuronsStep,
    PassStep,
    SweepStep,
    calibrate,
    detect,
    extract,
    neurons,
    sweep,
)
from vit_registers.steps.readouts import (
    CompareStep,
    InformationStep,
    LostStep,
    ProbeStep,
    ReadoutStep,
    TokensStep,
    compare,
    information,
    lost,
    probe,
    tokens,
)
from vit_registers.steps.views import ReportStep, ViewStep, report, view

__all__ = [
    "CalibrateStep",
    "CompareStep",
    "CostStep",
    "DetectStep",
    "ExtractStep",
    "FetchStep",
    "InformationStep",
    "LostStep",
    "NeuronsStep",
    "PassStep",
    "PlantStep",
    "PrepareStep",
    "ProbeStep",
    "ReadoutStep",
    "ReportStep",
    "SweepStep",
    "TokensStep",
    "TrainStep",
    "TrainingStep",
    "ViewStep",
    "calibrate",
    "compare",
    "cost",
    "detect",
    "extract",
    "information",
    "lost",
    "model",
    "neurons",
    "prepare",
    "probe",
    "report",
    "sweep",
    "tokens",
    "training",
    "view",
]
