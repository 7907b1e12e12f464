"""The step that caches features: every named condition of one model on one data set, in one process."""

import logging
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tqdm import tqdm

from vit_registers.core.files import digest, exclusive, read_json, sha256, write_json
from vit_registers.core.threads import threads
from vit_registers.data.manifest import Manifest
from vit_registers.extraction import store
from vit_registers.extraction.images import Images
from vit_registers.extraction.plan import Plan
from vit_registers.forward.reading import reading
from vit_registers.interventions import activation_statistics
from vit_registers.interventions.base import Applied, Known, NotApplicable, applied, check, described
from vit_registers.models import backbone as backbones
from vit_registers.models.backbone import Backbone
from vit_registers.params.passes import Extraction
from vit_registers.pipeline.configs import ExtractConfig
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
    manifest = Manifest.load(data)
    backbone = backbones.load(model, cfg.device)
    resolved = _resolved(cfg, backbone, registers, calibration)
    pinned, views = backbone.device.type == "cuda", cfg.extraction.pairs
    images = Images(manifest, backbone.preprocess, pinned, views)
    indices = {}
    # One lock over all conditions: a process left over from an older study must not prune those of a newer one.
    with exclusive(store.lock_folder(out, cfg.dataset, cfg.model, ablated=registers is not None)):
        for name, intervention in resolved.items():
            folder = store.condition_folder(out, cfg.dataset, cfg.model, name)
            _condition(cfg, name, intervention, folder, backbone, manifest, images)
            indices[name] = sha256(folder / "index.json")
        kind = "ablated" if registers else "baseline"
        if registers:
            store.prune(out / kind / cfg.dataset / cfg.model, list(resolved))
        write_json(out / kind / cfg.dataset / f"{cfg.model}.json", {"conditions": indices})


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


def _condition(
    cfg: ExtractConfig,
    name: str,
    intervention: Applied | NotApplicable | None,
    folder: Path,
    backbone: Backbone,
    manifest: Manifest,
    images: Images,
) -> None:
    frozen_only = name in cfg.extraction.frozen_only
    key = _key(cfg, name, intervention, backbone, manifest)
    if store.is_complete(folder, key):
        log.info("%s: complete already", name)
        return
    if isinstance(intervention, NotApplicable):
        store.write_not_applicable(folder, key, intervention.reason)
        log.info("%s: not applicable, %s", name, intervention.reason)
        return
    plan = Plan(backbone, intervention, manifest, cfg.extraction, frozen_only)
    writer = store.Writer(folder, key, plan.specs(), plan.counts())
    log.info("%s: %d images, %d at a time", name, len(plan.passed), plan.batch_size)
    with tqdm(total=plan.images, desc=name, unit="img", disable=None) as progress:
        _pass(plan, writer, images, progress)
    writer.finish(_index(cfg, name, plan))


def _pass(plan: Plan, writer: store.Writer, images: Images, progress: Any) -> None:
    """Pass every batch that is not written yet."""
    before = 0
    for phase in plan.phases():
        batches = phase.batches
        done = min(max(writer.done - before, 0), len(batches))
        before += len(batches)
        progress.update(sum(len(rows) for rows in batches[:done]))
        if done == len(batches):
            continue
        todo, readers = batches[done:], phase.readers()
        with (
            applied(phase.backbone, plan.intervention),
            reading(phase.backbone, readers, plan.extraction.precision) as forward,
        ):
            for rows, pixels in zip(todo, phase.pixels(images, todo), strict=True):
                forward(pixels, rows)
                values = {n: array for reader in readers for n, array in reader.take().items()}
                writer.write(*phase.placed(rows, values))
                progress.update(len(rows))


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
    """What holds for every condition: which of them pass fewer images is no matter of the others."""
    return extraction.model_dump(mode="json", exclude={"frozen_only"})


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
