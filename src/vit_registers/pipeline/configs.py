"""The part of params that each step which is no measure gets, and nothing more.

Snakemake compares these to decide what is redone, and a job picks its own from the same params: what is tracked is what
runs. A name that is also in the output's path (``dataset``, ``model``) tells a step where it is.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel

from vit_registers.core.errors import InputError
from vit_registers.params.base import Strict, Untracked
from vit_registers.params.bases import DatasetSource, Intervention, ModelSource, Recipe
from vit_registers.params.condition import BASELINE
from vit_registers.params.kinds import KindsIn
from vit_registers.params.passes import Calibration, Detection, Extraction, Loading
from vit_registers.params.planting import Planting
from vit_registers.params.shard import Shard, shards
from vit_registers.params.statistics import Statistics
from vit_registers.params.study import Params
from vit_registers.pipeline import experiment

AnyDataset = Annotated[DatasetSource, KindsIn("vit_registers.data.sources")]
AnyModel = Annotated[ModelSource, KindsIn("vit_registers.models.sources")]
AnyRecipe = Annotated[Recipe, KindsIn("vit_registers.training.recipes")]
AnyIntervention = Annotated[Intervention, KindsIn("vit_registers.interventions.kinds")]
# What every pass takes of the settings of extraction.
PASSING = ("batch_size", "memory_mb", "precision", *Loading.model_fields)


class PrepareConfig(Strict):
    """A data set to a manifest; ``limit`` as in params."""

    seed: int
    name: str
    source: AnyDataset
    limit: int | None = None


class FetchConfig(Strict):
    """A model by name or from a file."""

    seed: int
    name: str
    source: AnyModel


class TrainConfig(Strict):
    """A ViT from scratch; ``draws`` as in params (models.sources.trained)."""

    seed: int
    device: str
    name: str
    dataset: str
    registers: int
    recipe: AnyRecipe
    draws: str | None = None

    @property
    def drawn_as(self) -> str:
        """The name of what is drawn for it."""
        return self.draws or self.name


class PlantConfig(Strict):
    """A trained model to a tagged one, or a tagged model to a planted one."""

    seed: int
    name: str
    kind: str
    base: str
    dataset: str
    planting: Planting


class ResizeConfig(Strict):
    """Any model at another input size; its base may have been made in any way."""

    name: str
    source: AnyModel


class PassConfig(Loading):
    """One model over one data set, once."""

    seed: int
    device: str
    dataset: str
    model: str
    batch_size: int | Literal["auto"]
    memory_mb: int
    precision: str


class CalibrateConfig(PassConfig):
    """Activation statistics of one model on one data set."""

    calibration: Calibration


class DetectConfig(PassConfig):
    """Outlier tokens and register neurons of one model on one data set."""

    detection: Detection
    statistics: Statistics


class ExtractConfig(Strict):
    """One model over one data set under named interventions (``baseline``: none)."""

    seed: int
    device: str
    dataset: str
    model: str
    extraction: Extraction
    interventions: dict[str, AnyIntervention | None]

    @property
    def calibrated(self) -> bool:
        """Whether an intervention needs activation statistics."""
        return any(each is not None and each.calibrated for each in self.interventions.values())


class ShardConfig(ExtractConfig):
    """The same for a job that passes a part of the batches, such as 2-of-3."""

    shard: str

    @property
    def part(self) -> Shard:
        """The part."""
        return Shard.parse(self.shard)


def tracked(part: BaseModel) -> dict[str, Any]:
    """Params as plain JSON without the fields that say how a job goes and never what it gives (``Untracked``)."""
    return part.model_dump(mode="json", exclude=_untracked(part))


def _untracked(part: BaseModel) -> dict[str, Any]:
    """Fields that are not tracked, nested as pydantic wants them."""
    found: dict[str, Any] = {}
    for name, field in type(part).model_fields.items():
        value = getattr(part, name)
        if any(isinstance(mark, Untracked) for mark in field.metadata):
            found[name] = True
        elif isinstance(value, BaseModel) and (inner := _untracked(value)):
            found[name] = inner
    return found


def prepare(params: Params, dataset: str) -> PrepareConfig:
    """Config of ``prepare``."""
    source = named(params.datasets, dataset, "datasets", "data set")
    return PrepareConfig(seed=params.seed, name=dataset, source=source, limit=params.limit)


def fetch(params: Params, model: str) -> FetchConfig:
    """Config of ``fetch``."""
    return FetchConfig(seed=params.seed, name=model, source=_made_by(params, model, "fetch"))


def train(params: Params, model: str) -> TrainConfig:
    """Config of ``train``: the recipe with the model's own architecture on top."""
    source: Any = _made_by(params, model, "train")
    return TrainConfig(
        seed=params.seed,
        device=params.device,
        name=model,
        dataset=source.dataset,
        registers=source.registers,
        recipe=source.recipe_of(params),
        draws=source.draws,
    )


