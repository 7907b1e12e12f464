"""Attention sinks (fesser2026): the token that each head attends to most, and whether nearly all attend to it."""

from dataclasses import dataclass

from torch import Tensor

from vit_registers.models.attention import Attention
from vit_registers.params.passes import SINK_ATTENTION, SINK_QUERIES


@dataclass(frozen=True)
class Sinks:
    """The most attended token of each head: ``token`` (b, h), and how much every query attends to it.

    ``column``: (b, h, t) in fp32; ``shares``: what every token gets of a head's attention on average (b, h, t).
    """

    token: Tensor
    column: Tensor
    shares: Tensor

    @property
    def queries(self) -> Tensor:
        """Share (b, h) of the queries that give it half of their attention or more."""
        return (self.column >= SINK_ATTENTION).float().mean(2)

    @property
    def events(self) -> Tensor:
        """Where it is a sink (b, h): nearly all queries give it half of their attention."""
        return self.queries >= SINK_QUERIES


def find(attention: Attention) -> Sinks:
    """The most attended tokens of a block, s = argmax_j mean_i A_ij; of equal ones the first."""
    shares = attention.column_means()
    token = shares.argmax(2)
    return Sinks(token, attention.column(token), shares)


def values(attention: Attention, token: Tensor) -> Tensor:
    """Values (b, h, d / h) in fp32 of one token of each head, ``token`` (b, h)."""
    at = token[:, :, None, None].expand(-1, -1, 1, attention.v.shape[3])
    return attention.v.gather(2, at).squeeze(2).float()
