"""The attention-sink direction: along it an artifact draws the attention of [CLS].

An artifact along a random direction is seen in norms but not in attention maps, because no later query matches it.
Trained models' artifacts are attention sinks (darcet2024): this direction is what the queries of [CLS] match in later
blocks, by choice made such that the values carry little of it into [CLS].
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from vit_registers.core.numerics.linalg import ridge
from vit_registers.models.backbone import Backbone

RIDGE = 0.1  # of the mean squared value gain: smaller leaves [CLS] cleaner, larger draws more attention


def sink_direction(backbone: Backbone, cls: Mapping[int, Tensor], solved: bool = True) -> Tensor:
    """The unit vector d (D,) float64, orthogonal to ones, that [CLS] attends to in the blocks of ``cls``.

    ``cls`` holds for each such block the mean of [CLS] as the attention sees it, (D,) float64. An artifact drowns what
    its token held, so that LayerNorm makes of it a multiple of gamma * d. With Q, K, V a head's maps and O its part of
    the output projection, the [CLS] logit on it grows with (gamma * K' q) . d for the mean query q, and what then
    reaches [CLS] is O V (gamma * d). d solves (sum |O V gamma|^2 + ridge) d = pull, pull being the sum over blocks of
    what their heads' queries match, scaled to unit norm so that no block outweighs another. Not ``solved``, d is that
    pull itself: what the values carry of it then reaches [CLS], with a register as without.
    """
    width = backbone.width
    pull = torch.zeros(width, dtype=torch.float64)
    carried = torch.zeros(width, width, dtype=torch.float64)
    for number, mean in cls.items():
        matched, values = _heads(backbone, number, mean)
        pull += matched / matched.norm()
        for value in values:
            carried += value.T @ value
    centring = torch.eye(width, dtype=torch.float64) - 1.0 / width
    if not solved:
        plain: Tensor = centring @ pull
        return plain / plain.norm()
    direction = centring @ ridge(centring @ carried @ centring, centring @ pull, RIDGE)
    return direction / direction.norm()


def _heads(backbone: Backbone, number: int, mean: Tensor) -> tuple[Tensor, list[Tensor]]:
    """What the queries of a block's heads match together, gamma * sum of K' q (D,), and what each head carries into
    [CLS], O V gamma (D, D).
    """
    attention: Any = backbone.blocks[number].attn
    heads, size, width = attention.num_heads, attention.head_dim, backbone.width
    gamma = backbone.blocks[number].norm1.weight.double()  # type: ignore[union-attr]
    queries, keys, values = attention.qkv.weight.double().view(3, heads, size, width)
    bias = attention.qkv.bias.double().view(3, heads, size)[0]
    out = attention.proj.weight.double().view(width, heads, size)
    matched = sum(keys[head].T @ (queries[head] @ mean + bias[head]) for head in range(heads))
    return gamma * matched, [out[:, head] @ values[head] * gamma for head in range(heads)]
