"""The step that caches features: every named condition of one model on one data set, in one process."""

import logging
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from vit_registers.core.files import digest, exclusive, read_json, sha256, write_json
from vit_registers.data.manifest import Manifest
from vit_registers.extraction import store
from vit_registers.extraction.images import Images
from vit_registers.extraction.plan import Plan
from vit_registers.forward.reading import reading
from vit_registers.interventions import activation_statistics as moments
from vit_registers.interventions.applied import applied
from vit_registers.interventions.resolve import Known, NotApplicable, resolve
from vit_registers.interventions.values import Intervention, check, described, layout_under
from vit_registers.models import backbone as backbones
from vit_registers.models.backbone import Backbone
from vit_registers.pipeline import digest as closure
from vit_registers.pipeline.configs import ExtractConfig

log = logging.getLogger(__name__)

# On CPU one thread per job, whatever the machine has: jobs run side by side, and sums over threads differ in the
# last bit, which must not depend on --cores.
THREADS = 1


def run(
    cfg: ExtractConfig, data: Path, model: Path, out: Path, registers: Path | None, calibration: Path | None = None
) -> None:
    """Write the condition folders below ``out`` (results/features); those complete under the same key are kept.

    With ``registers`` (what detection wrote) the conditions are a pair's interventions: folders of others are pruned,
    and ablated.json, which lists the conditions, is written last. ``calibration``: moments for replacements.
    """
    torch.set_num_threads(THREADS)
    manifest = Manifest.load(data)
    backbone = backbones.load(model, cfg.device)
    found = read_json(registers) if registers else None
    measured = moments.load(calibration) if calibration else None
    resolved = {
        name: resolve(source, backbone, Known(found, measured, (cfg.seed, cfg.dataset, cfg.model, name)))
        for name, source in cfg.interventions.items()
    }
    for intervention in resolved.values():
        if not isinstance(intervention, NotApplicable):
            check(backbone, intervention)
    images = Images(manifest, backbone.preprocess, pinned=backbone.device.type == "cuda")
    indices = {}
    # One lock over all conditions: a process left over from an older study must not prune those of a newer one.
    with exclusive(store.lock_folder(out, cfg.dataset, cfg.model, ablated=registers is not None)):
        for name, intervention in resolved.items():
            folder = store.condition_folder(out, cfg.dataset, cfg.model, name)
            _condition(cfg, name, intervention, folder, backbone, manifest, images)
            indices[name] = sha256(folder / "index.json")
        if registers:
            parent = out / "ablated" / cfg.dataset / cfg.model
            store.prune(parent, list(resolved))
            write_json(parent / "ablated.json", {"conditions": indices})


def _condition(
    cfg: ExtractConfig,
    name: str,
    intervention: Intervention | NotApplicable,
    folder: Path,
    backbone: Backbone,
    manifest: Manifest,
    images: Images,
) -> None:
    key = _key(cfg, intervention, backbone, manifest)
    if store.is_complete(folder, key):
        log.info("%s: complete already", name)
        return
    if isinstance(intervention, NotApplicable):
        store.write_not_applicable(folder, key, intervention.reason)
        log.info("%s: not applicable, %s", name, intervention.reason)
        return
    plan = Plan(backbone, intervention, manifest, cfg.extraction)
    writer = store.Writer(folder, key, plan.specs(), plan.counts())
    log.info("%s: %d images, %d at a time", name, len(manifest.table), plan.batch_size)
    progress = tqdm(total=plan.images, desc=name, unit="img", disable=None)
    before = 0
    for phase in plan.phases():
        done = min(max(writer.done - before, 0), len(phase.batches))
        before += len(phase.batches)
        progress.update(sum(len(rows) for rows in phase.batches[:done]))
        if done == len(phase.batches):
            continue
        todo, sized = phase.batches[done:], phase.backbone
        readers = plan.readers(sized, phase.kind)
        pixels_of = images.native(todo, backbone.patch) if phase.kind == "native" else images.batches(todo)
        with applied(sized, intervention), reading(sized, readers, cfg.extraction.precision) as forward:
            for rows, pixels in zip(todo, pixels_of, strict=True):
                forward(pixels, rows)
                values = {n: array for reader in readers for n, array in reader.take().items()}
                writer.write(*plan.placed(phase, rows, values))
                progress.update(len(rows))
    progress.close()
    writer.finish(_index(cfg, name, intervention, backbone, plan.batch_size))


def _key(cfg: ExtractConfig, intervention: Intervention | NotApplicable, backbone: Backbone, manifest: Manifest) -> str:
    """Digest of all that determines the arrays.

    The batch size is among it, as rounding depends on it. Weights alone do not make a model: one with rotary
    embeddings has the same at every image size.
    """
    why = intervention.reason if isinstance(intervention, NotApplicable) else described(intervention)
    parts = ("architecture", "image_size", "positions", "preprocess", "layout")
    metadata = [backbone.metadata.get(part) for part in parts]
    return digest(
        [
            why,
            cfg.extraction.model_dump(mode="json"),
            metadata,
            backbone.metadata["weights"]["sha256"],
            manifest.sha256,
            str(backbone.device.type),
            closure.code(__name__),
            _versions(),  # half a folder of one torch is not completed by another
        ]
    )


def _index(
    cfg: ExtractConfig, name: str, intervention: Intervention, backbone: Backbone, batch_size: int
) -> dict[str, Any]:
    return {
        "dataset": cfg.dataset,
        "model": cfg.model,
        "condition": name,
        "intervention": described(intervention),
        "layout": layout_under(backbone, intervention).to_json(),
        "depth": backbone.depth,
        "preprocess": backbone.preprocess.to_json(),
        "patch": list(backbone.patch),
        "extraction": cfg.extraction.model_dump(mode="json"),
        "batch_size": batch_size,
        "device": backbone.device.type,
        "versions": _versions(),
    }


def _versions() -> dict[str, str]:
    """Packages whose numerics the arrays are."""
    return {package: version(package) for package in ("torch", "timm", "numpy")}
