"""Steps that make data, models, features and detections."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from vit_registers.params.shard import shards
from vit_registers.params.study import Params
from vit_registers.pipeline import configs
from vit_registers.pipeline.experiment import Resources
from vit_registers.pipeline.paths import Paths
from vit_registers.pipeline.step import Axes, Step, by_pair, dataset_file, model_file, pair_files, per

PASS_SHARD = "vit_registers.extraction.extract:run_shard"


def _made_by(step: str) -> Callable[[Params], list[Axes]]:
    return lambda params: per("model", (name for name in params.models_used() if params.models[name].step == step))


def _pass(params: Params) -> Resources:
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


def _base(params: Params, at: Paths, model: str) -> list[Path]:
    base = params.models[model].made_from
    return [model_file(at, base)] if base else []


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
        jobs=lambda params: per("dataset", params.datasets_used()),
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
        resources=lambda params: Resources(mem_mb=4000, threads=params.processes, gpu=True, runtime=6000),
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
        jobs=lambda params: _extracted(params, sharded=False),
        config=configs.extract,
        inputs=lambda params, at, dataset, model: pair_files(at, dataset, model),
        outputs=lambda params, at, dataset, model: [at.extracted("baseline", dataset, model)],
        folders=lambda params, at, dataset, model: [at.baseline(dataset, model)],
        call=_extraction_call,
        resources=_pass,
        priority=1,
    ),
    Step(
        name="extract_shard",
        phase="features",
        help="Pass a part of the batches of a data set through a model as it is; resumes.",
        run=PASS_SHARD,
        axes=("dataset", "model", "shard"),
        jobs=lambda params: _by_shard(params, _extracted(params, sharded=True)),
        config=configs.extract_shard,
        inputs=lambda params, at, dataset, model, shard: pair_files(at, dataset, model),
        outputs=lambda params, at, dataset, model, shard: [at.shard("baseline", dataset, model, shard)],
        call=_extraction_call,
        resources=_pass,
        priority=1,
        temporary=True,
    ),
    Step(
        name="extract_join",
        phase="features",
        help="Join the features that the shards of a pair wrote; resumes.",
        run="vit_registers.extraction.join:run",
        axes=("dataset", "model"),
        jobs=lambda params: _extracted(params, sharded=True),
        config=configs.extract,
        inputs=lambda params, at, dataset, model: [
            *pair_files(at, dataset, model),
            *_stamps(params, at, "baseline", dataset, model),
        ],
        outputs=lambda params, at, dataset, model: [at.extracted("baseline", dataset, model)],
        folders=lambda params, at, dataset, model: [at.baseline(dataset, model)],
        call=lambda run, config, at: run(config, at.features, False),
        resources=_copy,
        priority=1,
        also=(PASS_SHARD,),
    ),
    Step(
        name="detect",
        phase="registers",
        help="Find outlier tokens and rank the neurons behind them.",
        run="vit_registers.registers.detect:run",
        axes=("dataset", "model"),
        jobs=lambda params: by_pair(params.detected_pairs()),
        config=configs.detect,
        inputs=lambda params, at, dataset, model: pair_files(at, dataset, model),
        outputs=lambda params, at, dataset, model: [
            at.found(dataset, model),
            at.found(dataset, model).with_suffix(".neurons.csv"),
        ],
        call=lambda run, config, at: run(
            config,
            at.dataset(config.dataset),
            at.model(config.model),
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
        jobs=lambda params: [axes for axes in by_pair(params.pairs()) if configs.ablate(params, **axes).calibrated],
        config=configs.calibrate,
        inputs=lambda params, at, dataset, model: pair_files(at, dataset, model),
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
        jobs=lambda params: _ablated(params, sharded=False),
        config=configs.ablate,
        inputs=_ablation_inputs,
        outputs=lambda params, at, dataset, model: [at.extracted("ablated", dataset, model)],
        folders=lambda params, at, dataset, model: [at.ablated(dataset, model)],
        call=_ablation_call,
        resources=_pass,
        priority=1,
    ),
    Step(
        name="ablate_shard",
        phase="ablation",
        help="Pass a part of the batches of a data set under every named intervention of the pair; resumes.",
        run=PASS_SHARD,
        axes=("dataset", "model", "shard"),
        jobs=lambda params: _by_shard(params, _ablated(params, sharded=True)),
        config=configs.ablate_shard,
        inputs=_ablation_inputs,
        outputs=lambda params, at, dataset, model, shard: [at.shard("ablated", dataset, model, shard)],
        call=_ablation_call,
        resources=_pass,
        priority=1,
        temporary=True,
    ),
    Step(
        name="ablate_join",
        phase="ablation",
        help="Join the features that the shards of a pair wrote under its interventions; resumes.",
        run="vit_registers.extraction.join:run",
        axes=("dataset", "model"),
        jobs=lambda params: _ablated(params, sharded=True),
        config=configs.ablate,
        inputs=lambda params, at, dataset, model: [
            *_ablation_inputs(params, at, dataset, model),
            *_stamps(params, at, "ablated", dataset, model),
        ],
        outputs=lambda params, at, dataset, model: [at.extracted("ablated", dataset, model)],
        folders=lambda params, at, dataset, model: [at.ablated(dataset, model)],
        call=lambda run, config, at: run(config, at.features, True),
        resources=_copy,
        priority=1,
        also=(PASS_SHARD,),
    ),
)