def plant(params: Params, model: str) -> PlantConfig:
    """Config of ``plant``."""
    source: Any = _made_by(params, model, "plant")
    return PlantConfig(
        seed=params.seed,
        name=model,
        kind=source.kind,
        base=source.base,
        dataset=params.training_dataset(model),
        planting=params.plantings[source.planting],
    )


def resize(params: Params, model: str) -> ResizeConfig:
    """Config of ``resize``."""
    return ResizeConfig(name=model, source=_made_by(params, model, "resize"))


def extract(params: Params, dataset: str, model: str) -> ExtractConfig:
    """Config of ``extract``: the model as it is."""
    config = _extract(params, dataset, model, [BASELINE])
    return _without_training(config) if params.run_of(dataset, model).heads == "none" else config


def ablate(params: Params, dataset: str, model: str) -> ExtractConfig:
    """Config of ``ablate``: every named intervention of the pair."""
    config = _extract(params, dataset, model, params.conditions(dataset, model)[1:])
    return config if params.run_of(dataset, model).heads == "refitted" else _without_training(config)


def extract_shard(params: Params, dataset: str, model: str, shard: str) -> ShardConfig:
    """Config of ``extract_shard``."""
    return _shard(extract(params, dataset, model), shard)


def ablate_shard(params: Params, dataset: str, model: str, shard: str) -> ShardConfig:
    """Config of ``ablate_shard``."""
    return _shard(ablate(params, dataset, model), shard)


def _shard(whole: ExtractConfig, shard: str) -> ShardConfig:
    known = [str(each) for each in shards(whole.extraction.shards)]
    if shard not in known:
        raise InputError(
            f"shard '{shard}': params share data set '{whole.dataset}' among {len(known)} (extraction.shards), "
            f"{known[0]} to {known[-1]}; name one of them"
        )
    return ShardConfig(**{name: getattr(whole, name) for name in ExtractConfig.model_fields}, shard=shard)


def _without_training(config: ExtractConfig) -> ExtractConfig:
    """No training images pass under any condition of the config."""
    extraction = config.extraction.model_copy(update={"frozen_only": sorted(config.interventions)})
    return config.model_copy(update={"extraction": extraction})


def _extract(params: Params, dataset: str, model: str, names: list[str]) -> ExtractConfig:
    return ExtractConfig(
        seed=params.seed,
        device=params.device,
        dataset=dataset,
        model=model,
        extraction=_extraction(params, dataset, model),
        interventions={name: params.interventions.get(name) for name in names},
    )


def _extraction(params: Params, dataset: str, model: str) -> Extraction:
    """What the pass keeps of a pair: second views pass only where an experiment of its run reads them."""
    experiments, extraction = params.experiments_of(params.run_of(dataset, model)), params.extraction_of(dataset)
    if experiment.reading("pairs", experiments):
        return extraction
    return extraction.model_copy(update={"pairs": 0})


def calibrate(params: Params, dataset: str, model: str) -> CalibrateConfig:
    """Config of ``calibrate``."""
    return CalibrateConfig(**_pass(params, dataset, model), calibration=params.calibration)


def detect(params: Params, dataset: str, model: str) -> DetectConfig:
    """Config of ``detect``: the general settings with the model's own on top."""
    return DetectConfig(
        **_pass(params, dataset, model), detection=params.detection_of(model), statistics=params.statistics
    )


def _pass(params: Params, dataset: str, model: str) -> dict[str, Any]:
    return {
        "seed": params.seed,
        "device": params.device,
        "dataset": dataset,
        "model": model,
        **{name: getattr(params.extraction_of(dataset), name) for name in PASSING},
    }


def named(among: dict[str, Any], name: str, section: str, what: str) -> Any:
    """What ``section`` of params has under a name, or :class:`InputError`."""
    if name not in among:
        raise InputError(f"{section}: unknown {what} '{name}'; known are {', '.join(among)}")
    return among[name]


def _made_by(params: Params, model: str, step: str) -> ModelSource:
    source: ModelSource = named(params.models, model, "models", "model")
    if source.step != step:
        raise InputError(f"models.{model}: is made by `vit-registers {source.step}`, not by {step}; use that command")
    return source
