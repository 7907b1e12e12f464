"""What enters chosen layers of a ViT while images pass through it: all that planting needs to see of a model."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from vit_registers.backbones.backbone import Backbone

BATCH = 100  # images per pass; bounds the memory, and is a constant because sums depend on it in the last bit


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute on one thread: sums over threads differ in the last bit, and the machine must not change a model."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def residual_sites(backbone: Backbone) -> list[nn.Module]:
    """Modules whose inputs are the residual stream: of every block, then, at the end, of the last block's output."""
    return [*backbone.blocks, backbone.module.norm]  # type: ignore[list-item]


def inputs(backbone: Backbone, sites: Mapping[str, nn.Module], pixels: Tensor) -> Iterator[dict[str, Tensor]]:
    """Batch by batch, the inputs (b, T, channels), fp32, of the modules in ``sites`` for uint8 images (n, 3, s, s)."""
    caught: dict[str, Tensor] = {}

    def catch(name: str, module: nn.Module) -> torch.utils.hooks.RemovableHandle:
        return module.register_forward_pre_hook(lambda _, arguments: caught.__setitem__(name, arguments[0]))

    handles = [catch(name, module) for name, module in sites.items()]
    try:
        for start in range(0, len(pixels), BATCH):
            with torch.no_grad():
                backbone.module(backbone.preprocess.normalise(pixels[start : start + BATCH]))
            yield dict(caught)
    finally:
        for handle in handles:
            handle.remove()
