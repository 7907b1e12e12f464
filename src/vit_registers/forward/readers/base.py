"""What all readers have in common.

A reader overrides the methods it needs; the pass hooks only what some reader overrides. Per batch the pass calls
``embedding``, then ``block``, ``activation`` and ``attention`` layer by layer, then ``features`` and ``final``, then
``take`` for the batch's arrays. Until then results stay on the device: a copy in the middle of a pass would make it
wait.
"""

from collections.abc import Sequence
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from vit_registers.core.errors import InputError
from vit_registers.forward.arrays import Spec
from vit_registers.models.attention import Attention
from vit_registers.models.backbone import Backbone

Arrays = dict[str, NDArray[Any]]
HALF = torch.float16  # where probes and matches do not see the difference; specs state it


def numpy(tensor: Tensor, dtype: torch.dtype = torch.float32) -> NDArray[Any]:
    """A tensor on any device as a NumPy array."""
    return tensor.to("cpu", dtype).numpy()  # type: ignore[no-any-return]


def absolute_layers(backbone: Backbone, layers: Sequence[int], key: str) -> list[int]:
    """Layers counted from 0, in order and once each; :class:`InputError` for one that is not there."""
    for layer in layers:
        if not -backbone.depth <= layer < backbone.depth:
            raise InputError(
                f"params: extraction.{key}: layer {layer} for model '{backbone.name}' of {backbone.depth} blocks; "
                f"expected {-backbone.depth} to {backbone.depth - 1}"
            )
    return sorted({layer % backbone.depth for layer in layers})


class Reader:
    """Reads nothing; subclasses override what they need."""

    def embedding(self, patches: Tensor) -> None:
        """Patch embeddings (b, p, d) before position embeddings."""

    def block(self, layer: int, tokens: Tensor) -> None:
        """Raw output (b, t, d) of a block, before the final norm."""

    def activation(self, layer: int, activations: Tensor) -> None:
        """Input (b, t, h) of a block's second MLP layer."""

    def attention(self, layer: int, attention: Attention) -> None:
        """Self-attention of a block."""

    def features(self, tokens: Tensor) -> None:
        """Tokens (b, t, d) as ``forward_features`` returns them: what the model's own head takes."""

    def final(self, tokens: Tensor) -> None:
        """Tokens (b, t, d) after the final norm; see :func:`reading.final_norm`."""

    def take(self) -> Arrays:
        """Arrays of the batch that has just passed, first axis b; the reader forgets them."""
        return {}

    def specs(self) -> dict[str, Spec]:
        """What :meth:`take` gives."""
        return {}
