"""The processes that share a training: one, or those that torchrun started, on one machine or several."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn

from vit_registers.core.errors import InputError
from vit_registers.models.backbone import pick_device


@dataclass(frozen=True)
class Processes:
    """``rank`` of this process among ``count``, and the device it computes on."""

    rank: int
    count: int
    device: torch.device

    @property
    def is_main(self) -> bool:
        """Whether this is the process that writes."""
        return self.rank == 0

    def micro_batches(self, count: int) -> list[int]:
        """Those of a step's ``count`` micro-batches that this process takes."""
        return list(range(self.rank, count, self.count))

    def barrier(self) -> None:
        """Wait until every process is here."""
        if self.count > 1:
            dist.barrier()

    def all_reduce(self, values: Tensor) -> Tensor:
        """``values`` added up over all processes, in place."""
        if self.count > 1:
            dist.all_reduce(values)
        return values

    def all_reduce_gradients(self, module: nn.Module, loss: Tensor) -> Tensor:
        """Add gradients up over all processes, in place, and with them the loss, which is returned."""
        if self.count > 1:
            gradients = [p.grad for p in module.parameters() if p.grad is not None]
            flat = self.all_reduce(torch.cat([g.reshape(-1) for g in gradients] + [loss.reshape(1)]))
            parts = flat.split([g.numel() for g in gradients] + [1])
            for gradient, part in zip(gradients, parts[:-1], strict=True):
                gradient.copy_(part.view_as(gradient))
            loss = parts[-1][0]
        return loss


@contextmanager
def joined(device: str, micro_batches: int) -> Iterator[Processes]:
    """This process among those of torchrun, if it started this one; alone otherwise.

    ``device``: as in params; with CUDA every process takes the device of its local rank. :class:`InputError` where the
    ``micro_batches`` of a step cannot be shared out evenly.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if micro_batches % count:
        raise InputError(
            f"params: recipes: {count} processes cannot share {micro_batches} micro-batches evenly; start as many as "
            "divide them"
        )
    chosen = pick_device(device)
    if count == 1:
        yield Processes(0, 1, chosen)
        return
    if chosen.type == "cuda":
        chosen = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(chosen)
    dist.init_process_group("nccl" if chosen.type == "cuda" else "gloo")
    try:
        yield Processes(dist.get_rank(), count, chosen)
    finally:
        dist.destroy_process_group()
