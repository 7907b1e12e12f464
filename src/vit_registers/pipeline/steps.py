"""The list of steps: what each job of a study runs, on what, from what, to what.

Steps that make data, models, features and detections are written down (making.py); measures are found with their
experiments (measuring.py). The command line, Snakemake's rules and DVC's graph are made from this list.
"""

from collections.abc import Collection
from functools import cache
from pathlib import Path
from typing import Any

from vit_registers.params.study import Params
from vit_registers.pipeline import experiment
from vit_registers.pipeline.making import MAKING
from vit_registers.pipeline.measuring import measuring
from vit_registers.pipeline.paths import Paths
from vit_registers.pipeline.step import Step


@cache
def steps() -> dict[str, Step]:
    """Every step by name."""
    return {step.name: step for step in (*MAKING, *measuring())}


def compared_by_image(params: Params, dataset: str, models: Collection[str]) -> dict[str, list[str]]:
    """Measures that keep values by image of some ``models`` on a data set, each with those of them that it runs on."""
    found: dict[str, list[str]] = {}
    for name, (_, measure) in experiment.measures().items():
        jobs = steps()[name].jobs(params) if measure.images else []
        here = {job["model"] for job in jobs if job["dataset"] == dataset}
        if here & set(models):
            found[name] = sorted(here & set(models))
    return found


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
