"""A small ViT from nothing, killed and resumed without a trace.

Order and augmentation of a step are functions of (seed, model, epoch), not of a generator's state, so a checkpoint is
weights, optimizer and step. On one kind of machine the same params give the same bytes.
"""

import csv
import logging
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from vit_registers import closure
from vit_registers.backbones import backbone, watch
from vit_registers.backbones.measurable import layout_of
from vit_registers.backbones.preprocess import Preprocess, load_pixels
from vit_registers.data.manifest import Manifest
from vit_registers.files import digest, exclusive, replacing
from vit_registers.params import Recipe
from vit_registers.seeds import derive, generator
from vit_registers.steps import TrainStep

log = logging.getLogger(__name__)

# A constant, not the machine's count: sums over threads differ in the last bit, and --cores must not change results.
THREADS = 2


def architecture(recipe: Recipe, registers: int, classes: int) -> dict[str, Any]:
    """Arguments of timm's VisionTransformer; registers carry no position embedding (darcet2024)."""
    shape = recipe.architecture
    return {
        "img_size": shape.image_size,
        "patch_size": shape.patch_size,
        "embed_dim": shape.width,
        "depth": shape.depth,
        "num_heads": shape.heads,
        "num_classes": classes,
        "reg_tokens": registers,
        "class_token": True,
        "no_embed_class": True,
        "weight_init": "jax",
    }


