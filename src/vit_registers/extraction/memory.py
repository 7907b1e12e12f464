"""How many images fit: the memory of a pass measured on one and on two images, the same on every machine."""

import weakref
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from vit_registers.core.errors import InputError
from vit_registers.forward.readers.base import Reader
from vit_registers.forward.reading import reading
from vit_registers.interventions.base import Applied, applied, shuffles
from vit_registers.models.backbone import Backbone

MOST = 128  # images: what a killed run may lose
MIB = 1 << 20


class _LiveBytes(TorchDispatchMode):
    """Counts the bytes of all tensors made within, and the most that were alive at once."""

    def __init__(self) -> None:
        super().__init__()
        self.alive = self.peak = 0
        self.known: dict[int, int] = {}

    def _free(self, key: int) -> None:
        self.alive -= self.known.pop(key)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor):
                storage = tensor.untyped_storage()
                key = storage._cdata
                if key not in self.known and storage.nbytes():
                    self.known[key] = storage.nbytes()
                    self.alive += storage.nbytes()
                    weakref.finalize(storage, self._free, key)
        self.peak = max(self.peak, self.alive)
        return out


def peak_bytes(
    backbone: Backbone,
    intervention: Applied | None,
    readers: Callable[[], Sequence[Reader]],
    precision: str,
    images: int,
) -> int:
    """Most bytes of tensors alive at once, weights and input left out, while ``images`` images pass."""
    height, width = (grid * patch for grid, patch in zip(backbone.layout.grid, backbone.patch, strict=True))
    pixels = torch.zeros(images, 3, height, width)
    chosen = readers()
    with applied(backbone, intervention), reading(backbone, chosen, precision) as forward, _LiveBytes() as live:
        forward(pixels, range(images))
        for reader in chosen:
            reader.take()
    return live.peak


def batch_size(
    asked: int | str,
    backbone: Backbone,
    intervention: Applied | None,
    readers: Callable[[], Sequence[Reader]],
    precision: str,
    memory_mb: int,
) -> int:
    """The number that was ``asked`` for; or, for ``auto``, the most images that fit, up to 128.

    Their pass has to fit into ``memory_mb`` MiB with the weights and two batches of input. The memory of a pass is
    linear in the images, so two passes tell it. What a fused kernel needs inside is not seen.
    """
    if isinstance(asked, int):
        return asked
    height, width = (grid * patch for grid, patch in zip(backbone.layout.grid, backbone.patch, strict=True))
    weights = sum(tensor.nbytes for tensor in backbone.module.state_dict().values())
    least = 2 if shuffles(intervention) else 1
    few = peak_bytes(backbone, intervention, readers, precision, least)
    more = peak_bytes(backbone, intervention, readers, precision, least + 1)
    image = more - few
    pixels = 2 * 3 * height * width * 5  # uint8 and fp32, of this batch and of the next
    room = memory_mb * MIB - weights - (few - least * image)
    count = room // (image + pixels)
    if count < least:
        needed = -(-(memory_mb * MIB - room + least * (image + pixels)) // MIB)
        raise InputError(
            f"params: extraction.memory_mb: {memory_mb} is too little for model '{backbone.name}', whose pass of "
            f"{least} images takes {needed}; raise it"
        )
    return int(min(count, MOST))
