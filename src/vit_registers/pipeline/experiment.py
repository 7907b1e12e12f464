"""What an experiment declares: how it is measured, which numbers it makes, and how they are shown.

An experiment is a folder of :mod:`vit_registers.experiments` whose ``__init__`` holds an ``EXPERIMENT``; being there is
all it takes to have a command, a Snakemake rule, a place in DVC's graph, rows in the tidy table, tables, figures, a
paragraph of methods and a section of the report. Declarations compute nothing and import nothing heavy.
"""

import importlib
import pkgutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal

from vit_registers.core.table import Metric
from vit_registers.params.base import Strict
from vit_registers.params.experiments import ExperimentParams, MeasureConfig

PACKAGE = "vit_registers.experiments"
Axis = Literal["dataset", "model"]
# What a measure may read, see Job: the manifest; the baseline's features; those of the model that this one was made
# from (Params.reference); those of all conditions; these with second views of images (pairs), which pass for nobody
# else; what detection found; the model; what training left; the values by image of all other measures.
Reads = Literal["manifest", "baseline", "reference", "conditions", "pairs", "registers", "model", "training", "images"]


@dataclass(frozen=True)
class Resources:
    """What a job needs: memory in MiB, threads that it really uses, minutes on a cluster, and whether a GPU helps."""

    mem_mb: int = 2000
    threads: int = 1
    runtime: int = 60
    gpu: bool = False


@dataclass(frozen=True)
class Measure:
    """A step that measures: one job for each combination of ``per`` on which the experiment runs.

    ``run``: ``module:function`` below the experiment's package, called with the config and a ``Job``
    (experiments/job.py). ``config`` picks the job's part of params. ``metrics`` are the numbers that it makes, ``axes``
    what they are measured along beside the axes that every table has. ``images``: whether it keeps values by image,
    which are then compared between conditions; ``pooled``: whether it keeps scores of all images together in every
    resample, to be compared likewise; ``arrays``: whether it keeps arrays for figures. ``where``: a model for
    which it does not hold has no job.
    """

    name: str
    run: str
    config: type[MeasureConfig]
    reads: tuple[Reads, ...]
    metrics: tuple[Metric, ...]
    per: tuple[Axis, ...] = ("dataset", "model")
    axes: Mapping[str, str] = field(default_factory=dict)
    images: bool = False
    pooled: bool = False
    arrays: bool = False
    where: Callable[[Any, str], bool] = lambda params, model: True
    resources: Resources = Resources()

    @property
    def help(self) -> str:
        """What its command says of itself."""
        return f"Measure {self.name.replace('_', ' ')}."


@dataclass(frozen=True)
class View:
    """A table or a figure.

    ``draw``: ``module:function`` below the experiment's package. ``shows``: names of the metrics whose rows it reads
    (of any experiment), ``differences`` whether their paired differences too, ``arrays`` names of measures whose arrays
    it draws. ``caption``: one text for LaTeX and HTML, in plain words, a Jinja2 template over :mod:`report.facts`.
    ``data``: files of this package, below it, that it shows as well.
    ``size``: of the type in LaTeX; a ``long`` table goes on over pages; a ``stacked`` one has intervals below their
    numbers; ``when``: a fact without which the report leaves it out.
    ``place``: the body of the report, which is to stay within twelve pages whatever the study, or its appendix;
    ``most``: rows of a table that are printed at most, where those of its study have no bound.
    """

    name: str
    draw: str
    caption: str
    shows: tuple[str, ...] = ()
    differences: bool = False
    arrays: tuple[str, ...] = ()
    data: tuple[str, ...] = ()
    size: str = "small"
    long: bool = False
    stacked: bool = False
    when: str | None = None
    printed: bool = True
    place: Literal["body", "appendix"] = "appendix"
    most: int | None = None


class Table(View):
    """A view written as CSV and LaTeX."""


