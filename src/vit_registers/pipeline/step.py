"""What a step is: one kind of job, and the files that several steps name."""

import importlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vit_registers.params.base import Strict
from vit_registers.params.study import Params
from vit_registers.pipeline import digest
from vit_registers.pipeline.experiment import Resources
from vit_registers.pipeline.paths import Paths

Axes = dict[str, str]


@dataclass(frozen=True)
class Step:
    """One kind of job: a function, run once for each of its ``jobs``.

    ``run``: its full name, ``module:function``. ``config``: the part of params that a job gets. ``inputs`` and
    ``outputs``: files that Snakemake follows; ``folders``: outputs that are folders. ``call``: how the function is
    called with config and paths. ``priority``: the scheduler maximises its sum over the jobs that it starts, so a job
    of several threads needs more than that of as many others, or it waits until nothing else is left. ``temporary``:
    outputs are for other steps alone, and go when these have run. ``also``: functions of such steps, whose code decides
    what this one writes as well.
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
    temporary: bool = False
    also: tuple[str, ...] = ()

    def digest(self, config: Strict) -> str:
        """Digest of the code that runs on ``config``."""
        return "".join(digest.code(function, config) for function in (self.run, *self.also))

    def execute(self, config: Strict, at: Paths) -> None:
        """Run the job."""
        module, _, function = self.run.partition(":")
        self.call(getattr(importlib.import_module(module), function), config, at)


def per(name: str, values: Iterable[str]) -> list[Axes]:
    """Axes of jobs along one axis."""
    return [{name: value} for value in values]


def by_pair(pairs: Iterable[tuple[str, str]]) -> list[Axes]:
    """Axes of jobs on pairs of data set and model."""
    return [{"dataset": dataset, "model": model} for dataset, model in pairs]


def dataset_file(at: Paths, name: str) -> Path:
    """What makes a data set whole."""
    return at.dataset(name) / "dataset.json"


def model_file(at: Paths, name: str) -> Path:
    """What makes a model whole."""
    return at.model(name) / "model.json"


def baseline(at: Paths, dataset: str, model: str) -> list[Path]:
    """Features of a model as it is: the file whose content Snakemake follows, and the folder, which has to be there."""
    return [at.extracted("baseline", dataset, model), at.baseline(dataset, model)]


def pair_files(at: Paths, dataset: str, model: str) -> list[Path]:
    """What makes a data set and a model whole."""
    return [dataset_file(at, dataset), model_file(at, model)]
