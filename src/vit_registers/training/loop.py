"""A ViT from nothing, killed and resumed without a trace, by one process or by several that share its steps.

Order, augmentation and drop path of a step are functions of (seed, draws, epoch, step), not of a generator's state, so
a checkpoint is weights, optimizer and step. On one kind of machine the same params give the same bytes.
"""

import csv
import logging
import shutil
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from tqdm import tqdm

from vit_registers.core import seals
from vit_registers.core.files import digest, exclusive, replacing, write_json
from vit_registers.core.threads import threads
from vit_registers.data.manifest import Manifest
from vit_registers.models import backbone
from vit_registers.models.preprocess import Preprocess, load_pixels
from vit_registers.models.supported import layout_of
from vit_registers.pipeline.configs import TrainConfig
from vit_registers.pipeline.digest import code
from vit_registers.training import monitor
from vit_registers.training.batches import batches
from vit_registers.training.distributed import Processes, joined
from vit_registers.training.state import Training

log = logging.getLogger(__name__)

EVALUATED = 250  # test images in memory at once


@torch.inference_mode()
def accuracy(module: nn.Module, manifest: Manifest, preprocess: Preprocess) -> float:
    """Top-1 share of the test images, ``EVALUATED`` of them in memory at once."""
    device, rows, right = next(module.parameters()).device, manifest.rows("test"), 0
    module.eval()
    for start in range(0, len(rows), EVALUATED):
        images, labels = load_pixels(manifest, rows[start : start + EVALUATED], preprocess)
        right += int((module(preprocess.normalise(images.to(device))).argmax(1).cpu() == labels).sum())
    module.train()
    return right / len(rows)


@threads()
def run(cfg: TrainConfig, data: Path, out: Path) -> None:
    """Train on split train of the manifest in ``data``; under torchrun with as many processes as it started.

    Writes ``out``/{attention.npz, training.csv, norms.csv, time.json, model.safetensors, model.json}, and where the
    recipe keeps weights on the way, ``out``/epochs/<epoch>.safetensors.
    """
    with ExitStack() as held:
        processes = held.enter_context(joined(cfg.device, cfg.recipe.micro_batches))
        if processes.is_main:  # the others wait for it, and it for whoever else is at work in the folder
            held.enter_context(exclusive(out))
        processes.barrier()
        _run(cfg, Manifest.load(data), out, processes)
        processes.barrier()


def _run(cfg: TrainConfig, manifest: Manifest, out: Path, processes: Processes) -> None:
    source, checkpoint = batches(cfg, manifest), out / "checkpoint.pt"
    key = digest([cfg.model_dump(mode="json"), manifest.sha256, code(f"{__name__}:run", cfg)])
    training = Training(cfg, len(manifest.classes), source.per_epoch, key, processes)
    training.resume(checkpoint)
    if processes.is_main and not training.step:
        shutil.rmtree(out / "epochs", ignore_errors=True)  # of another training
    monitored = load_pixels(manifest, manifest.rows("test")[: cfg.recipe.monitored_images], source.preprocess)[0]
    rate, steps = cfg.recipe.learning_rate(source.per_epoch), source.per_epoch * cfg.recipe.epochs
    quiet = None if processes.is_main else True  # None: where a person watches
    progress = tqdm(total=steps, initial=training.step, desc=cfg.name, unit="step", disable=quiet)
    started = time.monotonic() - training.seconds
    while training.step < steps:
        epoch, first = divmod(training.step, source.per_epoch)
        for of_step in source.steps(epoch, first, processes.micro_batches(cfg.recipe.micro_batches)):
            training.advance(of_step, rate(training.step))
            training.seconds = time.monotonic() - started
            progress.update()
            if processes.is_main:
                _after_step(training, source.per_epoch, monitored, source.preprocess, out)
                if training.step % cfg.recipe.checkpoint_steps == 0 and training.step < steps:
                    training.save(checkpoint)
        if processes.is_main:
            mean = np.mean(training.losses[-source.per_epoch :])
            log.info("epoch %d of %d: loss %.3f", epoch + 1, cfg.recipe.epochs, mean)
    progress.close()
    if processes.is_main:
        tested = len(manifest.rows("test"))
        top1 = accuracy(training.module, manifest, source.preprocess) if training.objective.labelled else None
        if top1 is not None:
            log.info("top-1 on %d test images: %.3f", tested, top1)
        results = {"steps": steps, "test_top1": top1, "tested": tested, "monitored": len(monitored)}
        monitor.save_attention(training.attention, monitored, out / "attention.npz")
        _finish(training, manifest, source.preprocess, [rate(step) for step in range(steps)], results, out)
        checkpoint.unlink(missing_ok=True)
        seals.lift([checkpoint])


def _after_step(training: Training, per_epoch: int, monitored: Tensor, preprocess: Preprocess, out: Path) -> None:
    """What is measured and kept where an epoch ends: before a checkpoint, so that whoever resumes there has it."""
    epoch, within = divmod(training.step, per_epoch)
    if within:
        return
    norms, attention = monitor.after_epoch(training.module, monitored, preprocess, training.recipe.monitored_maps)
    training.norms.append(norms)
    training.attention.append(attention)
    if training.recipe.keep_every and epoch % training.recipe.keep_every == 0:
        with replacing(out / "epochs" / f"{epoch:04d}.safetensors") as temporary:
            state = training.module.state_dict()
            save_file({name: tensor.cpu().contiguous() for name, tensor in state.items()}, temporary)


def _finish(
    training: Training,
    data: Manifest,
    preprocess: Preprocess,
    rates: list[float],
    results: dict[str, Any],
    out: Path,
) -> None:
    """Training curve, norms and the time it took, then the weights, then the metadata, which make the model whole.

    Time is no part of the metadata: it is the one thing that is not the same again.
    """
    cfg = training.cfg
    with replacing(out / "training.csv") as temporary, temporary.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["step", "lr", "loss"])
        writer.writerows(zip(range(len(rates)), rates, training.losses, strict=True))
    with replacing(out / "norms.csv") as temporary, temporary.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["epoch", "layer", *monitor.COLUMNS])
        for epoch, of_epoch in enumerate(training.norms):
            writer.writerows([epoch + 1, layer, *values] for layer, values in enumerate(of_epoch))
    processes = training.processes
    took = {"seconds": training.seconds, "processes": processes.count, "device": processes.device.type}
    write_json(out / "time.json", took)
    metadata = {
        "name": cfg.name,
        "kind": "trained",
        "architecture": cfg.recipe.architecture_arguments(cfg.registers, len(data.classes)),
        "preprocess": preprocess.to_json(),
        "layout": layout_of(training.module, cfg.name).to_json(),
        "parameters": sum(p.numel() for p in training.module.parameters()),
        "training": {"dataset": data.name, "manifest": data.sha256, **results},
    }
    backbone.save(out, training.module, metadata)
