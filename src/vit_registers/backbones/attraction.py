"""A direction that draws the attention of [CLS] and gives it nothing.

An artifact along a random direction is seen in norms but not in attention maps, because no later query asks for it.
Trained models' artifacts are asked for (darcet2024): this direction is what the queries of [CLS] ask for in later
blocks, solved against what the values would then carry into [CLS].
"""

import torch
from torch import Tensor

from vit_registers.backbones.backbone import Backbone
from vit_registers.backbones.observe import inputs

RIDGE = 0.1  # of the mean squared value gain: smaller leaves [CLS] cleaner, larger attracts it more


def cls_direction(backbone: Backbone, block: int, pixels: Tensor) -> Tensor:
    """The unit vector d (D,) float64, orthogonal to ones, that [CLS] attends to in the blocks after ``block``.

    An artifact drowns what its token held, so that LayerNorm makes it a multiple of gamma * d. With K, V a head's
    key and value matrices and O its part of the output projection, the [CLS] logit on it grows with
    pull . d, pull = sum over later blocks and heads of gamma * K' mean q, and what reaches [CLS] is O V (gamma * d).
    d solves (sum |O V gamma|^2 + ridge) d = pull.
    """
    width = backbone.width
    pull = torch.zeros(width, dtype=torch.float64)
    carried = torch.zeros(width, width, dtype=torch.float64)
    for number, mean in _mean_cls(backbone, block, pixels).items():
        attention, norm = backbone.blocks[number].attn, backbone.blocks[number].norm1
        heads, size = int(attention.num_heads), int(attention.head_dim)  # type: ignore[arg-type]
        gamma = norm.weight.double()  # type: ignore[operator]
        weights = attention.qkv.weight.double().view(3, heads, size, width)  # type: ignore[operator, union-attr]
        bias = attention.qkv.bias.double().view(3, heads, size)  # type: ignore[operator, union-attr]
        out = attention.proj.weight.double().view(width, heads, size)  # type: ignore[operator, union-attr]
        for head in range(heads):
            query = weights[0, head] @ mean + bias[0, head]
            pull += gamma * (weights[1, head].T @ query) / (size**0.5 * heads)
            value = out[:, head] @ weights[2, head] * gamma  # (D, D): columns scaled
            carried += value.T @ value
    centring = torch.eye(width, dtype=torch.float64) - 1.0 / width
    carried = centring @ carried @ centring
    carried += RIDGE * carried.diagonal().mean() * torch.eye(width, dtype=torch.float64)
    direction = centring @ torch.linalg.solve(carried, centring @ pull)
    return direction / direction.norm()


def _mean_cls(backbone: Backbone, block: int, pixels: Tensor) -> dict[int, Tensor]:
    """Mean over images of what [CLS] shows to the attention of each later block: (D,) float64 after its norm."""
    sites = {str(i): backbone.blocks[i].attn for i in range(block + 1, backbone.depth)}
    totals = {number: torch.zeros(backbone.width, dtype=torch.float64) for number in sites}
    for batch in inputs(backbone, sites, pixels):
        for number, tokens in batch.items():
            totals[number] += tokens[:, backbone.layout.cls_slice].double().sum((0, 1))
    return {int(number): total / len(pixels) for number, total in totals.items()}
