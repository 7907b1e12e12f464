"""What enters chosen layers of a ViT while images pass through it: all that planting needs to see of a model."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vit_registers.models.backbone import Backbone

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


@dataclass(frozen=True)
class Survey:
    """What planting into one block needs to know of a model, over n images.

    ``z``: what enters the block's MLP, (n, T, D) fp32. ``activity``: mean |activation| of each of its neurons over all
    tokens, (H,). ``norm``: median over patches of the norm of the last block's output. ``cls``: for each later block,
    the mean over images of [CLS] as its attention sees it, (D,). Means are float64.
    """

    z: Tensor
    activity: Tensor
    norm: float
    cls: dict[int, Tensor]


def survey(backbone: Backbone, block: int, pixels: Tensor) -> Survey:
    """One pass of uint8 images (n, 3, s, s)."""
    layout, mlp = backbone.layout, backbone.blocks[block].mlp
    later = range(block + 1, backbone.depth)
    sites: dict[str, nn.Module] = {"z": mlp.fc1, "activation": mlp.fc2, "last": residual_sites(backbone)[-1]}  # type: ignore[union-attr, dict-item]
    sites |= {f"attention {i}": backbone.blocks[i].attn for i in later}  # type: ignore[misc]
    z, norms = [], []
    activity: Tensor | float = 0.0
    cls: dict[int, Tensor] = {i: torch.zeros(backbone.width, dtype=torch.float64) for i in later}
    for batch in inputs(backbone, sites, pixels):
        z.append(batch["z"])
        norms.append(batch["last"][:, layout.patch_slice].norm(dim=-1))
        activity = activity + batch["activation"].double().abs().sum((0, 1))
        for i in later:
            cls[i] += batch[f"attention {i}"][:, layout.cls_slice].double().sum((0, 1)) / len(pixels)
    return Survey(torch.cat(z), activity / (len(pixels) * layout.length), float(torch.cat(norms).median()), cls)  # type: ignore[arg-type]
