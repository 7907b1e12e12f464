"""The whole of ``params.yaml``: what a study runs, by name."""

from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from vit_registers.core.errors import InputError
from vit_registers.params import readouts
from vit_registers.params.base import Name, Strict
from vit_registers.params.bases import Intervention
from vit_registers.params.datasets import Dataset
from vit_registers.params.kinds import KindsIn
from vit_registers.params.models import (
    AnyRecipe,
    Model,
    OpenClipModel,
    PlantedModel,
    Planting,
    ResizedModel,
    TaggedModel,
    TrainedModel,
)
from vit_registers.params.passes import Calibration, Detection, Extraction


class Run(Strict):
    """Models on a data set, each at baseline and under every named intervention."""

    dataset: Name
    models: Annotated[list[Name], Field(min_length=1)]
    interventions: list[Name]


class Further(Strict):
    """Models of the runs whose register neurons are looked for on a further data set as well."""

    dataset: Name
    models: Annotated[list[Name], Field(min_length=1)]


class Study(Strict):
    """What the report is called and what it runs.

    ``trainings`` are models that are trained and watched whether a run has them or not: a search over trainings need
    not measure each of them.
    """

    title: str
    runs: Annotated[list[Run], Field(min_length=1)]
    trainings: list[Name] = Field(default=[])
    detections: list[Further]
    comparisons: list[readouts.Comparison]


