"""A ViT from nothing, killed and resumed without a trace, by one process or by several that share its steps.

Order, augmentation and drop path of a step are functions of (seed, model, epoch, step), not of a generator's state, so
a checkpoint is weights, optimizer and step. On one kind of machine the same params give the same bytes.
"""

import csv
import logging
import os
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

from vit_registers import closure
from vit_registers.backbones import backbone, recipe, watch
from vit_registers.backbones.batches import Batch, batches
from vit_registers.backbones.measurable import layout_of
from vit_registers.backbones.preprocess import Preprocess, load_pixels
from vit_registers.backbones.processes import Processes, joined
from vit_registers.backbones.randomness import seeded
from vit_registers.data.manifest import Manifest
from vit_registers.files import digest, exclusive, replacing, write_json
from vit_registers.seeds import derive
from vit_registers.steps import TrainStep

log = logging.getLogger(__name__)

# A constant, not the machine's count: sums over threads differ in the last bit, and --cores must not change results.
THREADS = 2
EVALUATED = 250  # test images in memory at once


class Training:
    """A model in training: everything a checkpoint holds, and how to take one step."""

    def __init__(self, cfg: TrainStep, classes: int, key: str, processes: Processes) -> None:
        self.cfg, self.recipe, self.key, self.processes = cfg, cfg.recipe, key, processes
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive(cfg.seed, "weights", cfg.name))
            module = recipe.build(cfg.recipe, cfg.registers, classes)
        self.module = module.to(processes.device).train()
        self.optimizer = recipe.optimizer(self.module, cfg.recipe)
        self.loss = recipe.loss(cfg.recipe)
        self.step = 0
        self.seconds = 0.0  # of all processes at once, up to the last checkpoint
        self.losses: list[float] = []  # one per step, the whole curve
        self.norms: list[list[list[float]]] = []  # by epoch and block, what watch.COLUMNS say
        self.attention: list[dict[str, Tensor]] = []  # by epoch, what watch.after_epoch keeps

    def advance(self, of_step: list[Batch], rate: float) -> None:
        """One optimizer step at the learning rate ``rate``: the mean gradient over the shards of all processes."""
        device, total = self.processes.device, torch.zeros((), device=self.processes.device)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad(set_to_none=True)
        for shard, images, targets in of_step:
            dropped = seeded(derive(self.cfg.seed, "forward", self.cfg.name, self.step, shard), device)
            low = torch.autocast(device.type, torch.bfloat16, enabled=self.recipe.precision == "bf16")
            with dropped, low:
                logits = self.module(images.to(device, non_blocking=True))
            loss = self.loss(logits.float(), targets.to(device, non_blocking=True)) / self.recipe.shards
            loss.backward()
            total += loss.detach()
        total = self.processes.summed(self.module, total)
        recipe.clip(self.module, self.recipe)
        self.optimizer.step()
        self.losses.append(float(total))
        self.step += 1

    def save(self, path: Path) -> None:
        """Write a checkpoint atomically."""
        content = {
            "key": self.key,
            "step": self.step,
            "seconds": self.seconds,
            "losses": self.losses,
            "norms": self.norms,
            "attention": self.attention,
            "module": self.module.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }
        with replacing(path) as temporary:
            torch.save(content, temporary)

    def resume(self, path: Path) -> None:
        """Go on from a checkpoint of the same params, data and code; any other is of another training and is left."""
        if not path.exists():
            return
        content = torch.load(path, map_location=self.processes.device, weights_only=True)
        if content["key"] != self.key:
            log.info("%s is of other params or code: starting from nothing", path)
            return
        self.module.load_state_dict(content["module"])
        self.optimizer.load_state_dict(content["optimizer"])
        self.step, self.losses, self.norms = content["step"], content["losses"], content["norms"]
        self.seconds = content["seconds"]
        self.attention = [{name: kept.cpu() for name, kept in epoch.items()} for epoch in content["attention"]]
        log.info("resumed at step %d", self.step)


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


