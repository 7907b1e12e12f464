"""What enters chosen layers of a ViT while images pass through it: all that planting needs to see of a model."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from vit_registers.forward import hooks
from vit_registers.models.backbone import Backbone

BATCH = 100  # images per pass; bounds the memory, and is a constant because sums depend on it in the last bit


def residual_sites(backbone: Backbone) -> list[nn.Module]:
    """Modules whose inputs are the residual stream: of every block, then, at the end, of the last block's output."""
    return [*backbone.blocks, hooks.after_blocks(backbone)]


def capture_inputs(backbone: Backbone, sites: Mapping[str, nn.Module], pixels: Tensor) -> Iterator[dict[str, Tensor]]:
    """Batch by batch, the inputs (b, T, channels), fp32, of the modules in ``sites`` for uint8 images (n, 3, s, s)."""
    captured: dict[str, Tensor] = {}
    with hooks.hooked() as on:
        for name, site in sites.items():
            on.input(site, partial(captured.__setitem__, name))
        for start in range(0, len(pixels), BATCH):
            with torch.no_grad():
                backbone.module(backbone.preprocess.normalise(pixels[start : start + BATCH]))
            yield dict(captured)


@dataclass(frozen=True)
class PlantingStatistics:
    """What planting into one block needs to know of a model, over n images.

    ``z``: what enters the block's MLP, (n, T, D) fp32. ``activity``: mean |activation| of each of its neurons over all
    tokens, (H,). ``norm``: median over patches of the norm of the last block's output, ``norm_here``: of this block's.
    ``cls``: for each later block, the mean over images of [CLS] as its attention sees it, (D,). Means are float64.
    """

    z: Tensor
    activity: Tensor
    norm: float
    norm_here: float
    cls: dict[int, Tensor]


def planting_statistics(backbone: Backbone, block: int, pixels: Tensor) -> PlantingStatistics:
    """One pass of uint8 images (n, 3, s, s)."""
    layout, later = backbone.layout, range(block + 1, backbone.depth)
    fc2 = hooks.second_linear(backbone, block)
    sites: dict[str, nn.Module] = {
        "z": hooks.first_linear(backbone, block),
        "activation": fc2,
        "here": residual_sites(backbone)[block + 1],
        "last": hooks.after_blocks(backbone),
    }
    sites |= {f"attention {i}": hooks.attention(backbone, i) for i in later}
    z: list[Tensor] = []
    norms: dict[str, list[Tensor]] = {"here": [], "last": []}
    activity = torch.zeros(fc2.in_features, dtype=torch.float64)
    cls: dict[int, Tensor] = {i: torch.zeros(backbone.width, dtype=torch.float64) for i in later}
    for batch in capture_inputs(backbone, sites, pixels):
        z.append(batch["z"])
        for name, found in norms.items():
            found.append(batch[name][:, layout.patch_slice].norm(dim=-1))
        activity += batch["activation"].double().abs().sum((0, 1))
        for i in later:
            cls[i] += batch[f"attention {i}"][:, layout.cls_slice].double().sum((0, 1)) / len(pixels)
    here, last = (float(torch.cat(found).median()) for found in norms.values())
    return PlantingStatistics(torch.cat(z), activity / (len(pixels) * layout.length), last, here, cls)
