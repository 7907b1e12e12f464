"""A model in training: everything a checkpoint holds, and how to take one step."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vit_registers.core import seals
from vit_registers.core.doors import door
from vit_registers.core.errors import InputError
from vit_registers.core.files import replacing
from vit_registers.core.seeds import derive
from vit_registers.pipeline.configs import TrainConfig
from vit_registers.training.batches import Batch
from vit_registers.training.distributed import Processes
from vit_registers.training.objective import Objective
from vit_registers.training.randomness import seeded

log = logging.getLogger(__name__)


@contextmanager
def explicit_attention(module: nn.Module, device: torch.device) -> Iterator[None]:
    """On CPU attention by matrix products within the context: the same values up to rounding.

    Torch's fused kernel for CPU is slow backwards: a third of a step of the small recipe. timm reads the switch in
    every forward pass. Elsewhere, and for measuring, the fused kernel stays.
    """
    attentions: list[Any] = [
        part for part in module.modules() if getattr(part, "fused_attn", False) and device.type == "cpu"
    ]
    for part in attentions:
        part.fused_attn = False
    try:
        yield
    finally:
        for part in attentions:
            part.fused_attn = True


class Training:
    """A training whose epochs are of ``per_epoch`` steps."""

    def __init__(self, cfg: TrainConfig, classes: int, per_epoch: int, key: str, processes: Processes) -> None:
        self.cfg, self.recipe, self.key, self.processes = cfg, cfg.recipe, key, processes
        objective = self._drawn(cfg, cfg.registers, classes, per_epoch)
        if cfg.draws is not None and cfg.registers:
            # Registers are drawn before blocks are: without them, blocks have the draws of the models without.
            plain = self._drawn(cfg, 0, classes, per_epoch).state_dict()
            own = objective.state_dict()
            objective.load_state_dict({**own, **{k: v for k, v in plain.items() if v.shape == own[k].shape}})
        self.objective: Objective = objective.to(processes.device).train()
        self.optimizer = self.objective.optimizer()
        self.step = 0
        self.seconds = 0.0  # of all processes at once, up to the last checkpoint
        self.losses: list[float] = []  # one per step, the whole curve
        self.norms: list[list[list[float]]] = []  # by epoch and block, what monitor.COLUMNS say
        self.attention: list[dict[str, Tensor]] = []  # by epoch, what monitor.after_epoch keeps

    @staticmethod
    def _drawn(cfg: TrainConfig, registers: int, classes: int, per_epoch: int) -> Objective:
        """What is trained, with its initial weights."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive(cfg.seed, "weights", cfg.drawn_as))
            objective: Objective = cfg.recipe.objective(registers, classes, per_epoch)
            return objective

    @property
    def module(self) -> nn.Module:
        """The model: what is monitored and saved."""
        return self.objective.model

    def advance(self, of_step: list[Batch], rate: float) -> None:
        """One optimizer step at the learning rate ``rate``: the mean gradient over all processes' micro-batches."""
        device, total = self.processes.device, torch.zeros((), device=self.processes.device)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad(set_to_none=True)
        for micro_batch, *parts in of_step:
            draws = seeded(derive(self.cfg.seed, "forward", self.cfg.drawn_as, self.step, micro_batch), device)
            autocast = torch.autocast(device.type, torch.bfloat16, enabled=self.recipe.precision == "bf16")
            inputs, targets = (part.to(device, non_blocking=True) for part in parts)
            with draws, autocast, explicit_attention(self.objective, device):
                loss = self.objective.loss(inputs, targets, self.step) / self.recipe.micro_batches
            loss.backward()
            total += loss.detach()
        total = self.processes.all_reduce_gradients(self.objective.trained, total)
        self.objective.before_update(self.optimizer, self.step)
        self.optimizer.step()
        self.objective.after_update(self.processes, self.step)
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
            "objective": self.objective.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }
        with seals.renewed([path]), replacing(path) as temporary:
            torch.save(content, temporary)

    def resume(self, path: Path) -> None:
        """Go on from a checkpoint of the same params, data and code; any other is of another training and is left."""
        if not path.exists():
            return
        content = _checkpoint(path, self.processes.device)
        if content is None or content["key"] != self.key:
            why = "is damaged" if content is None else "is of other params or code"
            log.warning("%s %s: starting from nothing", path, why)
            return
        self.objective.load_state_dict(content["objective"])
        self.optimizer.load_state_dict(content["optimizer"])
        self.step, self.losses, self.norms = content["step"], content["losses"], content["norms"]
        self.seconds = content["seconds"]
        self.attention = [{name: kept.cpu() for name, kept in epoch.items()} for epoch in content["attention"]]
        log.info("resumed at step %d", self.step)


def _checkpoint(path: Path, device: torch.device) -> dict[str, Any] | None:
    """What :meth:`Training.save` wrote; None where the file was cut short or is something else.

    torch itself does not look at the checksums of its records.
    """
    try:
        seals.check([path])
        with door(path, "a checkpoint"):
            content = torch.load(path, map_location=device, weights_only=True)
    except InputError:
        return None
    return content if isinstance(content, dict) and "key" in content else None