def run(cfg: TrainStep, data: Path, out: Path) -> None:
    """Train on split train of the manifest in ``data``; under torchrun with as many processes as it started.

    Writes ``out``/{attention.npz, training.csv, norms.csv, time.json, model.safetensors, model.json}, and where the
    recipe keeps weights on the way, ``out``/epochs/<epoch>.safetensors.
    """
    torch.set_num_threads(min(THREADS, os.cpu_count() or 1))
    with ExitStack() as held:
        processes = held.enter_context(joined(cfg.device, cfg.recipe.shards))
        if processes.first:  # the others wait for it, and it for whoever else is at work in the folder
            held.enter_context(exclusive(out))
        processes.wait()
        _run(cfg, Manifest.load(data), out, processes)
        processes.wait()


def _run(cfg: TrainStep, manifest: Manifest, out: Path, processes: Processes) -> None:
    source, checkpoint = batches(cfg, manifest), out / "checkpoint.pt"
    key = digest([cfg.model_dump(mode="json"), manifest.sha256, closure.code(__name__)])
    training = Training(cfg, len(manifest.classes), key, processes)
    training.resume(checkpoint)
    if processes.first and not training.step:
        shutil.rmtree(out / "epochs", ignore_errors=True)  # of another training
    watched = load_pixels(manifest, manifest.rows("test")[: cfg.recipe.watched_images], source.preprocess)[0]
    rate, steps = recipe.schedule(cfg.recipe, source.per_epoch), source.per_epoch * cfg.recipe.epochs
    quiet = None if processes.first else True  # None: where a person watches
    progress = tqdm(total=steps, initial=training.step, desc=cfg.name, unit="step", disable=quiet)
    started = time.monotonic() - training.seconds
    while training.step < steps:
        epoch, first = divmod(training.step, source.per_epoch)
        for of_step in source.steps(epoch, first, processes.shards(cfg.recipe.shards)):
            training.advance(of_step, rate(training.step))
            training.seconds = time.monotonic() - started
            progress.update()
            if processes.first:
                _after_step(training, source.per_epoch, watched, source.preprocess, out)
                if training.step % cfg.recipe.checkpoint_steps == 0 and training.step < steps:
                    training.save(checkpoint)
        if processes.first:
            mean = np.mean(training.losses[-source.per_epoch :])
            log.info("epoch %d of %d: loss %.3f", epoch + 1, cfg.recipe.epochs, mean)
    progress.close()
    if processes.first:
        top1 = accuracy(training.module, manifest, source.preprocess)
        tested = len(manifest.rows("test"))
        log.info("top-1 on %d test images: %.3f", tested, top1)
        seen = {"steps": steps, "test_top1": top1, "tested": tested, "watched": len(watched)}
        watch.save_attention(training.attention, watched, out / "attention.npz")
        _finish(training, manifest, source.preprocess, [rate(step) for step in range(steps)], seen, out)
        checkpoint.unlink(missing_ok=True)


def _after_step(training: Training, per_epoch: int, watched: Tensor, preprocess: Preprocess, out: Path) -> None:
    """What is looked at and kept where an epoch ends: before a checkpoint, so that whoever resumes there has it."""
    epoch, within = divmod(training.step, per_epoch)
    if within:
        return
    norms, attention = watch.after_epoch(training.module, watched, preprocess, training.recipe.watched_maps)
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
    seen: dict[str, Any],
    out: Path,
) -> None:
    """The training curve, the norms and the time it took, then the weights, then the card that makes the model whole.

    Time is no part of the card: it is the one thing that is not the same again.
    """
    cfg = training.cfg
    with replacing(out / "training.csv") as temporary, temporary.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["step", "lr", "loss"])
        writer.writerows(zip(range(len(rates)), rates, training.losses, strict=True))
    with replacing(out / "norms.csv") as temporary, temporary.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["epoch", "layer", *watch.COLUMNS])
        for epoch, of_epoch in enumerate(training.norms):
            writer.writerows([epoch + 1, layer, *values] for layer, values in enumerate(of_epoch))
    processes = training.processes
    took = {"seconds": training.seconds, "processes": processes.count, "device": processes.device.type}
    write_json(out / "time.json", took)
    card = {
        "name": cfg.name,
        "kind": "trained",
        "architecture": recipe.architecture(cfg.recipe, cfg.registers, len(data.classes)),
        "preprocess": preprocess.to_json(),
        "layout": layout_of(training.module, cfg.name).to_json(),
        "parameters": sum(p.numel() for p in training.module.parameters()),
        "training": {"dataset": data.name, "manifest": data.sha256, **seen},
    }
    backbone.save(out, training.module, card)
