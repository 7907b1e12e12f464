"""``params.yaml``, typed and validated: what a study runs, and the slice of it that each step may see.

A step gets its slice and nothing else (steps.py), so that changing a value redoes what depends on it and nothing more.
Slices leave out the axes that are already in the path of the output (data set, model) where a list of them is meant.
"""

from vit_registers.params.base import Strict
from vit_registers.params.datasets import CsvDataset, Dataset, FolderDataset, GeneratedDataset
from vit_registers.params.models import (
    Architecture,
    FetchedModel,
    FileModel,
    Model,
    OpenClipModel,
    PlantedModel,
    Planting,
    PositionResampling,
    Recipe,
    TaggedModel,
    TimmModel,
    TrainedModel,
)
from vit_registers.params.passes import (
    Append,
    Calibration,
    Chain,
    Detection,
    Extraction,
    Intervention,
    MoveNeurons,
    Replace,
    RestrictClsAttention,
    needs_calibration,
    singles,
)
from vit_registers.params.reading import check_paths, load, overlay, parse, read_yaml
from vit_registers.params.readouts import (
    Comparison,
    DinoSeg,
    Gallery,
    Information,
    Knn,
    LinearEvaluation,
    Lost,
    LostSweep,
    Probe,
    Statistics,
)
from vit_registers.params.study import Params, Run, Study

__all__ = [
    "Append",
    "Architecture",
    "Calibration",
    "Chain",
    "Comparison",
    "CsvDataset",
    "Dataset",
    "Detection",
    "DinoSeg",
    "Extraction",
    "FetchedModel",
    "FileModel",
    "FolderDataset",
    "Gallery",
    "GeneratedDataset",
    "Information",
    "Intervention",
    "Knn",
    "LinearEvaluation",
    "Lost",
    "LostSweep",
    "Model",
    "MoveNeurons",
    "OpenClipModel",
    "Params",
    "PlantedModel",
    "Planting",
    "PositionResampling",
    "Probe",
    "Recipe",
    "Replace",
    "RestrictClsAttention",
    "Run",
    "Statistics",
    "Strict",
    "Study",
    "TaggedModel",
    "TimmModel",
    "TrainedModel",
    "check_paths",
    "load",
    "needs_calibration",
    "overlay",
    "parse",
    "read_yaml",
    "singles",
]
