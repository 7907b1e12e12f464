"""Every paper's overlay end to end: random weights of its true architectures, small files in the layout of its data.

What an overlay says stays as it is, but for what only costs (see :func:`here`): no experiment, no model and no data set
is left out, as the largest model, of 1.1 billion weights, takes 4.5 GB. One model of each study has its random weights
in a file, as if they had been released, so that what is done with learnt weights alone is done too.
"""

import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import timm
import torch
import yaml
from safetensors.torch import save_file

from helpers.layouts import sources
from helpers.published import contents
from helpers.studies import STUDIES, load
from vit_registers.claims import ledger
from vit_registers.params import reading
from vit_registers.params.passes import Detection
from vit_registers.params.study import Params
from vit_registers.pipeline import experiment, steps
from vit_registers.pipeline.paths import Paths

pytestmark = [pytest.mark.pipeline, pytest.mark.long]

LIMIT = 8
MEMORY = "mem_mb=20000"  # of the jobs that run at once
WEIGHTS = "weights.safetensors"
# CIFAR's archives are known by their checksums, which no small file has: in the copy those of the files hold.
OWN_CHECKSUMS = """

def _with_own_checksums(archive, root):
    from hashlib import md5

    def own(name):
        return md5((Path(root) / archive.base_folder / name).read_bytes()).hexdigest()

    lists = {key: [[name, own(name)] for name, _ in getattr(archive, key)] for key in ("train_list", "test_list")}
    return type(archive.__name__, (archive,), {**lists, "meta": {**archive.meta, "md5": own(archive.meta["filename"])}})


_published_archive = Cifar._archive
Cifar._archive = lambda self: _with_own_checksums(_published_archive(self), self.path)
"""


def papers() -> list[str]:
    """Studies with released weights."""
    every = {name: load(name) for name in STUDIES}
    return [name for name, params in every.items() if any(_downloads(params, each) for each in params.models_used())]


def _downloads(params: Params, model: str) -> bool:
    return getattr(params.models[model], "downloads", False)


def test_the_papers_are_found() -> None:
    assert {*ledger.sources()} < {*papers()}


def in_a_file(params: Params) -> str:
    """The smallest model of timm in the last run, by its weights."""

    def size(name: str) -> int:
        with torch.device("meta"):
            return sum(weights.numel() for weights in _module(params.models[name]).parameters())

    return min((name for name in params.study.runs[-1].models if params.models[name].kind == "timm"), key=size)


def _module(source: Any) -> torch.nn.Module:
    """A model of timm with random weights."""
    return timm.create_model(source.name.partition(".")[0], pretrained=False, num_classes=0, **source.arguments)


def here(params: Params) -> dict[str, Any]:
    """An overlay on top of a paper's: weights without a network, few images, and less of what changes no path.

    Absolute norms of artifacts are what random weights never reach: patches above the median stand for them, so that
    there are neurons to move. What only costs are resamples of intervals, epochs and batches of trainings, and prompts
    for a class; a fixed batch saves the passes that measure how many images fit.
    """
    models: dict[str, Any] = {}
    for name in (name for name in params.models_used() if _downloads(params, name)):
        models[name] = {"weights": "random"} if params.models[name].kind == "timm" else {"pretrained": None}
    learnt = in_a_file(params)
    models[learnt] = {"kind": "file", "path": WEIGHTS, "name": params.models[learnt].name.partition(".")[0]}
    trained = {params.models[name].recipe for name in params.models_used() if params.models[name].step == "train"}
    short = {"epochs": 2, "warmup_epochs": 1, "batch_size": 2, "micro_batches": 2, "workers": 1, "keep_every": 1}
    above = {"threshold_rule": "ratio", "threshold": 1.0}
    own = {name: above for name in params.detection_overrides if _absolute(params.detection_of(name))}
    change = {
        "limit": LIMIT,
        "device": "cpu",
        "processes": 1,
        "models": models,
        "recipes": dict.fromkeys(trained, short),
        "extraction": {"batch_size": 4, "memory_mb": 8000},
        "detection": {"bootstrap": 20, **(above if _absolute(params.detection) else {})},
        "detection_overrides": own,
        "statistics": {"resamples": 100, "sign_flips": 100},
    }
    if params.experiments.zero_shot is not None:
        change["experiments"] = {"zero_shot": {"templates": ["a photo of a {}."]}}
    return change


def _absolute(detection: Detection) -> bool:
    return detection.threshold_rule == "absolute"


def prepared(project: Any, paper: str) -> Params:
    """Files of all data sets, and of the weights of one model, in a copy of the repository; the params of the run."""
    overlay = project.path / "here.yaml"
    overlay.write_text(yaml.safe_dump(here(load(paper))))
    params = reading.load([project.path / "params.yaml", project.path / f"params/{paper}.yaml", overlay])
    for name in params.datasets_used():
        sources.write(project.path, params.datasets[name])
    torch.manual_seed(0)
    save_file(_module(load(paper).models[in_a_file(load(paper))]).state_dict(), project.path / WEIGHTS)
    with (project.path / "src/vit_registers/data/sources/classification/cifar.py").open("a") as module:
        module.write(OWN_CHECKSUMS)
    return params


@pytest.mark.parametrize("paper", papers())
def test_an_overlay_runs_to_its_end(repository: Any, paper: str) -> None:
    params = prepared(repository, paper)
    before, given = contents(repository.path / "data/raw"), ["--configfile", f"params/{paper}.yaml", "here.yaml"]
    repository.snakemake("--cores", "2", "--resources", MEMORY, *given)

    at = Paths(params.folder, repository.path)
    missing = [path for path in declared(params, at) if not path.is_file() or not path.stat().st_size]
    assert not missing
    claims_are_judged(params, at)
    assert repository.planned(*given) == []
    assert contents(repository.path / "data/raw") == before


def declared(params: Params, at: Paths) -> list[Path]:
    """Every table, figure and the report that the study shows."""
    tables, figures = (steps.shown(params, every) for every in (experiment.tables(), experiment.figures()))
    shown = [at.tables / f"{name}.{suffix}" for name in tables for suffix in ("csv", "tex")]
    shown += [at.figures / f"{name}.{suffix}" for name in figures for suffix in ("png", "pdf")]
    return [*shown, at.table, at.report / ("report.pdf" if shutil.which("latexmk") else "results.tex")]


def claims_are_judged(params: Params, at: Paths) -> None:
    """Where a study judges claims, all of them stand there, and none of them by random weights or by a few images."""
    path = at.tables / "claims.csv"
    assert path.is_file() == ("published_claims" in params.experiment_names)
    if not path.is_file():
        return
    judged = pd.read_csv(path)
    assert judged["id"].tolist() == [claim.id for claim in ledger.load()]
    assert judged["verdict"].notna().all()
    assert {*judged["by"].dropna()} == {"published numbers"}
    assert judged["ours"].isna().all()
    own = judged[judged["source"].isin(params.study.stands_for.papers)]
    assert own["reason"].str.contains("has random weights here").any()
