"""Readers: what one forward pass feeds. Choosing readers chooses what is computed; nothing else is kept.

A reader overrides the methods it needs; the pass hooks only what some reader overrides. Per batch the pass calls
``block``, ``activation`` and ``attention`` layer by layer, then ``final``, then ``take`` for the batch's arrays.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from typing_extensions import override

from vit_registers.backbones.backbone import Backbone
from vit_registers.backbones.layout import TokenLayout
from vit_registers.forward.attention import Attention
from vit_registers.forward.store import Spec

Arrays = dict[str, NDArray[Any]]


def numpy(tensor: Tensor, dtype: torch.dtype = torch.float32) -> NDArray[Any]:
    """A tensor on any device as a NumPy array."""
    return tensor.to("cpu", dtype).numpy()  # type: ignore[no-any-return]


class Reader:
    """Reads nothing; subclasses override what they need."""

    def block(self, layer: int, tokens: Tensor) -> None:
        """Raw output (b, t, d) of a block, before the final norm."""

    def activation(self, layer: int, activations: Tensor) -> None:
        """Input (b, t, h) of a block's second MLP layer."""

    def attention(self, layer: int, attention: Attention) -> None:
        """Self-attention of a block."""

    def final(self, tokens: Tensor) -> None:
        """Tokens (b, t, d) after the final norm; see :func:`run.final_norm`."""

    def take(self) -> Arrays:
        """Arrays of the batch that has just passed, first axis b; the reader forgets them."""
        return {}

    def specs(self) -> dict[str, Spec]:
        """What :meth:`take` gives."""
        return {}


class Tokens(Reader):
    """[CLS], registers, appended tokens and mean patch after the final norm, of every image."""

    def __init__(self, backbone: Backbone, layout: TokenLayout) -> None:
        self.layout, self.width = layout, backbone.width
        self.arrays: Arrays = {}

    @override
    def final(self, tokens: Tensor) -> None:
        at = self.layout
        whole = {
            "cls": tokens[:, at.cls_slice].squeeze(1),
            "registers": tokens[:, at.register_slice],
            "appended": tokens[:, at.appended_slice],
            "patch_mean": tokens[:, at.patch_slice].float().mean(1),
        }
        self.arrays = {name: numpy(whole[name]) for name in self.specs()}

    @override
    def take(self) -> Arrays:
        arrays, self.arrays = self.arrays, {}
        return arrays

    @override
    def specs(self) -> dict[str, Spec]:
        at, d = self.layout, self.width
        unit = "channels after the final norm"
        whole = {
            "cls": (at.cls, Spec((d,), "float32", "all", unit, "[CLS]")),
            "registers": (at.registers, Spec((at.registers, d), "float32", "all", unit, "trained registers")),
            "appended": (at.appended, Spec((at.appended, d), "float32", "all", unit, "tokens appended at test time")),
            "patch_mean": (1, Spec((d,), "float32", "all", unit, "mean of the patch tokens")),
        }
        return {name: spec for name, (count, spec) in whole.items() if count}


class Patches(Reader):
    """Patch tokens after the final norm, half precision: probes and segmentation do not see the difference."""

    def __init__(self, backbone: Backbone, layout: TokenLayout) -> None:
        self.layout, self.width = layout, backbone.width
        self.patches: NDArray[Any] = np.empty(0)

    @override
    def final(self, tokens: Tensor) -> None:
        self.patches = numpy(tokens[:, self.layout.patch_slice], torch.float16)

    @override
    def take(self) -> Arrays:
        return {"patches": self.patches}

    @override
    def specs(self) -> dict[str, Spec]:
        shape = (self.layout.patches, self.width)
        return {"patches": Spec(shape, "float16", "dense", "channels after the final norm", "patch tokens, row-major")}


class Norms(Reader):
    """L2 norm over channels of every token at the raw output of every block (darcet2024)."""

    def __init__(self, backbone: Backbone, layout: TokenLayout) -> None:
        self.shape = (backbone.depth, layout.length)
        self.norms: list[Tensor] = []

    @override
    def block(self, layer: int, tokens: Tensor) -> None:
        self.norms.append(tokens.float().norm(dim=-1))

    @override
    def take(self) -> Arrays:
        norms, self.norms = self.norms, []
        return {"norms": numpy(torch.stack(norms, dim=1))}

    @override
    def specs(self) -> dict[str, Spec]:
        return {"norms": Spec(self.shape, "float32", "dense", "L2 norm", "raw block outputs: layer, token")}


class AttentionRows(Reader):
    """Attention of [CLS], registers and appended tokens to all tokens, mean over heads, and the nine-number flow."""

    def __init__(self, backbone: Backbone, layout: TokenLayout) -> None:
        self.layout, self.depth = layout, backbone.depth
        self.rows: list[Tensor] = []
        self.flows: list[Tensor] = []

    @override
    def attention(self, layer: int, attention: Attention) -> None:
        self.rows.append(attention.rows(self.layout.specials).mean(1))
        self.flows.append(attention.flow(self.layout))

    @override
    def take(self) -> Arrays:
        rows, flows, self.rows, self.flows = self.rows, self.flows, [], []
        return {
            "attention": numpy(torch.stack(rows, dim=1), torch.float16),
            "flow": numpy(torch.stack(flows, dim=1)),
        }

    @override
    def specs(self) -> dict[str, Spec]:
        shape = (self.depth, len(self.layout.specials), self.layout.length)
        what = "mean over heads: layer, special token, token"
        flow = "layer, from, to; each of [CLS], registers (trained and appended), patches"
        return {
            "attention": Spec(shape, "float16", "dense", "share of attention", what),
            "flow": Spec((self.depth, 3, 3), "float32", "dense", "share of attention", flow),
        }


class Keys(Reader):
    """Keys of the patches at some blocks, heads concatenated: the features of LOST (simeoni2021)."""

    def __init__(self, backbone: Backbone, layout: TokenLayout, layers: list[int]) -> None:
        self.layout, self.width = layout, backbone.width
        self.layers = sorted({layer % backbone.depth for layer in layers})
        self.keys: Arrays = {}

    @staticmethod
    def array_name(layer: int) -> str:
        """Name of the array of an absolute layer number."""
        return f"keys_{layer:02d}"

    @override
    def attention(self, layer: int, attention: Attention) -> None:
        if layer in self.layers:
            keys = attention.k[:, :, self.layout.patch_slice].transpose(1, 2).flatten(2)
            self.keys[self.array_name(layer)] = numpy(keys, torch.float16)

    @override
    def take(self) -> Arrays:
        keys, self.keys = self.keys, {}
        return keys

    @override
    def specs(self) -> dict[str, Spec]:
        shape = (self.layout.patches, self.width)
        return {
            self.array_name(layer): Spec(shape, "float16", "dense", "key channels", f"patch keys of block {layer}")
            for layer in self.layers
        }