def schedule(step: int, steps: int, recipe: Recipe) -> float:
    """Learning rate of a step: linear warm-up, then cosine to zero."""
    warmup = max(1, round(steps * recipe.warmup_share))
    if step < warmup:
        return recipe.lr * (step + 1) / warmup
    return recipe.lr * 0.5 * (1.0 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


def dihedral(images: Tensor, draw: np.ndarray) -> Tensor:
    """Each image (n, 3, s, s) turned and mirrored by its own element 0..7 of the square's symmetries ``draw`` (n,)."""
    out = torch.empty_like(images)
    for element in range(8):
        rows = torch.from_numpy(np.flatnonzero(draw == element))
        turned = torch.rot90(images[rows], element % 4, dims=(2, 3))
        out[rows] = turned.flip(3) if element >= 4 else turned
    return out


def _optimizer(module: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """AdamW; decay on weight matrices only, not on biases, norms, positions, [CLS] or registers."""
    tokens = {"cls_token", "reg_token", "pos_embed"}
    decayed = [p for name, p in module.named_parameters() if p.ndim >= 2 and name not in tokens]
    others = [p for name, p in module.named_parameters() if p.ndim < 2 or name in tokens]
    groups = [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=recipe.lr, betas=recipe.betas, fused=True)


class Training:
    """A model in training: everything a checkpoint holds, and how to take one step."""

    def __init__(self, cfg: TrainStep, classes: int, key: str) -> None:
        self.cfg, self.recipe, self.key = cfg, cfg.recipe, key
        self.device = backbone.pick_device(cfg.device)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive(cfg.seed, "weights", cfg.name))
            self.module = backbone.build(architecture(cfg.recipe, cfg.registers, classes)).to(self.device).train()
        self.optimizer = _optimizer(self.module, cfg.recipe)
        self.loss = nn.CrossEntropyLoss(label_smoothing=cfg.recipe.label_smoothing)
        self.step = 0
        self.losses: list[float] = []  # one per step, the whole curve
        self.norms: list[list[list[float]]] = []  # by epoch and block, what watch.COLUMNS say
        self.attention: list[dict[str, Tensor]] = []  # by epoch, what watch.after_epoch keeps

    def advance(self, images: Tensor, labels: Tensor, steps: int) -> None:
        """One optimizer step on a normalised batch."""
        for group in self.optimizer.param_groups:
            group["lr"] = schedule(self.step, steps, self.recipe)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.recipe.precision == "bf16"):
            loss = self.loss(self.module(images), labels)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.module.parameters(), self.recipe.clip_norm)
        self.optimizer.step()
        self.losses.append(float(loss.detach()))
        self.step += 1

    def save(self, path: Path) -> None:
        """Write a checkpoint atomically."""
        content = {
            "key": self.key,
            "step": self.step,
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
        content = torch.load(path, map_location=self.device, weights_only=True)
        if content["key"] != self.key:
            log.info("%s is of other params or code: starting from nothing", path)
            return
        self.module.load_state_dict(content["module"])
        self.optimizer.load_state_dict(content["optimizer"])
        self.step, self.losses, self.norms = content["step"], content["losses"], content["norms"]
        self.attention = [{name: kept.cpu() for name, kept in epoch.items()} for epoch in content["attention"]]
        log.info("resumed at step %d", self.step)


@torch.inference_mode()
def accuracy(module: nn.Module, images: Tensor, labels: Tensor, preprocess: Preprocess, batch: int = 250) -> float:
    """Top-1 share of uint8 images (n, 3, s, s)."""
    device = next(module.parameters()).device
    module.eval()
    right = 0
    for start in range(0, len(images), batch):
        scores = module(preprocess.normalise(images[start : start + batch].to(device)))
        right += int((scores.argmax(1).cpu() == labels[start : start + batch]).sum())
    module.train()
    return right / len(images)


def run(cfg: TrainStep, data: Path, out: Path) -> None:
    """Train on split train of the manifest in ``data``.

    Writes ``out``/{attention.npz, training.csv, norms.csv, model.safetensors, model.json}.
    """
    torch.set_num_threads(min(THREADS, os.cpu_count() or 1))
    with exclusive(out):
        manifest = Manifest.load(data)
        recipe = cfg.recipe
        size = recipe.architecture.image_size
        preprocess = Preprocess.square(size, size, "bicubic", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
        key = digest([cfg.model_dump(mode="json"), manifest.sha256, closure.code(__name__)])
        checkpoint = out / "checkpoint.pt"
        training = Training(cfg, len(manifest.classes), key)
        training.resume(checkpoint)
        images, labels = load_pixels(manifest, manifest.rows("train"), preprocess)
        held = load_pixels(manifest, manifest.rows("test"), preprocess)
        watched = held[0][: recipe.watched_images]
        per_epoch = len(images) // recipe.batch_size
        steps = per_epoch * recipe.epochs
        progress = tqdm(total=steps, initial=training.step, desc=cfg.name, unit="step", disable=None)
        while training.step < steps:
            epoch, first = divmod(training.step, per_epoch)
            rng = generator(cfg.seed, "epoch", cfg.name, epoch)
            order, turns = rng.permutation(len(images)), rng.integers(8, size=len(images))
            for batch in range(first, per_epoch):
                chosen = slice(batch * recipe.batch_size, (batch + 1) * recipe.batch_size)
                rows = torch.from_numpy(order[chosen])
                inputs = preprocess.normalise(dihedral(images[rows], turns[chosen]).to(training.device))
                training.advance(inputs, labels[rows].to(training.device), steps)
                progress.update()
                if training.step % per_epoch == 0:  # before it is saved: whoever resumes here has it
                    norms, attention = watch.after_epoch(training.module, watched, preprocess, recipe.watched_maps)
                    training.norms.append(norms)
                    training.attention.append(attention)
                if training.step % recipe.checkpoint_steps == 0 and training.step < steps:
                    training.save(checkpoint)
            log.info("epoch %d of %d: loss %.3f", epoch + 1, recipe.epochs, np.mean(training.losses[-per_epoch:]))
        progress.close()
        top1 = accuracy(training.module, *held, preprocess)
        log.info("top-1 on %d test images: %.3f", len(held[0]), top1)
        seen = {"steps": steps, "test_top1": top1, "watched": len(watched)}
        watch.save_attention(training.attention, watched, out / "attention.npz")
        _finish(cfg, manifest, training, preprocess, seen, out)
        checkpoint.unlink(missing_ok=True)


def _finish(
    cfg: TrainStep, data: Manifest, training: Training, preprocess: Preprocess, seen: dict[str, Any], out: Path
) -> None:
    """The training curve and the norms, then the weights, then the card that makes the model whole."""
    steps = seen["steps"]
    with replacing(out / "training.csv") as temporary, temporary.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["step", "lr", "loss"])
        rates = (schedule(step, steps, cfg.recipe) for step in range(steps))
        writer.writerows(zip(range(steps), rates, training.losses, strict=True))
    with replacing(out / "norms.csv") as temporary, temporary.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["epoch", "layer", *watch.COLUMNS])
        for epoch, of_epoch in enumerate(training.norms):
            writer.writerows([epoch + 1, layer, *values] for layer, values in enumerate(of_epoch))
    card = {
        "name": cfg.name,
        "kind": "trained",
        "architecture": architecture(cfg.recipe, cfg.registers, len(data.classes)),
        "preprocess": preprocess.to_json(),
        "layout": layout_of(training.module, cfg.name).to_json(),
        "parameters": sum(p.numel() for p in training.module.parameters()),
        "training": {"dataset": data.name, "manifest": data.sha256, **seen},
    }
    backbone.save(out, training.module, card)
