"""The step that caches features: every named condition of one model on one data set, in one process."""

import logging
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from vit_registers import closure
from vit_registers.backbones import backbone as backbones
from vit_registers.backbones.backbone import Backbone
from vit_registers.data.manifest import Manifest
from vit_registers.files import digest, exclusive, read_json, sha256, write_json
from vit_registers.forward import store
from vit_registers.forward.images import Images
from vit_registers.forward.interventions import Intervention, applied, check, layout_under
from vit_registers.forward.readers import AttentionRows, Keys, Norms, Patches, Reader, Tokens
from vit_registers.forward.resolve import NotApplicable, resolve
from vit_registers.forward.run import reading
from vit_registers.params import Extraction
from vit_registers.steps import ExtractStep

log = logging.getLogger(__name__)

# On CPU one thread per job, whatever the machine has: jobs run side by side, and sums over threads differ in the
# last bit, which must not depend on --cores.
THREADS = 1
Rows = NDArray[np.int64]


def dense_rows(manifest: Manifest, extraction: Extraction) -> Rows:
    """Manifest rows whose per-token arrays are kept: the first ``dense_images`` of ``dense_split``."""
    return manifest.rows(extraction.dense_split)[: extraction.dense_images]


def plan(count: int, dense: Rows, size: int) -> list[Rows]:
    """Batches of rows: first those that are not dense, then the dense ones; the same on every run."""
    others = np.setdiff1d(np.arange(count), dense)
    return [part[i : i + size] for part in (others, dense) for i in range(0, len(part), size)]


def run(cfg: ExtractStep, data: Path, model: Path, out: Path, registers: Path | None) -> None:
    """Write the condition folders below ``out`` (results/features); those complete under the same key are kept.

    With ``registers`` (what detection wrote) the conditions are a pair's interventions: folders of others are pruned,
    and ablated.json, which lists the conditions, is written last.
    """
    torch.set_num_threads(THREADS)
    manifest = Manifest.load(data)
    backbone = backbones.load(model, cfg.device)
    found = read_json(registers) if registers else None
    resolved = {
        name: resolve(source, backbone, found, (cfg.seed, cfg.dataset, cfg.model, name))
        for name, source in cfg.interventions.items()
    }
    for intervention in resolved.values():
        if not isinstance(intervention, NotApplicable):
            check(backbone, intervention)
    images = Images(manifest, backbone.preprocess)
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
    cfg: ExtractStep,
    name: str,
    intervention: Intervention | NotApplicable,
    folder: Path,
    backbone: Backbone,
    manifest: Manifest,
    images: Images,
) -> None:
    described = None if intervention is None else {"kind": type(intervention).__name__, **asdict(intervention)}
    # All that determines the arrays; the batch size is among it, as rounding depends on it. Weights alone do not make
    # a model: one with rotary embeddings has the same at every image size.
    key = digest(
        [
            described,
            cfg.extraction.model_dump(mode="json"),
            [backbone.card[part] for part in ("architecture", "preprocess", "layout")],
            backbone.card["weights"]["sha256"],
            manifest.sha256,
            str(backbone.device.type),
            closure.code(__name__),
            _versions(),  # half a folder of one torch is not completed by another
        ]
    )
    if store.is_complete(folder, key):
        log.info("%s: complete already", name)
        return
    if isinstance(intervention, NotApplicable):
        store.write_not_applicable(folder, key, intervention.reason)
        log.info("%s: not applicable, %s", name, intervention.reason)
        return
    dense = dense_rows(manifest, cfg.extraction)
    everywhere, inside = _readers(backbone, intervention, cfg.extraction)
    specs = {n: spec for reader in (*everywhere, *inside) for n, spec in reader.specs().items()}
    specs["dense_rows"] = store.Spec((), "int64", "dense", "row", "manifest rows of the arrays with dense rows")
    writer = store.Writer(folder, key, specs, {"all": len(manifest.table), "dense": len(dense)})
    batches = plan(len(manifest.table), dense, cfg.extraction.batch_size)
    first_dense = len(batches) - -(-len(dense) // cfg.extraction.batch_size)
    progress = tqdm(total=len(manifest.table), desc=name, unit="img", disable=None)
    progress.update(sum(len(rows) for rows in batches[: writer.done]))
    with applied(backbone, intervention) as layout:
        for start, stop, readers in ((0, first_dense, everywhere), (first_dense, len(batches), everywhere + inside)):
            todo = batches[max(start, writer.done) : stop]
            with reading(backbone, readers, cfg.extraction.precision) as forward:
                for rows, pixels in zip(todo, images.batches(todo), strict=True):
                    forward(pixels)
                    values = {n: array for reader in readers for n, array in reader.take().items()}
                    at = {"all": rows, "dense": np.searchsorted(dense, rows)}
                    if readers is not everywhere:
                        values["dense_rows"] = rows
                    writer.write(values, at)
                    progress.update(len(rows))
    progress.close()
    writer.finish(_index(cfg, name, described, layout.to_json(), backbone))
    log.info("%s: %d images", name, len(manifest.table))


def _readers(
    backbone: Backbone, intervention: Intervention, extraction: Extraction
) -> tuple[list[Reader], list[Reader]]:
    """Readers for every image, and those for the dense ones besides."""
    layout = layout_under(backbone, intervention)
    everywhere: list[Reader] = [Tokens(backbone, layout)]
    inside: list[Reader] = [
        Patches(backbone, layout),
        Norms(backbone, layout),
        AttentionRows(backbone, layout),
        Keys(backbone, layout, extraction.keys_layers),
    ]
    return everywhere, inside


def _index(
    cfg: ExtractStep, name: str, described: dict[str, Any] | None, layout: dict[str, Any], backbone: Backbone
) -> dict[str, Any]:
    return {
        "dataset": cfg.dataset,
        "model": cfg.model,
        "condition": name,
        "intervention": described,
        "layout": layout,
        "depth": backbone.depth,
        "input_size": backbone.preprocess.size,
        "resize": backbone.preprocess.resize,
        "extraction": cfg.extraction.model_dump(mode="json"),
        "device": backbone.device.type,
        "versions": _versions(),
    }


def _versions() -> dict[str, str]:
    """Packages whose numerics the arrays are."""
    return {package: version(package) for package in ("torch", "timm", "numpy")}
