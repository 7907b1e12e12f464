"""``params.yaml``, typed and validated: what a study runs, and the slice of it that each step may see.

A step gets its slice and nothing else (steps/), so that changing a value redoes what depends on it and nothing more.
Slices leave out the axes that are already in the path of the output (data set, model) where a list of them is meant.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vit_registers.interventions.kinds.ablate import Ablate as Ablate
    from vit_registers.interventions.kinds.append import Append as Append
    from vit_registers.interventions.kinds.chain import Chain as Chain
    from vit_registers.interventions.kinds.restrict_cls_attention import RestrictClsAttention as RestrictClsAttention
    from vit_registers.interventions.kinds.test_time_registers import TestTimeRegisters as TestTimeRegisters
    from vit_registers.params.base import Strict as Strict
    from vit_registers.params.bases import Intervention as Intervention
    from vit_registers.params.datasets import (
        CifarDataset as CifarDataset,
    )
    from vit_registers.params.datasets import (
        CocoDataset as CocoDataset,
    )
    from vit_registers.params.datasets import (
        CsvDataset as CsvDataset,
    )
    from vit_registers.params.datasets import (
        Dataset as Dataset,
    )
    from vit_registers.params.datasets import (
        FolderDataset as FolderDataset,
    )
    from vit_registers.params.datasets import (
        GeneratedDataset as GeneratedDataset,
    )
    from vit_registers.params.datasets import (
        VocDataset as VocDataset,
    )
    from vit_registers.params.dino import DinoRecipe as DinoRecipe
    from vit_registers.params.dino import Projection as Projection
    from vit_registers.params.models import (
        AnyRecipe as AnyRecipe,
    )
    from vit_registers.params.models import (
        FetchedModel as FetchedModel,
    )
    from vit_registers.params.models import (
        FileModel as FileModel,
    )
    from vit_registers.params.models import (
        Model as Model,
    )
    from vit_registers.params.models import (
        OpenClipModel as OpenClipModel,
    )
    from vit_registers.params.models import (
        OtherSize as OtherSize,
    )
    from vit_registers.params.models import (
        PlantedModel as PlantedModel,
    )
    from vit_registers.params.models import (
        Planting as Planting,
    )
    from vit_registers.params.models import (
        ResizedModel as ResizedModel,
    )
    from vit_registers.params.models import (
        TaggedModel as TaggedModel,
    )
    from vit_registers.params.models import (
        TimmModel as TimmModel,
    )
    from vit_registers.params.models import (
        TrainedModel as TrainedModel,
    )
    from vit_registers.params.passes import Calibration as Calibration
    from vit_registers.params.passes import Detection as Detection
    from vit_registers.params.passes import Extraction as Extraction
    from vit_registers.params.positions import PositionResampling as PositionResampling
    from vit_registers.params.reading import (
        check_paths as check_paths,
    )
    from vit_registers.params.reading import (
        load as load,
    )
    from vit_registers.params.reading import (
        overlay as overlay,
    )
    from vit_registers.params.reading import (
        parse as parse,
    )
    from vit_registers.params.reading import (
        read_yaml as read_yaml,
    )
    from vit_registers.params.readouts import (
        Comparison as Comparison,
    )
    from vit_registers.params.readouts import (
        Cost as Cost,
    )
    from vit_registers.params.readouts import (
        CountedArchitecture as CountedArchitecture,
    )
    from vit_registers.params.readouts import (
        Dense as Dense,
    )
    from vit_registers.params.readouts import (
        DinoSeg as DinoSeg,
    )
    from vit_registers.params.readouts import (
        Energy as Energy,
    )
    from vit_registers.params.readouts import (
        Gallery as Gallery,
    )
    from vit_registers.params.readouts import (
        Information as Information,
    )
    from vit_registers.params.readouts import (
        Knn as Knn,
    )
    from vit_registers.params.readouts import (
        LinearEvaluation as LinearEvaluation,
    )
    from vit_registers.params.readouts import (
        Lost as Lost,
    )
    from vit_registers.params.readouts import (
        LostSweep as LostSweep,
    )
    from vit_registers.params.readouts import (
        Probe as Probe,
    )
    from vit_registers.params.readouts import (
        PublishedEnergy as PublishedEnergy,
    )
    from vit_registers.params.readouts import (
        Statistics as Statistics,
    )
    from vit_registers.params.readouts import (
        ZeroShot as ZeroShot,
    )
    from vit_registers.params.recipes import (
        Architecture as Architecture,
    )
    from vit_registers.params.recipes import (
        Deit3Recipe as Deit3Recipe,
    )
    from vit_registers.params.recipes import (
        NamedArchitecture as NamedArchitecture,
    )
    from vit_registers.params.recipes import (
        Recipe as Recipe,
    )
    from vit_registers.params.recipes import (
        SmallRecipe as SmallRecipe,
    )
    from vit_registers.params.study import Params as Params
    from vit_registers.params.study import Run as Run
    from vit_registers.params.study import Study as Study

_WHERE = {
    "Ablate": "vit_registers.interventions.kinds.ablate",
    "AnyRecipe": "vit_registers.params.models",
    "Append": "vit_registers.interventions.kinds.append",
    "Architecture": "vit_registers.params.recipes",
    "Calibration": "vit_registers.params.passes",
    "Chain": "vit_registers.interventions.kinds.chain",
    "CifarDataset": "vit_registers.params.datasets",
    "CocoDataset": "vit_registers.params.datasets",
    "Comparison": "vit_registers.params.readouts",
    "Cost": "vit_registers.params.readouts",
    "CountedArchitecture": "vit_registers.params.readouts",
    "CsvDataset": "vit_registers.params.datasets",
    "Dataset": "vit_registers.params.datasets",
    "Deit3Recipe": "vit_registers.params.recipes",
    "Dense": "vit_registers.params.readouts",
    "Detection": "vit_registers.params.passes",
    "DinoRecipe": "vit_registers.params.dino",
    "DinoSeg": "vit_registers.params.readouts",
    "Energy": "vit_registers.params.readouts",
    "Extraction": "vit_registers.params.passes",
    "FetchedModel": "vit_registers.params.models",
    "FileModel": "vit_registers.params.models",
    "FolderDataset": "vit_registers.params.datasets",
    "Gallery": "vit_registers.params.readouts",
    "GeneratedDataset": "vit_registers.params.datasets",
    "Information": "vit_registers.params.readouts",
    "Intervention": "vit_registers.params.bases",
    "Knn": "vit_registers.params.readouts",
    "LinearEvaluation": "vit_registers.params.readouts",
    "Lost": "vit_registers.params.readouts",
    "LostSweep": "vit_registers.params.readouts",
    "Model": "vit_registers.params.models",
    "NamedArchitecture": "vit_registers.params.recipes",
    "OpenClipModel": "vit_registers.params.models",
    "OtherSize": "vit_registers.params.models",
    "Params": "vit_registers.params.study",
    "PlantedModel": "vit_registers.params.models",
    "Planting": "vit_registers.params.models",
    "PositionResampling": "vit_registers.params.positions",
    "Probe": "vit_registers.params.readouts",
    "Projection": "vit_registers.params.dino",
    "PublishedEnergy": "vit_registers.params.readouts",
    "Recipe": "vit_registers.params.recipes",
    "ResizedModel": "vit_registers.params.models",
    "RestrictClsAttention": "vit_registers.interventions.kinds.restrict_cls_attention",
    "Run": "vit_registers.params.study",
    "SmallRecipe": "vit_registers.params.recipes",
    "Statistics": "vit_registers.params.readouts",
    "Strict": "vit_registers.params.base",
    "Study": "vit_registers.params.study",
    "TaggedModel": "vit_registers.params.models",
    "TestTimeRegisters": "vit_registers.interventions.kinds.test_time_registers",
    "TimmModel": "vit_registers.params.models",
    "TrainedModel": "vit_registers.params.models",
    "VocDataset": "vit_registers.params.datasets",
    "ZeroShot": "vit_registers.params.readouts",
    "check_paths": "vit_registers.params.reading",
    "load": "vit_registers.params.reading",
    "overlay": "vit_registers.params.reading",
    "parse": "vit_registers.params.reading",
    "read_yaml": "vit_registers.params.reading",
}


def __getattr__(name: str) -> Any:
    """Import on demand: kinds import bases of params, and params import kinds."""
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_WHERE[name]), name)
