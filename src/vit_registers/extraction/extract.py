"""The step that caches features: every named condition of one model on one data set, in one process or in shards."""

import logging
from concurrent.futures import Future, ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tqdm import tqdm

from vit_registers.core.files import digest, exclusive, read_json
from vit_registers.core.threads import threads
from vit_registers.data.manifest import Manifest
from vit_registers.extraction import shards, store
from vit_registers.extraction.images import Images
from vit_registers.extraction.plan import Plan
from vit_registers.forward.reading import reading
from vit_registers.interventions import activation_statistics
from vit_registers.interventions.base import Applied, Known, NotApplicable, applied, check, described
from vit_registers.models import backbone as backbones
from vit_registers.models.backbone import Backbone
from vit_registers.params.passes import Extraction
from vit_registers.params.shard import Shard
from vit_registers.pipeline.configs import ExtractConfig, ShardConfig, tracked
from vit_registers.pipeline.digest import code

log = logging.getLogger(__name__)


@threads()
def run(
    cfg: ExtractConfig, data: Path, model: Path, out: Path, registers: Path | None, calibration: Path | None = None
) -> None:
    """Write the condition folders below ``out`` (results/features); those complete under the same key are kept.

    With ``registers`` (what detection wrote) the conditions are a pair's interventions: folders of others are pruned.
    Beside the pair's folder <model>.json is written last, with a checksum of every condition. ``calibration``:
    activation statistics for ablations.
    """
    extractor, ablated = Extractor(cfg, data, model, registers, calibration), registers is not None
    unfinished = store.unfinished_folder(out, cfg.dataset, cfg.model, ablated)
    # One lock over all conditions: a process left over from an older study must not prune those of a newer one.
    with exclusive(store.lock_folder(out, cfg.dataset, cfg.model, ablated)):
        for name in cfg.interventions:
            folder = store.condition_folder(out, cfg.dataset, cfg.model, name)
            if store.is_complete(folder, extractor.key(name)):
                log.info("%s: complete already", name)
            else:
                extractor.make(name, unfinished / store.WHOLE / name, Shard())
        store.deliver(out, cfg.dataset, cfg.model, list(cfg.interventions), ablated)


@threads()
def run_shard(
    cfg: ShardConfig, data: Path, model: Path, out: Path, registers: Path | None, calibration: Path | None = None
) -> None:
    """Pass a part of the batches of every condition, to be joined with the others (extraction/join.py).

    Arguments are those of :func:`run`. A condition that is complete under the same key, by another number of shards,
    passes no more: its features are linked, as Snakemake clears them away before they are joined.
    """
    extractor, ablated = Extractor(cfg, data, model, registers, calibration), registers is not None
    unfinished = store.unfinished_folder(out, cfg.dataset, cfg.model, ablated)
    own, indices = unfinished / cfg.shard, {}
    with exclusive(own):
        for name in cfg.interventions:
            made, key = unfinished / store.WHOLE / name, extractor.key(name)
            with exclusive(store.lock_folder(out, cfg.dataset, cfg.model, ablated)):
                complete = store.linked(store.condition_folder(out, cfg.dataset, cfg.model, name), made, key)
            if complete:
                log.info("%s: complete already", name)
            else:
                made = own / name
                extractor.make(name, made, cfg.part)
            indices[name] = made / "index.json"
        shards.write_stamp(store.stamp(out, cfg.dataset, cfg.model, ablated, cfg.part), cfg, indices)


