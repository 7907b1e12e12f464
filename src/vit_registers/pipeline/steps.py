"""The list of steps: what each job of a study runs, on what, from what, to what.

Steps that make data, models, features and detections are written down here; measures are found with their experiments.
The command line, Snakemake's rules and DVC's graph are made from this list.
"""

import importlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from vit_registers.params.base import Strict
from vit_registers.params.study import Params
from vit_registers.pipeline import configs, digest, experiment
from vit_registers.pipeline.experiment import Found, Measure, Resources
from vit_registers.pipeline.paths import Paths

Axes = dict[str, str]


@dataclass(frozen=True)
class Step:
    """One kind of job: a function, run once for each of its ``jobs``.

    ``run``: its full name, ``module:function``. ``config``: the part of params that a job gets. ``inputs`` and
    ``outputs``: files that Snakemake follows; ``folders``: outputs that are folders. ``call``: how the function is
    called with config and paths. ``priority``: the scheduler maximises its sum over the jobs that it starts, so a job
    with two threads needs more than twice that of others, or it waits until nothing else is left.
    """

    name: str
    phase: str
    help: str
    run: str
    axes: tuple[str, ...]
    jobs: Callable[[Params], list[Axes]]
    config: Callable[..., Strict]
    inputs: Callable[..., list[Path]]
    outputs: Callable[..., list[Path]]
    call: Callable[[Any, Any, Paths], None]
    folders: Callable[..., list[Path]] = lambda params, at, **axes: []
    resources: Callable[[Params], Resources] = lambda params: Resources()
    priority: int = 0

    def digest(self, config: Strict) -> str:
        """Digest of the code that runs on ``config``."""
        return digest.code(self.run, config)

    def execute(self, config: Strict, at: Paths) -> None:
        """Run the job."""
        module, _, function = self.run.partition(":")
        self.call(getattr(importlib.import_module(module), function), config, at)


def _per(name: str, values: Iterable[str]) -> list[Axes]:
    return [{name: value} for value in values]


def _pairs(pairs: Iterable[tuple[str, str]]) -> list[Axes]:
    return [{"dataset": dataset, "model": model} for dataset, model in pairs]


def _made_by(step: str) -> Callable[[Params], list[Axes]]:
    return lambda params: _per("model", (name for name in params.models_used() if params.models[name].step == step))


def _pass(params: Params) -> Resources:
    """A pass takes its memory and that of the libraries that it runs in."""
    return Resources(mem_mb=params.extraction.memory_mb + 2000, gpu=True, runtime=240)


def dataset_file(at: Paths, name: str) -> Path:
    """What makes a data set whole."""
    return at.dataset(name) / "dataset.json"


def model_file(at: Paths, name: str) -> Path:
    """What makes a model whole."""
    return at.model(name) / "model.json"


def _base(params: Params, at: Paths, model: str) -> list[Path]:
    base = params.models[model].made_from
    return [model_file(at, base)] if base else []


def _baseline(at: Paths, dataset: str, model: str) -> list[Path]:
    """Features of a model as it is: the file whose content Snakemake follows, and the folder, which has to be there."""
    return [at.extracted("baseline", dataset, model), at.baseline(dataset, model)]


def _calibration(params: Params, at: Paths, dataset: str, model: str) -> list[Path]:
    """Activation statistics, where an intervention of the pair needs them."""
    return [at.calibration(dataset, model)] if configs.ablate(params, dataset, model).calibrated else []


