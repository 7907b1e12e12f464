"""Reader of attention sinks: which token is attended to most, by how many, and what it hands to them (fesser2026)."""

from typing import Any

import torch
from torch import Tensor
from typing_extensions import override

from vit_registers.forward import sinks
from vit_registers.forward.arrays import Spec
from vit_registers.forward.hooks import head_columns
from vit_registers.forward.readers.base import Arrays, Reader, numpy
from vit_registers.models.attention import Attention
from vit_registers.models.backbone import Backbone
from vit_registers.models.layout import TokenLayout

SQUARINGS = 8  # of a Gram matrix: its largest eigenvalue by 2^8 steps of the power method


class AttentionSinks(Reader):
    """The most attended token of every block and head. It costs the logits of a pass a second time.

    What a token writes is its value through the head's part of the output projection and LayerScale: u = gamma W v.
    ``sink_ratios``: its norm at the most attended token over the mean norm at all others. ``sink_ranks``: the stable
    rank, squared Frobenius over squared spectral norm, of what the head writes to all tokens (t, d): 1 where it writes
    the same direction to all of them. Both are NaN where heads' outputs are normed or gated before the projection,
    ranks also where there is no sink event. Attention is read before interventions on it.
    """

    def __init__(self, backbone: Backbone, layout: TokenLayout) -> None:
        module: Any = backbone.blocks[0].attn
        self.depth, self.heads = backbone.depth, int(module.num_heads)
        self.projections = [_projection(backbone, layer) for layer in range(backbone.depth)]
        self.held: list[dict[str, Tensor]] = []

    @override
    def attention(self, layer: int, attention: Attention) -> None:
        found = sinks.find(attention)
        together = found.shares.mean(1)  # (b, t)
        share, token = together.max(1, keepdim=True)
        own = found.shares.gather(2, found.token[..., None]).squeeze(2)
        ratios, ranks = self._written(layer, attention, found)
        self.held.append(
            {
                "sink_shares": torch.cat([share, own], dim=1),
                "sink_tokens": torch.cat([token, found.token], dim=1),
                "sink_medians": together.quantile(0.5, dim=1),
                "sink_queries": found.queries,
                "sink_ratios": ratios,
                "sink_ranks": ranks,
            }
        )

    def _written(self, layer: int, attention: Attention, found: sinks.Sinks) -> tuple[Tensor, Tensor]:
        """Ratio of norms and stable rank of every head (b, h)."""
        projection = self.projections[layer]
        ranks = torch.full_like(found.queries, torch.nan)
        if projection is None:
            return ranks, ranks
        norms = (attention.v.float() @ projection).norm(dim=3)  # (b, h, t)
        own = norms.gather(2, found.token[..., None]).squeeze(2)
        others = (norms.sum(2) - own) / (norms.shape[2] - 1)
        images, heads = found.events.nonzero(as_tuple=True)
        if len(images):
            assert attention.out is not None
            ranks[images, heads] = stable_rank(attention.out[images, heads].float() @ projection[heads])
        return own / others, ranks

    @override
    def take(self) -> Arrays:
        held, self.held = self.held, []
        return {
            name: numpy(torch.stack([each[name] for each in held], dim=1), getattr(torch, spec.dtype))
            for name, spec in self.specs().items()
        }

    @override
    def specs(self) -> dict[str, Spec]:
        every, head = (self.depth, 1 + self.heads), (self.depth, self.heads)
        most = "layer; of the mean over heads, then of each head"
        shapes = {
            "sink_shares": (every, "share", f"attention that the most attended token gets, mean over queries: {most}"),
            "sink_tokens": (every, "token", f"the most attended token: {most}"),
            "sink_medians": ((self.depth,), "share", "attention that the median token gets, mean over heads: layer"),
            "sink_queries": (head, "share", "queries that give it half of their attention or more: layer, head"),
            "sink_ratios": (head, "ratio", "norm of what it writes over that of the others: layer, head"),
            "sink_ranks": (head, "stable rank", "of what the head writes, where it has a sink: layer, head"),
        }
        return {
            name: Spec(shape, "int32" if name == "sink_tokens" else "float32", "sinks", unit, what)
            for name, (shape, unit, what) in shapes.items()
        }


def _projection(backbone: Backbone, layer: int) -> Tensor | None:
    """Matrices (h, d / h, k) that keep norms and inner products of what heads write; None where that is not linear."""
    columns = head_columns(backbone, layer)
    if columns is None:
        return None
    triangular = torch.linalg.qr(columns.transpose(1, 2), mode="r").R  # (h, k, d / h)
    return triangular.transpose(1, 2).float().to(backbone.device)


def stable_rank(matrices: Tensor) -> Tensor:
    """Squared Frobenius norm over squared spectral norm of ``matrices`` (n, t, k), k being few: (n,)."""
    gram = matrices.transpose(1, 2) @ matrices
    frobenius = gram.diagonal(dim1=1, dim2=2).sum(1)
    gram = gram / frobenius.clamp(min=torch.finfo(gram.dtype).tiny)[:, None, None]  # eigenvalues sum to 1
    power = gram
    for _ in range(SQUARINGS):
        power = power @ power
        power = power / power.diagonal(dim1=1, dim2=2).sum(1).clamp(min=torch.finfo(gram.dtype).tiny)[:, None, None]
    # The mean of the eigenvalues, each weighted by its own power: the largest one, or those equal to it.
    return 1.0 / (power * gram).sum((1, 2))
