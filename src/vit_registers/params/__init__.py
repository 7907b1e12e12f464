"""``params.yaml``, typed and validated: what a study runs, and the slice of it that each step may see.

A step gets its slice and nothing else (steps/), so that changing a value redoes what depends on it and nothing more.
Slices leave out the axes that are already in the path of the output (data set, model) where a list of them is meant.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vit_registers.models.bases import FetchedModel
    from vit_registers.models.resampling import PositionResampling
    from vit_registers.models.sources.checkpoint import FileModel
    from vit_registers.models.sources.openclip import OpenClipModel
    from vit_registers.models.sources.planted import PlantedModel
    from vit_registers.models.sources.resized import ResizedModel
    from vit_registers.models.sources.tagged import TaggedModel
    from vit_registers.models.sources.timm_hub import TimmModel
    from vit_registers.models.sources.trained import OtherSize, TrainedModel
    from vit_registers.params.base import Strict
    from vit_registers.params.bases import AnyModel, AnyRecipe, Recipe
    from vit_registers.params.datasets import (
        CifarDataset,
        CocoDataset,
        CsvDataset,
        Dataset,
        FolderDataset,
        GeneratedDataset,
        VocDataset,
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
    from vit_registers.params.planting import Planting
    from vit_registers.params.reading import check_paths, load, overlay, parse, read_yaml
    from vit_registers.params.readouts import (
        Comparison,
        Cost,
        CountedArchitecture,
        Dense,
        DinoSeg,
        Energy,
        Gallery,
        Information,
        Knn,
        LinearEvaluation,
        Lost,
        LostSweep,
        Probe,
        PublishedEnergy,
        Statistics,
        ZeroShot,
    )
    from vit_registers.params.study import Params, Run, Study
    from vit_registers.training.architectures import Architecture, NamedArchitecture
    from vit_registers.training.recipes.deit3 import Deit3Recipe
    from vit_registers.training.recipes.dino import DinoRecipe, Projection
    from vit_registers.training.recipes.small import SmallRecipe

__all__ = [
    "AnyModel",
    "AnyRecipe",
    "Append",
    "Architecture",
    "Calibration",
    "Chain",
    "CifarDataset",
    "CocoDataset",
    "Comparison",
    "Cost",
    "CountedArchitecture",
    "CsvDataset",
    "Dataset",
    "Deit3Recipe",
    "Dense",
    "Detection",
    "DinoRecipe",
    "DinoSeg",
    "Energy",
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
    "MoveNeurons",
    "NamedArchitecture",
    "OpenClipModel",
    "OtherSize",
    "Params",
    "PlantedModel",
    "Planting",
    "PositionResampling",
    "Probe",
    "Projection",
    "PublishedEnergy",
    "Recipe",
    "Replace",
    "ResizedModel",
    "RestrictClsAttention",
    "Run",
    "SmallRecipe",
    "Statistics",
    "Strict",
    "Study",
    "TaggedModel",
    "TimmModel",
    "TrainedModel",
    "VocDataset",
    "ZeroShot",
    "check_paths",
    "load",
    "needs_calibration",
    "overlay",
    "parse",
    "read_yaml",
    "singles",
]

_WHERE = {
    "AnyModel": "vit_registers.params.bases",
    "AnyRecipe": "vit_registers.params.bases",
    "Append": "vit_registers.params.passes",
    "Architecture": "vit_registers.training.architectures",
    "Calibration": "vit_registers.params.passes",
    "Chain": "vit_registers.params.passes",
    "CifarDataset": "vit_registers.params.datasets",
    "CocoDataset": "vit_registers.params.datasets",
    "Comparison": "vit_registers.params.readouts",
    "Cost": "vit_registers.params.readouts",
    "CountedArchitecture": "vit_registers.params.readouts",
    "CsvDataset": "vit_registers.params.datasets",
    "Dataset": "vit_registers.params.datasets",
    "Deit3Recipe": "vit_registers.training.recipes.deit3",
    "Dense": "vit_registers.params.readouts",
    "Detection": "vit_registers.params.passes",
    "DinoRecipe": "vit_registers.training.recipes.dino",
    "DinoSeg": "vit_registers.params.readouts",
    "Energy": "vit_registers.params.readouts",
    "Extraction": "vit_registers.params.passes",
    "FetchedModel": "vit_registers.models.bases",
    "FileModel": "vit_registers.models.sources.checkpoint",
    "FolderDataset": "vit_registers.params.datasets",
    "Gallery": "vit_registers.params.readouts",
    "GeneratedDataset": "vit_registers.params.datasets",
    "Information": "vit_registers.params.readouts",
    "Intervention": "vit_registers.params.passes",
    "Knn": "vit_registers.params.readouts",
    "LinearEvaluation": "vit_registers.params.readouts",
    "Lost": "vit_registers.params.readouts",
    "LostSweep": "vit_registers.params.readouts",
    "MoveNeurons": "vit_registers.params.passes",
    "NamedArchitecture": "vit_registers.training.architectures",
    "OpenClipModel": "vit_registers.models.sources.openclip",
    "OtherSize": "vit_registers.models.sources.trained",
    "Params": "vit_registers.params.study",
    "PlantedModel": "vit_registers.models.sources.planted",
    "Planting": "vit_registers.params.planting",
    "PositionResampling": "vit_registers.models.resampling",
    "Probe": "vit_registers.params.readouts",
    "Projection": "vit_registers.training.recipes.dino",
    "PublishedEnergy": "vit_registers.params.readouts",
    "Recipe": "vit_registers.params.bases",
    "Replace": "vit_registers.params.passes",
    "ResizedModel": "vit_registers.models.sources.resized",
    "RestrictClsAttention": "vit_registers.params.passes",
    "Run": "vit_registers.params.study",
    "SmallRecipe": "vit_registers.training.recipes.small",
    "Statistics": "vit_registers.params.readouts",
    "Strict": "vit_registers.params.base",
    "Study": "vit_registers.params.study",
    "TaggedModel": "vit_registers.models.sources.tagged",
    "TimmModel": "vit_registers.models.sources.timm_hub",
    "TrainedModel": "vit_registers.models.sources.trained",
    "VocDataset": "vit_registers.params.datasets",
    "ZeroShot": "vit_registers.params.readouts",
    "check_paths": "vit_registers.params.reading",
    "load": "vit_registers.params.reading",
    "needs_calibration": "vit_registers.params.passes",
    "overlay": "vit_registers.params.reading",
    "parse": "vit_registers.params.reading",
    "read_yaml": "vit_registers.params.reading",
    "singles": "vit_registers.params.passes",
}


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(name)
    return getattr(importlib.import_module(_WHERE[name]), name)