MAKING = (
    Step(
        name="prepare",
        phase="data",
        help="Turn a data set of params into a checked manifest.",
        run="vit_registers.data.prepare:run",
        axes=("dataset",),
        jobs=lambda params: _per("dataset", params.datasets_used()),
        config=configs.prepare,
        inputs=lambda params, at, dataset: [Path(path) for path in params.datasets[dataset].tracked()],
        outputs=lambda params, at, dataset: [at.dataset(dataset) / "manifest.parquet", dataset_file(at, dataset)],
        call=lambda run, config, at: run(config, at.dataset(config.name)),
    ),
    Step(
        name="fetch",
        phase="models",
        help="Load a model of timm, OpenCLIP or a checkpoint file, and record its weights with a checksum.",
        run="vit_registers.models.fetch:run",
        axes=("model",),
        jobs=_made_by("fetch"),
        config=configs.fetch,
        inputs=lambda params, at, model: [Path(path) for path in params.models[model].paths().values()],
        outputs=lambda params, at, model: [model_file(at, model)],
        call=lambda run, config, at: run(config, at.model(config.name)),
        resources=lambda params: Resources(mem_mb=8000),
    ),
    Step(
        name="train",
        phase="models",
        help="Train a ViT from scratch; resumes an interrupted run.",
        run="vit_registers.training.loop:run",
        axes=("model",),
        jobs=_made_by("train"),
        config=configs.train,
        inputs=lambda params, at, model: [dataset_file(at, params.training_dataset(model))],
        outputs=lambda params, at, model: [
            at.model(model) / name
            for name in (
                "model.json",
                "model.safetensors",
                "training.csv",
                "norms.csv",
                "time.json",
                "attention.npz",
            )
        ],
        call=lambda run, config, at: run(config, at.dataset(config.dataset), at.model(config.name)),
        resources=lambda params: Resources(mem_mb=4000, threads=2, gpu=True, runtime=6000),
        priority=100,
    ),
    Step(
        name="plant",
        phase="models",
        help="Tag a trained model, or plant register neurons into a tagged one.",
        run="vit_registers.planted.plant:run",
        axes=("model",),
        jobs=_made_by("plant"),
        config=configs.plant,
        inputs=lambda params, at, model: [
            dataset_file(at, params.training_dataset(model)),
            *_base(params, at, model),
        ],
        outputs=lambda params, at, model: [at.model(model) / "model.json", at.model(model) / "model.safetensors"],
        call=lambda run, config, at: run(
            config, at.dataset(config.dataset), at.model(config.base), at.model(config.name)
        ),
        resources=lambda params: Resources(mem_mb=4000),
        priority=10,
    ),
    Step(
        name="resize",
        phase="models",
        help="Put a model of the study at another input size, its position embeddings resampled in a stated way.",
        run="vit_registers.models.resize:run",
        axes=("model",),
        jobs=_made_by("resize"),
        config=configs.resize,
        inputs=_base,
        outputs=lambda params, at, model: [model_file(at, model)],
        call=lambda run, config, at: run(config, at.model(config.source.base), at.model(config.name)),
        resources=lambda params: Resources(mem_mb=8000),
        priority=10,
    ),
    Step(
        name="extract",
        phase="features",
        help="Pass a data set through a model as it is, to memory-mapped features; resumes.",
        run="vit_registers.extraction.extract:run",
        axes=("dataset", "model"),
        jobs=lambda params: _pairs(params.detected_pairs()),
        config=configs.extract,
        inputs=lambda params, at, dataset, model: [dataset_file(at, dataset), model_file(at, model)],
        outputs=lambda params, at, dataset, model: [at.extracted("baseline", dataset, model)],
        folders=lambda params, at, dataset, model: [at.baseline(dataset, model)],
        call=lambda run, config, at: run(
            config, at.dataset(config.dataset), at.model(config.model), at.features, None, None
        ),
        resources=_pass,
        priority=1,
    ),
    Step(
        name="detect",
        phase="registers",
        help="Find outlier tokens and rank the neurons behind them.",
        run="vit_registers.registers.detect:run",
        axes=("dataset", "model"),
        jobs=lambda params: _pairs(params.detected_pairs()),
        config=configs.detect,
        inputs=lambda params, at, dataset, model: [
            dataset_file(at, dataset),
            model_file(at, model),
            *_baseline(at, dataset, model),
        ],
        outputs=lambda params, at, dataset, model: [
            at.found(dataset, model),
            at.found(dataset, model).with_suffix(".neurons.csv"),
        ],
        call=lambda run, config, at: run(
            config,
            at.dataset(config.dataset),
            at.model(config.model),
            at.features,
            at.found(config.dataset, config.model),
        ),
        resources=_pass,
        priority=1,
    ),
    Step(
        name="calibrate",
        phase="ablation",
        help="Measure means and deviations of a model's block outputs, for interventions that replace tokens.",
        run="vit_registers.extraction.calibrate:run",
        axes=("dataset", "model"),
        jobs=lambda params: [axes for axes in _pairs(params.pairs()) if configs.ablate(params, **axes).calibrated],
        config=configs.calibrate,
        inputs=lambda params, at, dataset, model: [dataset_file(at, dataset), model_file(at, model)],
        outputs=lambda params, at, dataset, model: [at.calibration(dataset, model)],
        call=lambda run, config, at: run(
            config,
            at.dataset(config.dataset),
            at.model(config.model),
            at.calibration(config.dataset, config.model),
        ),
        resources=_pass,
        priority=1,
    ),
    Step(
        name="ablate",
        phase="ablation",
        help="Pass a data set through a model under every named intervention of the pair; resumes.",
        run="vit_registers.extraction.extract:run",
        axes=("dataset", "model"),
        jobs=lambda params: [axes for axes in _pairs(params.pairs()) if len(params.conditions(**axes)) > 1],
        config=configs.ablate,
        inputs=lambda params, at, dataset, model: [
            dataset_file(at, dataset),
            model_file(at, model),
            at.found(dataset, model),
            *_calibration(params, at, dataset, model),
        ],
        outputs=lambda params, at, dataset, model: [at.extracted("ablated", dataset, model)],
        folders=lambda params, at, dataset, model: [at.ablated(dataset, model)],
        call=lambda run, config, at: run(
            config,
            at.dataset(config.dataset),
            at.model(config.model),
            at.features,
            at.found(config.dataset, config.model),
            at.calibration(config.dataset, config.model) if config.calibrated else None,
        ),
        resources=_pass,
        priority=1,
    ),
)