class Extractor:
    """A model, a data set, and what is done under each condition."""

    def __init__(
        self, cfg: ExtractConfig, data: Path, model: Path, registers: Path | None, calibration: Path | None
    ) -> None:
        """Refused: an intervention that the model has no place for."""
        self.cfg, self.manifest = cfg, Manifest.load(data)
        self.backbone = backbones.load(model, cfg.device)
        self.resolved = _resolved(cfg, self.backbone, registers, calibration)
        reads = cfg.extraction
        self.images = Images(self.manifest, self.backbone.preprocess, self.backbone.device, reads, reads.pairs)

    def key(self, name: str) -> str:
        """Key of a condition."""
        return _key(self.cfg, name, self.resolved[name], self.backbone, self.manifest)

    def make(self, name: str, folder: Path, shard: Shard) -> None:
        """Pass the batches of a shard under a condition, and write them to ``folder``; goes on where it was killed."""
        intervention, key = self.resolved[name], self.key(name)
        if store.is_complete(folder, key):
            log.info("%s: complete already", name)
            return
        if isinstance(intervention, NotApplicable):
            store.write_not_applicable(folder, key, intervention.reason)
            log.info("%s: not applicable, %s", name, intervention.reason)
            return
        extraction = self.cfg.extraction
        plan = Plan(self.backbone, intervention, self.manifest, extraction, name in extraction.frozen_only)
        writer = store.Writer(folder, key, plan.specs(), plan.counts())
        log.info("%s: %d images, %d at a time", name, len(plan.passed), plan.batch_size)
        with tqdm(total=plan.images // shard.of, desc=name, unit="img", disable=None) as progress:
            _pass(plan, shard, writer, self.images, progress)
        if shard.of > 1:
            shards.write_rows(writer.partial, shards.rows(plan, shard))
        writer.finish(_index(self.cfg, name, plan))


def _resolved(
    cfg: ExtractConfig, backbone: Backbone, registers: Path | None, calibration: Path | None
) -> dict[str, Applied | NotApplicable | None]:
    """What is done under each condition, None for the baseline; what the model has no place for is refused."""
    found = read_json(registers) if registers else None
    statistics = activation_statistics.load(calibration) if calibration else None
    resolved: dict[str, Applied | NotApplicable | None] = {}
    for name, source in cfg.interventions.items():
        known = Known(found, statistics, (cfg.seed, cfg.dataset, cfg.model, name))
        resolved[name] = None if source is None else source.resolve(backbone, known)
    for intervention in resolved.values():
        if not isinstance(intervention, NotApplicable):
            check(backbone, intervention)
    return resolved


def _pass(plan: Plan, shard: Shard, writer: store.Writer, images: Images, progress: Any) -> None:
    """Pass every batch of a shard that is not written yet; while one passes, the one before it is written."""
    begun, before = writer.done, 0
    with ThreadPoolExecutor(1) as pen:
        for phase, batches in shards.parts(plan.phases(), shard):
            done = min(max(begun - before, 0), len(batches))
            before += len(batches)
            progress.update(sum(len(rows) for rows in batches[:done]))
            if done == len(batches):
                continue
            todo, readers = batches[done:], phase.readers()
            written: Future[None] | None = None
            with (
                applied(phase.backbone, plan.intervention),
                reading(phase.backbone, readers, plan.extraction.precision) as forward,
            ):
                for rows, pixels in zip(todo, phase.pixels(images, todo), strict=True):
                    forward(pixels, rows)  # a GPU has now been told what to do, and does it
                    if written is not None:
                        written.result()
                    values = {n: array for reader in readers for n, array in reader.take().items()}
                    written = pen.submit(writer.write, *phase.placed(rows, values))
                    progress.update(len(rows))
            if written is not None:
                written.result()


def _key(
    cfg: ExtractConfig,
    name: str,
    intervention: Applied | NotApplicable | None,
    backbone: Backbone,
    manifest: Manifest,
) -> str:
    """Digest of all that determines the arrays.

    The batch size is among it, as rounding depends on it. Weights alone do not make a model: one with rotary
    embeddings has the same at every image size.
    """
    why = intervention.reason if isinstance(intervention, NotApplicable) else described(intervention)
    metadata = [
        backbone.metadata.get(part) for part in ("architecture", "image_size", "positions", "preprocess", "layout")
    ]
    return digest(
        [
            why,
            _settings(cfg.extraction),
            name in cfg.extraction.frozen_only,
            metadata,
            backbone.metadata["weights"]["sha256"],
            manifest.sha256,
            str(backbone.device.type),
            code(f"{__name__}:run", cfg.interventions[name]),
            _versions(),  # half a folder of one torch is not completed by another
        ]
    )


def _settings(extraction: Extraction) -> dict[str, Any]:
    """What holds for every condition: which of them pass fewer images is no matter of the others.

    In how many shards images passed, and how they were loaded, is no matter of any.
    """
    return {name: value for name, value in tracked(extraction).items() if name != "frozen_only"}


def _index(cfg: ExtractConfig, name: str, plan: Plan) -> dict[str, Any]:
    backbone = plan.backbone
    return {
        "dataset": cfg.dataset,
        "model": cfg.model,
        "condition": name,
        "intervention": described(plan.intervention),
        "layout": plan.layout.to_json(),
        "depth": backbone.depth,
        "preprocess": backbone.preprocess.to_json(),
        "patch": list(backbone.patch),
        "extraction": _settings(cfg.extraction),
        "frozen_only": plan.frozen_only,
        "batch_size": plan.batch_size,
        "device": backbone.device.type,
        "versions": _versions(),
    }


def _versions() -> dict[str, str]:
    """Packages whose numerics the arrays are."""
    return {package: version(package) for package in ("torch", "timm", "numpy")}
