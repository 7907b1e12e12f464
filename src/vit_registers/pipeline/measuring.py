"""A step for every measure, from the declarations of experiments."""

import importlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from vit_registers.params.base import Strict
from vit_registers.params.study import Params
from vit_registers.pipeline import experiment
from vit_registers.pipeline.experiment import Found, Measure, Resources
from vit_registers.pipeline.making import MAKING
from vit_registers.pipeline.paths import Paths
from vit_registers.pipeline.step import Axes, Step, baseline, by_pair, dataset_file, model_file, per


def _jobs(found: Found, measure: Measure) -> Callable[[Params], list[Axes]]:
    def jobs(params: Params) -> list[Axes]:
        if found.name not in params.experiment_names:
            return []
        pairs = [(dataset, model) for dataset, model in params.pairs(found.name) if measure.where(params, model)]
        if measure.per == ("dataset", "model"):
            return by_pair(pairs)
        if measure.per == ("dataset",):
            return per("dataset", dict.fromkeys(dataset for dataset, _ in pairs))
        if measure.per == ("model",):
            measured = {model for _, model in params.pairs()}
            on = {model for _, model in params.pairs(found.name)}
            here = [model for model in params.models_used() if model in on or model not in measured]
            return per("model", (model for model in here if measure.where(params, model)))
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


def _compared(params: Params, at: Paths, dataset: str | None, model: str | None) -> list[Path]:
    """What every measure keeps to be compared, on a data set: values by image, and scores in every resample.

    Of one model, or of all.
    """
    return [
        at.measure(step.name, *axes.values()) / name
        for step in measuring()
        for name in _comparable(experiment.measures()[step.name][1])
        for axes in step.jobs(params)
        if axes["dataset"] == dataset and model in (None, axes["model"])
    ]


def _comparable(measure: Measure) -> list[str]:
    return ["images.parquet"] * measure.images + ["pooled.parquet"] * measure.pooled


def _reference(params: Params, at: Paths, dataset: str, model: str) -> list[Path]:
    """Features of the model that this one was made from, if there is one."""
    name = params.reference(dataset, model)
    return baseline(at, dataset, name) if name else []


def _conditions(params: Params, at: Paths, dataset: str, model: str) -> list[Path]:
    ablated = [at.extracted("ablated", dataset, model), at.ablated(dataset, model)]
    return baseline(at, dataset, model) + (ablated if len(params.conditions(dataset, model)) > 1 else [])


def _found(params: Params, at: Paths, dataset: str | None, model: str | None) -> list[Path]:
    """What detection found in a model, on one data set or on all that it was looked at on."""
    pairs = [pair for pair in params.detected_pairs() if pair[1] == model and dataset in (None, pair[0])]
    return [path for d, m in pairs for path in (at.found(d, m), at.found(d, m).with_suffix(".neurons.csv"))]


_READ: dict[str, Callable[[Params, Paths, Any, Any], list[Path]]] = {
    "manifest": lambda params, at, dataset, model: [dataset_file(at, dataset)],
    "baseline": lambda params, at, dataset, model: baseline(at, dataset, model),
    "reference": _reference,
    "conditions": lambda params, at, dataset, model: _conditions(params, at, dataset, model),
    "pairs": lambda params, at, dataset, model: _conditions(params, at, dataset, model),
    "registers": _found,
    "model": lambda params, at, dataset, model: [model_file(at, model)],
    "training": lambda params, at, dataset, model: _of_trainings(params, at, model),
    "images": lambda params, at, dataset, model: _compared(params, at, dataset, model),
}


def _measure_call(measure: Measure) -> Callable[[Any, Any, Paths], None]:
    def call(run: Any, config: Any, at: Paths) -> None:
        job = importlib.import_module("vit_registers.experiments.job")
        job.execute(run, config, measure, at)

    return call


def _measure_outputs(measure: Measure) -> Callable[..., list[Path]]:
    names = ["rows.csv", *_comparable(measure), *["arrays.npz"] * measure.arrays]
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