# Measures, from the declarations of experiments.


def _jobs(found: Found, measure: Measure) -> Callable[[Params], list[Axes]]:
    def jobs(params: Params) -> list[Axes]:
        if found.name not in params.experiment_names:
            return []
        pairs = [(dataset, model) for dataset, model in params.pairs(found.name) if measure.where(params, model)]
        if measure.per == ("dataset", "model"):
            return _pairs(pairs)
        if measure.per == ("dataset",):
            return _per("dataset", dict.fromkeys(dataset for dataset, _ in pairs))
        if measure.per == ("model",):
            measured = {model for _, model in params.pairs()}
            on = {model for _, model in params.pairs(found.name)}
            here = [model for model in params.models_used() if model in on or model not in measured]
            return _per("model", (model for model in here if measure.where(params, model)))
        return [{}]

    return jobs


def _measure_config(found: Found, measure: Measure) -> Callable[..., Strict]:
    def config(params: Params, **axes: str) -> Strict:
        return measure.config.pick(params, params.settings(found.name), **axes)

    return config


def _measure_inputs(found: Found, measure: Measure) -> Callable[..., list[Path]]:
    """Files of what a measure reads, for one job."""

    def inputs(params: Params, at: Paths, **axes: str) -> list[Path]:
        dataset, model = axes.get("dataset"), axes.get("model")
        wanted: list[Path] = []
        for what in measure.reads:
            wanted += _READ[what](params, at, dataset, model)
        return list(dict.fromkeys(wanted))

    return inputs


def _of_trainings(params: Params, at: Paths, model: str | None) -> list[Path]:
    """What training left of a model, or of all that were trained."""
    train = next(step for step in MAKING if step.name == "train")
    names = [axes["model"] for axes in train.jobs(params)]
    return [path for name in names if model in (None, name) for path in train.outputs(params, at, model=name)]