class Figure(View):
    """A view drawn as PDF and PNG."""


@dataclass(frozen=True)
class Scene(View):
    """A view of the explorer: ``title`` names it in the page, its caption says how to read it.

    Its function returns a widget of :mod:`vit_registers.views.scenes.widgets`, or None where there is nothing to show.
    """

    title: str = ""


@dataclass(frozen=True)
class Experiment:
    """A subject: its measures, tables, figures and scenes of the explorer. ``order``: its place in the report."""

    title: str
    order: int
    params: type[ExperimentParams] = ExperimentParams
    measures: tuple[Measure, ...] = ()
    tables: tuple[Table, ...] = ()
    figures: tuple[Figure, ...] = ()
    scenes: tuple[Scene, ...] = ()


@dataclass(frozen=True)
class Found:
    """An experiment and where it is."""

    name: str
    package: str
    folder: Path
    experiment: Experiment

    def function(self, reference: str) -> str:
        """A function of it by its full name, ``package.module:function``."""
        return f"{self.package}.{reference}"


@cache
def found() -> dict[str, Found]:
    """All experiments by name, in the order of the report."""
    folder = importlib.import_module(PACKAGE)
    everything = []
    for module in pkgutil.iter_modules(folder.__path__):
        if module.ispkg:
            package = f"{PACKAGE}.{module.name}"
            loaded = importlib.import_module(package)
            everything.append(Found(module.name, package, Path(loaded.__path__[0]), loaded.EXPERIMENT))
    return {each.name: each for each in sorted(everything, key=lambda each: (each.experiment.order, each.name))}


@cache
def measures() -> dict[str, tuple[Found, Measure]]:
    """All measures by name, with their experiments."""
    return _unique((m.name, (each, m)) for each in found().values() for m in each.experiment.measures)


@cache
def tables() -> dict[str, tuple[Found, Table]]:
    """All tables by name, in the order of the report."""
    return _unique((t.name, (each, t)) for each in found().values() for t in each.experiment.tables)


@cache
def figures() -> dict[str, tuple[Found, Figure]]:
    """All figures by name, in the order of the report."""
    return _unique((f.name, (each, f)) for each in found().values() for f in each.experiment.figures)


@cache
def scenes() -> dict[str, tuple[Found, Scene]]:
    """All scenes of the explorer by name, in the order of the report."""
    return _unique((s.name, (each, s)) for each in found().values() for s in each.experiment.scenes)


@cache
def metrics() -> dict[str, tuple[str, Metric]]:
    """Every metric by name, with the measure that makes it; a name belongs to one measure."""
    return _unique((metric.name, (name, metric)) for name, (_, m) in measures().items() for metric in m.metrics)


@cache
def axes() -> dict[str, str]:
    """Axes that measures declare beside those that every table has, with their pandas types."""
    declared: dict[str, str] = {}
    for name, (_, measure) in measures().items():
        for axis, kind in measure.axes.items():
            if declared.setdefault(axis, kind) != kind:
                raise TypeError(f"measure '{name}': axis '{axis}' is {declared[axis]} elsewhere and {kind} here")
    return dict(sorted(declared.items()))


def _unique(pairs: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise TypeError(f"'{name}' is declared twice; names of measures, views and metrics must differ")
        found[name] = value
    return found


def settings(name: str) -> type[Strict]:
    """Class of the params of an experiment."""
    return found()[name].experiment.params


def owner(measure: str) -> str:
    """The experiment that a measure belongs to."""
    return measures()[measure][0].name


def reading(what: Reads, names: Iterable[str]) -> bool:
    """Whether a measure of some experiments reads ``what``."""
    return any(what in measure.reads for name in names for measure in found()[name].experiment.measures)


@cache
def comparing() -> tuple[str, ...]:
    """Measures that compare what others gave image by image: their rows are differences."""
    return tuple(name for name, (_, measure) in measures().items() if "images" in measure.reads)