class Params(Strict):
    """The whole of ``params.yaml``."""

    seed: NonNegativeInt
    device: Literal["auto", "cpu", "cuda", "mps"]
    processes: PositiveInt = 1
    study: Study
    datasets: Annotated[dict[Name, Dataset], Field(min_length=1)]
    models: Annotated[dict[Name, Model], Field(min_length=1)]
    recipes: dict[Name, AnyRecipe]
    plantings: dict[Name, Planting]
    extraction: Extraction
    calibration: Calibration
    interventions: dict[Name, Annotated[Intervention, KindsIn("vit_registers.interventions.kinds")]]
    detection: Detection
    detection_overrides: dict[Name, dict[str, Any]]
    probe: readouts.Probe
    linear_evaluation: readouts.LinearEvaluation | None
    knn: readouts.Knn
    lost: readouts.Lost
    lost_sweep: readouts.LostSweep | None
    dino_seg: readouts.DinoSeg
    information: readouts.Information
    dense: readouts.Dense
    zero_shot: readouts.ZeroShot
    cost: readouts.Cost
    energy: readouts.Energy
    gallery: readouts.Gallery
    statistics: readouts.Statistics

    @model_validator(mode="after")
    def _names_exist(self) -> "Params":
        def known(where: str, name: str, among: Any, what: str) -> None:
            if name not in among:
                raise ValueError(f"{where}: unknown {what} '{name}'; known are {', '.join(sorted(among)) or 'none'}")

        if "baseline" in self.interventions:
            raise ValueError("interventions.baseline: the name is taken by the empty intervention")
        for name, model in self.models.items():
            where = f"models.{name}"
            if isinstance(model, TrainedModel):
                known(f"{where}.dataset", model.dataset, self.datasets, "data set")
                known(f"{where}.recipe", model.recipe, self.recipes, "recipe")
                if model.architecture.given and self.recipes[model.recipe].kind != "small":
                    raise ValueError(f"{where}.architecture: is laid over recipes of kind small; give another recipe")
            elif isinstance(model, TaggedModel | PlantedModel):
                known(f"{where}.base", model.base, self.models, "model")
                known(f"{where}.planting", model.planting, self.plantings, "planting")
                expected = "trained" if isinstance(model, TaggedModel) else "tagged"
                if self.models[model.base].kind != expected:
                    raise ValueError(f"{where}.base: expected a {expected} model, '{model.base}' is not one")
            elif isinstance(model, ResizedModel):
                known(f"{where}.base", model.base, self.models, "model")
                if isinstance(self.models[model.base], ResizedModel):
                    raise ValueError(f"{where}.base: '{model.base}' is resized itself; resize what it was made from")
        seen: set[tuple[str, str]] = set()
        for i, run in enumerate(self.study.runs):
            known(f"study.runs[{i}].dataset", run.dataset, self.datasets, "data set")
            for model_name in run.models:
                known(f"study.runs[{i}].models", model_name, self.models, "model")
                if (run.dataset, model_name) in seen:
                    raise ValueError(f"study.runs[{i}].models: '{model_name}' runs on '{run.dataset}' already")
                seen.add((run.dataset, model_name))
            for intervention in run.interventions:
                known(f"study.runs[{i}].interventions", intervention, self.interventions, "intervention")
        for name in self.study.trainings:
            known("study.trainings", name, self.models, "model")
            if self.models[name].kind != "trained":
                raise ValueError(f"study.trainings: '{name}' is not trained by this pipeline; drop it")
        ran = {model for _, model in seen}
        for i, further in enumerate(self.study.detections):
            known(f"study.detections[{i}].dataset", further.dataset, self.datasets, "data set")
            for model_name in further.models:
                where = f"study.detections[{i}].models"
                known(where, model_name, self.models, "model")
                if (further.dataset, model_name) in seen:
                    raise ValueError(f"{where}: '{model_name}' is looked at on '{further.dataset}' already; drop it")
                if model_name not in ran:
                    raise ValueError(f"{where}: no run has '{model_name}'; add it to study.runs or drop it here")
                seen.add((further.dataset, model_name))
        for i, comparison in enumerate(self.study.comparisons):
            for side in (comparison.a, comparison.b):
                model_name, intervention = side.split("/")
                if not any(
                    model_name in r.models and intervention in ["baseline", *r.interventions] for r in self.study.runs
                ):
                    raise ValueError(
                        f"study.comparisons[{i}]: no run has '{side}'; add it to study.runs or drop the comparison"
                    )
        for intervention in self.extraction.frozen_only:
            known("extraction.frozen_only", intervention, self.interventions, "intervention")
        wanted = self.linear_evaluation
        if wanted is not None and max(wanted.blocks) > max(1, self.extraction.cls_blocks):
            raise ValueError(
                f"linear_evaluation.blocks: {max(wanted.blocks)} blocks, but extraction.cls_blocks keeps "
                f"{self.extraction.cls_blocks}; raise it"
            )
        if self.dino_seg.head is not None and not self.extraction.attention_heads:
            raise ValueError("dino_seg.head: one head needs extraction.attention_heads; set it, or head to null")
        for name, override in self.detection_overrides.items():
            known("detection_overrides", name, self.models, "model")
            for key in override:
                known(f"detection_overrides.{name}", key, Detection.model_fields, "key")
            self.detection_of(name)
        return self

    # Where things are asked for by name.

    def detection_of(self, model: str) -> Detection:
        """The general detection settings with the model's own on top."""
        settings = self.detection.model_dump() | self.detection_overrides.get(model, {})
        return Detection.model_validate(settings)

    def pairs(self) -> list[tuple[str, str]]:
        """Every (data set, model) of the study, in the order of the runs."""
        return [(run.dataset, model) for run in self.study.runs for model in run.models]

    def text_pairs(self) -> list[tuple[str, str]]:
        """Every (data set, model) of the study whose model has a text tower."""
        return [(dataset, model) for dataset, model in self.pairs() if isinstance(self.models[model], OpenClipModel)]

    def detected_pairs(self) -> list[tuple[str, str]]:
        """Every (data set, model) on which register neurons are looked for: the runs' and the further ones."""
        return self.pairs() + [
            (further.dataset, model) for further in self.study.detections for model in further.models
        ]

    def conditions(self, dataset: str, model: str) -> list[str]:
        """Names of the interventions on this pair, ``baseline`` first."""
        for run in self.study.runs:
            if run.dataset == dataset and model in run.models:
                return ["baseline", *run.interventions]
        raise InputError(f"study.runs: no run has model '{model}' on data set '{dataset}'")

    def datasets_used(self) -> list[str]:
        """Data sets that a run or a training of the study reads."""
        trained = [self.models[m] for m in self.models_used()]
        names = [dataset for dataset, _ in self.detected_pairs()]
        names += [m.dataset for m in trained if isinstance(m, TrainedModel)]
        return list(dict.fromkeys(names))

    def models_used(self) -> list[str]:
        """Models that a run needs, with those they are made from, bases first; then those that are only trained."""
        names: list[str] = []

        def visit(name: str) -> None:
            model = self.models[name]
            if isinstance(model, TaggedModel | PlantedModel | ResizedModel):
                visit(model.base)
            if name not in names:
                names.append(name)

        for model in [*(model for _, model in self.pairs()), *self.study.trainings]:
            visit(model)
        return names

    def training_dataset(self, model: str) -> str:
        """The data set that a trained model, or the one behind a tagged, planted or resized one, was trained on."""
        source = self.models[model]
        while isinstance(source, TaggedModel | PlantedModel | ResizedModel):
            source = self.models[source.base]
        if not isinstance(source, TrainedModel):
            raise InputError(f"models.{model}: not trained by this pipeline")
        return source.dataset