def _compared(params: Params, at: Paths, dataset: str | None) -> list[Path]:
    """Values by image of every measure that keeps some, on a data set."""
    return [
        at.measure(step.name, *axes.values()) / "images.parquet"
        for step in measuring()
        if experiment.measures()[step.name][1].images
        for axes in step.jobs(params)
        if axes["dataset"] == dataset
    ]


def _conditions(params: Params, at: Paths, dataset: str, model: str) -> list[Path]:
    ablated = [at.extracted("ablated", dataset, model), at.ablated(dataset, model)]
    return _baseline(at, dataset, model) + (ablated if len(params.conditions(dataset, model)) > 1 else [])


def _found(params: Params, at: Paths, dataset: str | None, model: str | None) -> list[Path]:
    """What detection found in a model, on one data set or on all that it was looked at on."""
    pairs = [pair for pair in params.detected_pairs() if pair[1] == model and dataset in (None, pair[0])]
    return [path for d, m in pairs for path in (at.found(d, m), at.found(d, m).with_suffix(".neurons.csv"))]


_READ: dict[str, Callable[[Params, Paths, Any, Any], list[Path]]] = {
    "manifest": lambda params, at, dataset, model: [dataset_file(at, dataset)],
    "baseline": lambda params, at, dataset, model: _baseline(at, dataset, model),
    "conditions": lambda params, at, dataset, model: _conditions(params, at, dataset, model),
    "registers": _found,
    "model": lambda params, at, dataset, model: [model_file(at, model)],
    "training": lambda params, at, dataset, model: _of_trainings(params, at, model),
    "images": lambda params, at, dataset, model: _compared(params, at, dataset),
}


def _measure_call(measure: Measure) -> Callable[[Any, Any, Paths], None]:
    def call(run: Any, config: Any, at: Paths) -> None:
        job = importlib.import_module("vit_registers.experiments.job")
        job.execute(run, config, measure, at)

    return call


def _measure_outputs(measure: Measure) -> Callable[..., list[Path]]:
    names = ["rows.csv", *["images.parquet"] * measure.images, *["arrays.npz"] * measure.arrays]
    return lambda params, at, **axes: [at.measure(measure.name, *axes.values()) / name for name in names]


def _measure_resources(measure: Measure) -> Callable[[Params], Resources]:
    return lambda params: measure.resources


@cache
def measuring() -> tuple[Step, ...]:
    """A step for every measure, in the order of the report."""
    return tuple(
        Step(
            name=name,
            phase="measures",
            help=measure.help,
            run=found.function(measure.run),
            axes=measure.per,
            jobs=_jobs(found, measure),
            config=_measure_config(found, measure),
            inputs=_measure_inputs(found, measure),
            outputs=_measure_outputs(measure),
            call=_measure_call(measure),
            resources=_measure_resources(measure),
        )
        for name, (found, measure) in experiment.measures().items()
    )


@cache
def steps() -> dict[str, Step]:
    """Every step by name."""
    return {step.name: step for step in (*MAKING, *measuring())}


# Views: which rows and arrays they are made of.


def measured(params: Params) -> list[str]:
    """Measures that have a job in this study."""
    return [step.name for step in measuring() if step.jobs(params)]


def row_files(params: Params, at: Paths, view: experiment.View) -> list[Path]:
    """Tables of the rows that a view shows."""
    wanted = dict.fromkeys(experiment.metrics()[name][0] for name in view.shows)
    if view.differences:
        wanted |= dict.fromkeys(experiment.comparing())
    return [at.rows(name) for name in wanted if name in measured(params)]


def array_files(params: Params, at: Paths, view: experiment.View) -> list[Path]:
    """Arrays that a figure draws."""
    return [
        at.measure(name, *axes.values()) / "arrays.npz" for name in view.arrays for axes in steps()[name].jobs(params)
    ]


def shown(params: Params, views: dict[str, Any]) -> list[str]:
    """Names of the tables or figures of the experiments that are on."""
    return [name for name, (found, _) in views.items() if found.name in params.experiment_names]
