"""What params say of each other has to agree: names exist, runs and comparisons can be had.

What a kind of model, data set or intervention demands by itself, its own class checks.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from vit_registers.params.bases import known
from vit_registers.params.condition import BASELINE, Condition
from vit_registers.params.passes import TRAIN, Detection, Extraction

if TYPE_CHECKING:
    from vit_registers.params.study import Params


def check(params: Params) -> None:
    """Raise ValueError, opened by the key, where names or settings of params do not fit together."""
    if BASELINE in params.interventions:
        raise ValueError(f"interventions.{BASELINE}: the name is taken by the empty intervention")
    for name, model in params.models.items():
        _refuse_circle(params, name)
        model.check(name, params)
    if BASELINE in params.extraction.frozen_only:
        raise ValueError(
            f"extraction.frozen_only: heads are fitted to {BASELINE}; take it out, or say heads: none in a run "
            "whose experiments fit none"
        )
    for name in params.extraction.frozen_only:
        known("extraction.frozen_only", name, params.interventions, "intervention")
    for name, change in params.extraction_overrides.items():
        known("extraction_overrides", name, params.datasets, "data set")
        for key in change:
            known(f"extraction_overrides.{name}", key, Extraction.model_fields, "key")
        params.extraction_of(name)
    _check_runs(params)
    _check_detections(params)
    _check_comparisons(params)
    _check_stands_for(params)
    for name in params.configured:
        try:
            for extraction in params._extractions(name):
                params.settings(name).check(params.model_copy(update={"extraction": extraction}))
        except ValueError as error:
            raise ValueError(f"experiments.{name}.{error}") from None
    for name, override in params.detection_overrides.items():
        known("detection_overrides", name, params.models, "model")
        for key in override:
            known(f"detection_overrides.{name}", key, Detection.model_fields, "key")
        params.detection_of(name)
    _check_rounds(params)


def _refuse_circle(params: Params, name: str) -> None:
    made: list[str] = []
    base: str | None = name
    while base in params.models:
        if base in made:
            raise ValueError(f"models.{name}.base: is made from itself ({' from '.join([*made, base])}); take another")
        made.append(base)
        base = params.models[base].made_from


def _check_runs(params: Params) -> None:
    seen: set[tuple[str, str]] = set()
    for i, run in enumerate(params.study.runs):
        known(f"study.runs[{i}].dataset", run.dataset, params.datasets, "data set")
        if run.heads != "refitted" and params.extraction_of(run.dataset).dense_split == TRAIN:
            raise ValueError(
                f"study.runs[{i}].heads: '{run.heads}' leaves out images of split {TRAIN}, but "
                f"extraction.dense_split is {TRAIN}; change one"
            )
        for model in run.models:
            known(f"study.runs[{i}].models", model, params.models, "model")
            if (run.dataset, model) in seen:
                raise ValueError(f"study.runs[{i}].models: '{model}' runs on '{run.dataset}' already")
            seen.add((run.dataset, model))
        for intervention in run.interventions:
            known(f"study.runs[{i}].interventions", intervention, params.interventions, "intervention")
        for experiment in run.experiments or []:
            known(f"study.runs[{i}].experiments", experiment, params.configured, "experiment")
    for name in params.study.trainings:
        known("study.trainings", name, params.models, "model")
        if params.models[name].step != "train":
            raise ValueError(f"study.trainings: '{name}' is not trained by this pipeline; drop it")


def _check_rounds(params: Params) -> None:
    """Interventions that want several rounds of detection have them in every model of their run."""
    for i, run in enumerate(params.study.runs):
        for name, model in itertools.product(run.interventions, run.models):
            wanted, done = params.interventions[name].detection_rounds, 1 + params.detection_of(model).repeats
            if wanted > done:
                raise ValueError(
                    f"study.runs[{i}].interventions: '{name}' moves neurons of {wanted} rounds of detection, "
                    f"'{model}' has {done}; set detection_overrides.{model}.repeats to {wanted - 1}, or drop it"
                )


def _check_detections(params: Params) -> None:
    seen = set(params.pairs())
    for i, further in enumerate(params.study.detections):
        known(f"study.detections[{i}].dataset", further.dataset, params.datasets, "data set")
        for model in further.models:
            where = f"study.detections[{i}].models"
            known(where, model, params.models, "model")
            if (further.dataset, model) in seen:
                raise ValueError(f"{where}: '{model}' is looked at on '{further.dataset}' already; drop it")
            if model not in {name for _, name in params.pairs()}:
                raise ValueError(f"{where}: no run has '{model}'; add it to study.runs or drop it here")
            seen.add((further.dataset, model))


def _check_stands_for(params: Params) -> None:
    given, at = params.study.stands_for, "study.stands_for"
    run = {model: model for _, model in params.pairs()}
    for claimed, name in given.models.items():
        known(f"{at}.models.{claimed}", name, run, "model of a run")
    for claimed, name in given.datasets.items():
        known(f"{at}.datasets.{claimed}", name, params.datasets, "data set")
    for claimed, name in given.conditions.items():
        known(f"{at}.conditions.{claimed}", name, {BASELINE: None, **params.interventions}, "intervention")
    for claimed, path in given.protocol.items():
        try:
            params.stated(path)
        except KeyError:
            raise ValueError(f"{at}.protocol.{claimed}: params have no '{path}'") from None


def _check_comparisons(params: Params) -> None:
    for name in params.configured:
        unused = params.settings(name).compares and name not in params.experiment_names
        if params.study.comparisons and unused:
            raise ValueError(
                f"study.comparisons: no run has the experiment '{name}'; add it to the experiments of one, or drop "
                "the comparisons"
            )
    run = {(model, name) for dataset, model in params.pairs() for name in params.conditions(dataset, model)}
    seen: set[tuple[str, str]] = set()
    for i, comparison in enumerate(params.study.comparisons):
        for side in comparison.sides:
            if (side.model, side.intervention) not in run:
                raise ValueError(
                    f"study.comparisons[{i}]: no run has '{side}'; add it to study.runs or drop the comparison"
                )
        if not any(_have(params, dataset, comparison.sides) for dataset in params.study_datasets):
            raise ValueError(
                f"study.comparisons[{i}]: its conditions run on no data set together; run them on one, or drop the "
                "comparison"
            )
        pair = (str(comparison.a), str(comparison.b))
        if pair in seen:
            raise ValueError(f"study.comparisons[{i}]: {pair[0]} is compared with {pair[1]} already; drop one")
        seen.add(pair)
        if comparison.trainings and comparison.before:
            raise ValueError(f"study.comparisons[{i}]: before is of one training; drop it or trainings")
        if comparison.trainings and max(len(params.trained_alike(d, comparison)) for d in params.study_datasets) < 2:
            raise ValueError(
                f"study.comparisons[{i}].trainings: expected two or more trainings of '{comparison.a.model}' and "
                f"'{comparison.b.model}' with the same draws in study.runs; add some, or drop trainings"
            )


def _have(params: Params, dataset: str, sides: list[Condition]) -> bool:
    """Whether all of some conditions run on a data set."""
    on = {model for known, model in params.pairs() if known == dataset}
    return all(s.model in on and s.intervention in params.conditions(dataset, s.model) for s in sides)
