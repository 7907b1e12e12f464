"""Slices of the steps that make data sets and models, and of what is known of models without images."""

from typing import Any

from vit_registers.core.errors import InputError
from vit_registers.params.base import Strict
from vit_registers.params.bases import AnyModel, AnyRecipe
from vit_registers.params.datasets import Dataset
from vit_registers.params.planting import Planting
from vit_registers.params.readouts import CountedArchitecture, Energy, Statistics
from vit_registers.params.study import Params


class PrepareStep(Strict):
    """A data set to a manifest."""

    seed: int
    name: str
    source: Dataset


class FetchStep(Strict):
    """A model of timm, OpenCLIP or a file to a model folder."""

    seed: int
    name: str
    source: AnyModel


class TrainStep(Strict):
    """A small ViT from nothing."""

    seed: int
    device: str
    name: str
    dataset: str
    registers: int
    recipe: AnyRecipe


class PlantStep(Strict):
    """A trained model to a tagged one, or a tagged model to a planted one."""

    seed: int
    name: str
    kind: str
    base: str
    dataset: str
    planting: Planting


class ResizeStep(Strict):
    """Any model at another input size; its base may have been made in any way."""

    name: str
    source: AnyModel


class TrainingStep(Strict):
    """What was monitored while a model trained."""

    seed: int
    model: str
    statistics: Statistics


class EnergyStep(Strict):
    """Energy and carbon of the trainings of ``models``."""

    models: list[str]
    energy: Energy


class CostStep(Strict):
    """Parameters and operations of architectures by number of registers."""

    registers: list[int]
    architectures: dict[str, CountedArchitecture]


def prepare(params: Params, dataset: str) -> PrepareStep:
    """Slice of ``vit-registers prepare``."""
    if dataset not in params.datasets:
        raise InputError(f"datasets: unknown data set '{dataset}'; known are {', '.join(params.datasets)}")
    return PrepareStep(seed=params.seed, name=dataset, source=params.datasets[dataset])


def _source(params: Params, model: str) -> Any:
    if model not in params.models:
        raise InputError(f"models: unknown model '{model}'; known are {', '.join(params.models)}")
    return params.models[model]


def model(params: Params, name: str) -> FetchStep | TrainStep | PlantStep | ResizeStep:
    """Slice of the step that makes a model: ``fetch``, ``train``, ``plant`` or ``resize``."""
    source = _source(params, name)
    if source.step == "train":
        return TrainStep(
            seed=params.seed,
            device=params.device,
            name=name,
            dataset=source.dataset,
            registers=source.registers,
            recipe=source.recipe_of(params),
        )
    if source.step == "plant":
        return PlantStep(
            seed=params.seed,
            name=name,
            kind=source.kind,
            base=source.base,
            dataset=params.training_dataset(name),
            planting=params.plantings[source.planting],
        )
    if source.step == "resize":
        return ResizeStep(name=name, source=source)
    return FetchStep(seed=params.seed, name=name, source=source)


def training(params: Params, model: str) -> TrainingStep:
    """Slice of ``vit-registers training``."""
    if _source(params, model).step != "train":
        raise InputError(f"models.{model}: not trained by this pipeline")
    return TrainingStep(seed=params.seed, model=model, statistics=params.statistics)


def energy(params: Params) -> EnergyStep:
    """Slice of ``vit-registers energy``: every model of the study that was trained here."""
    trained = [name for name in params.models_used() if params.models[name].step == "train"]
    return EnergyStep(models=trained, energy=params.energy)


def cost(params: Params) -> CostStep:
    """Slice of ``vit-registers cost``."""
    return CostStep(registers=params.cost.registers, architectures=params.cost.architectures)
