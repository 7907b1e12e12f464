"""The whole of ``params.yaml``: what a study runs, by name."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from vit_registers.core.errors import InputError
from vit_registers.params import consistency
from vit_registers.params.base import Name, Strict
from vit_registers.params.bases import DatasetSource, Intervention, ModelSource, Recipe
from vit_registers.params.condition import BASELINE, Condition
from vit_registers.params.experiments import ExperimentParams, FoundExperiments
from vit_registers.params.kinds import KindsIn
from vit_registers.params.passes import Calibration, Detection, Extraction
from vit_registers.params.planting import Planting
from vit_registers.params.statistics import Explorer, Gallery, Statistics


class Run(Strict):
    """Models on a data set, each as it is and under every named intervention.

    ``experiments``: which are run on them; null for all that params have settings of. ``heads``: what they are fitted
    to, and so where the images of split ``train`` pass: to every condition (``refitted``), to the baseline alone
    (``frozen``), or nowhere, as no experiment of the run fits any (``none``).
    """

    dataset: Name
    models: Annotated[list[Name], Field(min_length=1)]
    interventions: list[Name]
    experiments: list[Name] | None = None
    heads: Literal["refitted", "frozen", "none"] = "refitted"


class Further(Strict):
    """Models of the runs whose register neurons are looked for on a further data set as well."""

    dataset: Name
    models: Annotated[list[Name], Field(min_length=1)]


class Comparison(Strict):
    """A paired difference: ``a`` minus ``b``, each ``model/intervention``, over the same test images.

    All tests of a ``family`` are adjusted for their number. ``before``: what was damaged, where ``a`` repairs it and
    ``b`` is the control: the share of the damage that is repaired is reported as well. ``trainings``: the difference is
    that of all trainings of ``a`` and of ``b`` that have the same draws, and its test is over trainings.
    """

    question: str
    family: Name = "study"
    a: Condition
    b: Condition
    before: Condition | None = None
    trainings: bool = False

    @property
    def sides(self) -> list[Condition]:
        """The conditions that have to be there."""
        return [self.a, self.b, *([self.before] if self.before else [])]


class StandsFor(Strict):
    """What of this study is what of a paper: only these models are held against the claims about the paper's.

    ``papers``: those whose claims this study is about. ``models``, ``datasets`` and ``conditions``: our name by the
    name in the ledger of claims; a data set may stand under the ledger's experiment instead, where its claims name
    none. ``protocol``: by claim, which of our params (keys joined by dots) is the setting that it states.
    """

    papers: list[Name] = Field(default=[])
    models: dict[str, Name] = Field(default={})
    datasets: dict[str, Name] = Field(default={})
    conditions: dict[str, Name] = Field(default={})
    protocol: dict[str, str] = Field(default={})


class Study(Strict):
    """What a study is called and what it runs.

    ``name`` is that of its folders: ``results/<name>`` and ``data/prepared/<name>``. ``trainings`` are models that are
    trained and monitored whether a run has them or not: a search over trainings need not measure each of them.
    """

    name: Name
    title: str
    runs: Annotated[list[Run], Field(min_length=1)]
    trainings: list[Name] = Field(default=[])
    detections: list[Further]
    comparisons: list[Comparison]
    stands_for: StandsFor = StandsFor()


class Params(Strict):
    """The whole of ``params.yaml``.

    ``limit``: at most so many images of each split of each data set, for a first look; null for all. A study with a
    limit has folders of its own. ``extraction_overrides`` are laid over ``extraction`` by data set,
    ``detection_overrides`` over ``detection`` by model.
    """

    seed: NonNegativeInt
    limit: Annotated[int, Field(ge=4)] | None = None
    device: Literal["auto", "cpu", "cuda", "mps"]
    processes: PositiveInt = 1
    study: Study
    datasets: Annotated[
        dict[Name, Annotated[DatasetSource, KindsIn("vit_registers.data.sources")]], Field(min_length=1)
    ]
    models: Annotated[dict[Name, Annotated[ModelSource, KindsIn("vit_registers.models.sources")]], Field(min_length=1)]
    recipes: dict[Name, Annotated[Recipe, KindsIn("vit_registers.training.recipes")]]
    plantings: dict[Name, Planting]
    extraction: Extraction
    extraction_overrides: dict[Name, dict[str, Any]] = Field(default={})
    calibration: Calibration
    interventions: dict[Name, Annotated[Intervention, KindsIn("vit_registers.interventions.kinds")]]
    detection: Detection
    detection_overrides: dict[Name, dict[str, Any]]
    gallery: Gallery
    explorer: Explorer
    statistics: Statistics
    experiments: Annotated[Strict, FoundExperiments()]

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        consistency.check(self)
        return self

    # Where things are asked for by name.

    def stated(self, path: str) -> Any:
        """The value at ``path``, keys and numbers of lists joined by dots; KeyError where there is none."""
        value: Any = self
        for part in path.split("."):
            if isinstance(value, dict):
                value = value[part]
            elif isinstance(value, list | tuple) and part.isdigit() and int(part) < len(value):
                value = value[int(part)]
            elif isinstance(value, Strict) and part in type(value).model_fields:
                value = getattr(value, part)
            else:
                raise KeyError(path)
        return value

    @property
    def configured(self) -> list[str]:
        """Experiments that params have settings of, in the order of the report."""
        return [name for name in type(self.experiments).model_fields if getattr(self.experiments, name) is not None]

    @property
    def experiment_names(self) -> list[str]:
        """Experiments of the study, in the order of the report: those with settings that a run has."""
        run = {name for run in self.study.runs for name in self.experiments_of(run)}
        return [name for name in self.configured if name in run]

    def settings(self, experiment: str) -> ExperimentParams:
        """Settings of an experiment; :class:`InputError` where it is off."""
        found: ExperimentParams | None = getattr(self.experiments, experiment, None)
        if found is None:
            raise InputError(f"experiments.{experiment}: this study has no settings for it; add them to run it")
        return found

    def detection_of(self, model: str) -> Detection:
        """The general detection settings with the model's own on top."""
        settings = self.detection.model_dump() | self.detection_overrides.get(model, {})
        return Detection.model_validate(settings)

    def extraction_of(self, dataset: str) -> Extraction:
        """The general extraction settings with those of the data set on top."""
        settings = self.extraction.model_dump() | self.extraction_overrides.get(dataset, {})
        return Extraction.model_validate(settings)

    def _extractions(self, experiment: str) -> list[Extraction]:
        """What passes keep where an experiment runs; the general settings where it runs nowhere."""
        datasets = dict.fromkeys(dataset for dataset, _ in self.pairs(experiment))
        return [self.extraction_of(dataset) for dataset in datasets] or [self.extraction]

    @property
    def folder(self) -> str:
        """Name of the folders of the study: its own, or with a limit one beside it, so that neither meets the other."""
        return self.study.name if self.limit is None else f"{self.study.name}-limit-{self.limit}"

    @property
    def title(self) -> str:
        """Title of the report; that of a study with a limit says so."""
        first_look = "" if self.limit is None else f" (a first look at {self.limit} images of each split)"
        return self.study.title + first_look

    def pairs(self, experiment: str | None = None) -> list[tuple[str, str]]:
        """Every (data set, model) of the study, in the order of the runs; or those on which an experiment runs."""
        wanted = [run for run in self.study.runs if experiment is None or experiment in self.experiments_of(run)]
        return [(run.dataset, model) for run in wanted for model in run.models]

    def experiments_of(self, run: Run) -> list[str]:
        """Experiments of a run."""
        return self.configured if run.experiments is None else run.experiments

    def detected_pairs(self) -> list[tuple[str, str]]:
        """Every (data set, model) on which register neurons are looked for: the runs' and the further ones."""
        return self.pairs() + [
            (further.dataset, model) for further in self.study.detections for model in further.models
        ]

    def run_of(self, dataset: str, model: str) -> Run:
        """The run that has this pair."""
        for run in self.study.runs:
            if run.dataset == dataset and model in run.models:
                return run
        raise InputError(f"study.runs: no run has model '{model}' on data set '{dataset}'")

    def conditions(self, dataset: str, model: str) -> list[str]:
        """Names of the interventions on this pair, ``baseline`` first."""
        return [BASELINE, *self.run_of(dataset, model).interventions]

    @property
    def study_datasets(self) -> list[str]:
        """Data sets of the runs."""
        return list(dict.fromkeys(run.dataset for run in self.study.runs))

    def origin(self, model: str) -> str:
        """The model that a model was made from in the end, or itself: those of one origin share its training."""
        base = self.models[model].made_from
        return model if base is None else self.origin(base)

    def trained_alike(self, dataset: str, comparison: Comparison) -> list[tuple[str, str]]:
        """Models that differ from the two compared in their draws alone and ran on the data set: pairs of same draws.

        Each has to run under the interventions compared.
        """
        sides = []
        for side in (comparison.a, comparison.b):
            alike = [
                model
                for on, model in self.pairs()
                if on == dataset
                and self.models[side.model].same_but_draws(self.models[model])
                and side.intervention in self.conditions(dataset, model)
            ]
            sides.append({self.models[model].drawn_as(model): model for model in alike})
        return [(model, sides[1][draws]) for draws, model in sides[0].items() if draws in sides[1]]

    def datasets_used(self) -> list[str]:
        """Data sets that a run or a training of the study reads."""
        names = [dataset for dataset, _ in self.detected_pairs()]
        names += [self.training_dataset(name) for name in self.models_used() if self.models[name].step == "train"]
        return list(dict.fromkeys(names))

    def models_used(self) -> list[str]:
        """Models that a run needs, with those they are made from, bases first; then those that are only trained."""
        names: list[str] = []

        def visit(name: str) -> None:
            base = self.models[name].made_from
            if base is not None:
                visit(base)
            if name not in names:
                names.append(name)

        for model in [*(model for _, model in self.pairs()), *self.study.trainings]:
            visit(model)
        return names

    def reference(self, dataset: str, model: str) -> str | None:
        """The model into whose weights something was written to make this one, where it runs on the data set too.

        It has the same tokens at the same places. None where nothing was written, or the grid is another.
        """
        base = self.models[model].made_from
        return base if self.models[model].step != "resize" and (dataset, base) in self.pairs() else None

    def training_dataset(self, model: str) -> str:
        """The data set that a trained model, or the one behind one made from it, was trained on."""
        source = self.models[model]
        while source.made_from is not None:
            source = self.models[source.made_from]
        if source.step != "train":
            raise InputError(f"models.{model}: not trained by this pipeline")
        return str(source.dataset)  # type: ignore[attr-defined]
