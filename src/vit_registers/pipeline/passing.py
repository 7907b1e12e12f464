"""Steps that pass a data set through a model: a pair in one job, or in shards that another step joins."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from vit_registers.params.base import Strict
from vit_registers.params.shard import shards
from vit_registers.params.study import Params
from vit_registers.pipeline import configs
from vit_registers.pipeline.experiment import Resources
from vit_registers.pipeline.paths import Paths
from vit_registers.pipeline.step import Axes, Step, by_pair, pair_files

PASS_SHARD = "vit_registers.extraction.extract:run_shard"


def resources(params: Params) -> Resources:
    """A pass takes its memory and that of the libraries that it runs in.

    On a CPU it computes on one thread, beside which those that decode hardly count; a GPU waits for them.
    """
    threads = params.extraction.workers if params.device == "cuda" else 1
    return Resources(mem_mb=params.extraction.memory_mb + 2000, threads=threads, gpu=True, runtime=240)


def _copy(params: Params) -> Resources:
    """Joining copies a piece at a time."""
    return Resources(mem_mb=2000, runtime=240)


def _extracted(params: Params, sharded: bool) -> list[Axes]:
    """Pairs that pass in one job, or in shards."""
    return by_pair(pair for pair in params.pairs() if (params.extraction_of(pair[0]).shards > 1) == sharded)


def _ablated(params: Params, sharded: bool) -> list[Axes]:
    """The same of those with interventions."""
    return [axes for axes in _extracted(params, sharded) if len(params.conditions(**axes)) > 1]


def _by_shard(params: Params, pairs: list[Axes]) -> list[Axes]:
    """Every shard of every pair."""
    count = {axes["dataset"]: params.extraction_of(axes["dataset"]).shards for axes in pairs}
    return [{**axes, "shard": str(shard)} for axes in pairs for shard in shards(count[axes["dataset"]])]


def _stamps(params: Params, at: Paths, kind: str, dataset: str, model: str) -> list[Path]:
    """What all shards of a pair leave."""
    count = params.extraction_of(dataset).shards
    return [at.shard(kind, dataset, model, str(shard)) for shard in shards(count)]


def _calibration(params: Params, at: Paths, dataset: str, model: str) -> list[Path]:
    """Activation statistics, where an intervention of the pair needs them."""
    return [at.calibration(dataset, model)] if configs.ablate(params, dataset, model).calibrated else []


def _ablation_inputs(params: Params, at: Paths, dataset: str, model: str, **axes: str) -> list[Path]:
    return [
        *pair_files(at, dataset, model),
        at.found(dataset, model),
        *_calibration(params, at, dataset, model),
    ]


def _ablation_call(run: Any, config: Any, at: Paths) -> None:
    run(
        config,
        at.dataset(config.dataset),
        at.model(config.model),
        at.features,
        at.found(config.dataset, config.model),
        at.calibration(config.dataset, config.model) if config.calibrated else None,
    )


def _extraction_call(run: Any, config: Any, at: Paths) -> None:
    run(config, at.dataset(config.dataset), at.model(config.model), at.features, None, None)


def _extraction_inputs(params: Params, at: Paths, dataset: str, model: str, **axes: str) -> list[Path]:
    return pair_files(at, dataset, model)


def _steps(
    name: str,
    phase: str,
    kind: str,
    under: str,
    pairs: Callable[[Params, bool], list[Axes]],
    config: Callable[..., Strict],
    by_shard: Callable[..., Strict],
    inputs: Callable[..., list[Path]],
    call: Callable[[Any, Any, Paths], None],
) -> tuple[Step, Step, Step]:
    """The pass in one job, a shard of it, and joining these, which all leave the same in the end.

    ``kind`` of features (baseline, ablated), ``under`` what; ``pairs`` that pass in one job or in shards; ``config`` of
    a pair and ``by_shard`` of a shard; ``inputs`` and ``call`` of both.
    """

    def made(params: Params, at: Paths, dataset: str, model: str) -> list[Path]:
        return [at.extracted(kind, dataset, model)]

    def folders(params: Params, at: Paths, dataset: str, model: str) -> list[Path]:
        return [at.features / kind / dataset / model]

    def stamped(params: Params, at: Paths, dataset: str, model: str) -> list[Path]:
        return [*inputs(params, at, dataset, model), *_stamps(params, at, kind, dataset, model)]

    def join(run: Any, config: Any, at: Paths) -> None:
        run(config, at.features, kind == "ablated")

    whole = Step(
        name=name,
        phase=phase,
        help=f"Pass a data set through a model {under}, to memory-mapped features; resumes.",
        run="vit_registers.extraction.extract:run",
        axes=("dataset", "model"),
        jobs=lambda params: pairs(params, False),
        config=config,
        inputs=inputs,
        outputs=made,
        folders=folders,
        call=call,
        resources=resources,
        priority=1,
    )
    shard = Step(
        name=f"{name}_shard",
        phase=phase,
        help=f"Pass a part of the batches of a data set through a model {under}; resumes.",
        run=PASS_SHARD,
        axes=("dataset", "model", "shard"),
        jobs=lambda params: _by_shard(params, pairs(params, True)),
        config=by_shard,
        inputs=inputs,
        outputs=lambda params, at, dataset, model, shard: [at.shard(kind, dataset, model, shard)],
        call=call,
        resources=resources,
        priority=1,
        temporary=True,
    )
    joined = Step(
        name=f"{name}_join",
        phase=phase,
        help=f"Join the features of a model {under} that the shards of a pair wrote; resumes.",
        run="vit_registers.extraction.join:run",
        axes=("dataset", "model"),
        jobs=lambda params: pairs(params, True),
        config=config,
        inputs=stamped,
        outputs=made,
        folders=folders,
        call=join,
        resources=_copy,
        priority=1,
        also=(PASS_SHARD,),
    )
    return whole, shard, joined


EXTRACTING = _steps(
    "extract",
    "features",
    "baseline",
    "as it is",
    _extracted,
    configs.extract,
    configs.extract_shard,
    _extraction_inputs,
    _extraction_call,
)
ABLATING = _steps(
    "ablate",
    "ablation",
    "ablated",
    "under every named intervention of the pair",
    _ablated,
    configs.ablate,
    configs.ablate_shard,
    _ablation_inputs,
    _ablation_call,
)
