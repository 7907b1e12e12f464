"""Readers: what one forward pass feeds. Choosing readers chooses what is computed; nothing else is kept.

A reader overrides the methods it needs; the pass hooks only what some reader overrides. Per batch the pass calls
``embedding``, then ``block``, ``activation`` and ``attention`` layer by layer, then ``final``, then ``take`` for the
batch's arrays. Until then results stay on the device: a copy in the middle of a pass would make it wait.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from typing_extensions import override

from vit_registers.core.errors import InputError
from vit_registers.extraction.store import Spec, array_name
from vit_registers.forward.attention import Attention
from vit_registers.models.backbone import Backbone
from vit_registers.models.layout import TokenLayout

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
        self.held: dict[str, Tensor] = {}

    @override
    def final(self, tokens: Tensor) -> None:
        at = self.layout
        whole = {
            "cls": tokens[:, at.cls_slice].squeeze(1),
            "registers": tokens[:, at.register_slice],
            "appended": tokens[:, at.appended_slice],
            "patch_mean": tokens[:, at.patch_slice].float().mean(1),
        }
        self.held = {name: whole[name] for name in self.specs()}

    @override
    def take(self) -> Arrays:
        held, self.held = self.held, {}
        return {name: numpy(tensor) for name, tensor in held.items()}

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


class ClsByBlock(Reader):
    """[CLS] of the last blocks after the final norm, of every image: what DINOv2's linear evaluation reads."""

    def __init__(self, backbone: Backbone, layout: TokenLayout, blocks: int) -> None:
        if blocks > backbone.depth:
            raise InputError(
                f"params: extraction.cls_blocks: {blocks} for model '{backbone.name}' of {backbone.depth} blocks; "
                "lower it"
            )
        module: Any = backbone.module
        self.norm = module.fc_norm if isinstance(module.norm, torch.nn.Identity) else module.norm
        self.layout, self.first, self.shape = layout, backbone.depth - blocks, (blocks, backbone.width)
        self.held: list[Tensor] = []

    @override
    def block(self, layer: int, tokens: Tensor) -> None:
        if layer >= self.first:
            cls = tokens[:, self.layout.cls_slice].float().squeeze(1)
            self.held.append(self.norm.forward(cls))  # past its hooks: they are for the pass

    @override
    def take(self) -> Arrays:
        held, self.held = self.held, []
        return {"cls_blocks": numpy(torch.stack(held, dim=1))}

    @override
    def specs(self) -> dict[str, Spec]:
        what = "[CLS] of the last blocks, the last one last"
        return {"cls_blocks": Spec(self.shape, "float32", "all", "channels after the final norm", what)}


class SpecialsByLayer(Reader):
    """[CLS], registers and appended tokens at the raw output of every block, of every image."""

    def __init__(self, backbone: Backbone, layout: TokenLayout) -> None:
        self.layout, self.shape = layout, (backbone.depth, len(layout.specials), backbone.width)
        self.held: list[Tensor] = []

    @override
    def block(self, layer: int, tokens: Tensor) -> None:
        self.held.append(tokens[:, list(self.layout.specials)])

    @override
    def take(self) -> Arrays:
        held, self.held = self.held, []
        return {"specials": numpy(torch.stack(held, dim=1))}

    @override
    def specs(self) -> dict[str, Spec]:
        what = "raw block outputs: layer, special token in the order of the sequence"
        return {"specials": Spec(self.shape, "float32", "all", "channels", what)}


class Patches(Reader):
    """Patch tokens after the final norm, half precision: probes and segmentation do not see the difference."""

    def __init__(self, backbone: Backbone, layout: TokenLayout) -> None:
        self.layout, self.width = layout, backbone.width
        self.held: Tensor | None = None

    @override
    def final(self, tokens: Tensor) -> None:
        self.held = tokens[:, self.layout.patch_slice].to(HALF)

    @override
    def take(self) -> Arrays:
        held, self.held = self.held, None
        assert held is not None
        return {"patches": numpy(held, HALF)}

    @override
    def specs(self) -> dict[str, Spec]:
        shape = (self.layout.patches, self.width)
        return {"patches": Spec(shape, "float16", "dense", "channels after the final norm", "patch tokens, row-major")}


class PatchesByLayer(Reader):
    """Patch tokens at the raw output of chosen blocks; single precision, as artifacts may leave half's range."""

    def __init__(self, backbone: Backbone, layout: TokenLayout, layers: Sequence[int]) -> None:
        self.layout, self.width = layout, backbone.width
        self.layers = absolute_layers(backbone, layers, "patch_layers")
        self.held: dict[int, Tensor] = {}

    @override
    def block(self, layer: int, tokens: Tensor) -> None:
        if layer in self.layers:
            self.held[layer] = tokens[:, self.layout.patch_slice]

    @override
    def take(self) -> Arrays:
        held, self.held = self.held, {}
        return {array_name("patches", layer): numpy(tensor) for layer, tensor in held.items()}

    @override
    def specs(self) -> dict[str, Spec]:
        shape, unit = (self.layout.patches, self.width), "channels"
        return {
            array_name("patches", layer): Spec(shape, "float32", "dense", unit, f"patches leaving block {layer}")
            for layer in self.layers
        }


class Norms(Reader):
    """L2 norm over channels of every token at the raw output of every block (darcet2024)."""

    def __init__(self, backbone: Backbone, layout: TokenLayout) -> None:
        self.shape = (backbone.depth, layout.length)
        self.norms: list[Tensor] = []

    @override
    def block(self, layer: int, tokens: Tensor) -> None:
        self.norms.append(torch.linalg.vector_norm(tokens, dim=-1, dtype=torch.float32))

    @override
    def take(self) -> Arrays:
        norms, self.norms = self.norms, []
        return {"norms": numpy(torch.stack(norms, dim=1))}

    @override
    def specs(self) -> dict[str, Spec]:
        return {"norms": Spec(self.shape, "float32", "dense", "L2 norm", "raw block outputs: layer, token")}


class NeighbourCosines(Reader):
    """Mean cosine of each patch embedding with its up to four neighbours: artifacts are redundant (darcet2024)."""

    def __init__(self, backbone: Backbone, layout: TokenLayout) -> None:
        self.grid = layout.grid
        self.held: Tensor | None = None

    @override
    def embedding(self, patches: Tensor) -> None:
        unit = F.normalize(patches.float(), dim=-1).unflatten(1, self.grid)  # (b, h, w, d)
        down = (unit[:, 1:] * unit[:, :-1]).sum(-1)  # (b, h - 1, w): each patch with the one below
        right = (unit[:, :, 1:] * unit[:, :, :-1]).sum(-1)
        total = F.pad(down, (0, 0, 0, 1)) + F.pad(down, (0, 0, 1, 0)) + F.pad(right, (0, 1)) + F.pad(right, (1, 0))
        ones_down, ones_right = torch.ones_like(down[:1]), torch.ones_like(right[:1])
        count = F.pad(ones_down, (0, 0, 0, 1)) + F.pad(ones_down, (0, 0, 1, 0))
        count = count + F.pad(ones_right, (0, 1)) + F.pad(ones_right, (1, 0))
        self.held = (total / count).flatten(1)

    @override
    def take(self) -> Arrays:
        held, self.held = self.held, None
        assert held is not None
        return {"neighbours": numpy(held)}

    @override
    def specs(self) -> dict[str, Spec]:
        what = "mean over the up to four neighbours of a patch embedding, row-major"
        return {"neighbours": Spec((self.grid[0] * self.grid[1],), "float32", "dense", "cosine", what)}


class AttentionRows(Reader):
    """Attention of [CLS], registers and appended tokens to all tokens, mean over heads, and the nine-number flow.

    ``heads`` keeps every head's rows besides, ``columns`` the attention of all tokens to the special ones.
    """

    def __init__(self, backbone: Backbone, layout: TokenLayout, heads: bool = False, columns: bool = False) -> None:
        self.layout, self.depth = layout, backbone.depth
        self.num_heads = int(backbone.blocks[0].attn.num_heads) if heads else 0  # type: ignore[union-attr, arg-type]
        self.wanted = ["attention", "flow", *["attention_heads"] * heads, *["attention_columns"] * columns]
        self.held: dict[str, list[Tensor]] = {name: [] for name in self.wanted}

    @override
    def attention(self, layer: int, attention: Attention) -> None:
        rows, columns = attention.rows(self.layout.specials), attention.columns(self.layout.specials).mean(1)
        found = {
            "attention": rows.mean(1),
            "flow": flow(columns, self.layout),
            "attention_heads": rows,
            "attention_columns": columns,
        }
        for name in self.wanted:
            self.held[name].append(found[name] if name == "flow" else found[name].to(HALF))

    @override
    def take(self) -> Arrays:
        held, self.held = self.held, {name: [] for name in self.wanted}
        return {
            name: numpy(torch.stack(parts, dim=1), torch.float32 if name == "flow" else HALF)
            for name, parts in held.items()
        }

    @override
    def specs(self) -> dict[str, Spec]:
        specials, tokens = len(self.layout.specials), self.layout.length
        groups = "layer, from, to; each of [CLS], registers (trained and appended), patches"
        shapes = {
            "attention": ((self.depth, specials, tokens), "mean over heads: layer, special token, token"),
            "flow": ((self.depth, 3, 3), groups),
            "attention_heads": ((self.depth, self.num_heads, specials, tokens), "layer, head, special token, token"),
            "attention_columns": ((self.depth, tokens, specials), "mean over heads: layer, token, special token"),
        }
        return {
            name: Spec(shapes[name][0], "float32" if name == "flow" else "float16", "dense", "share", shapes[name][1])
            for name in self.wanted
        }


def flow(columns: Tensor, layout: TokenLayout) -> Tensor:
    """Mean mass from {[CLS], registers, patches} to the same: (b, 3, 3); NaN where a group is empty (parodi2026).

    ``columns`` (b, t, specials): attention of all tokens to the special ones, mean over heads. Registers are the
    trained and the appended ones. Each row sums to 1: what a token does not give to them it gives to the patches.
    """
    to_cls, to_registers = columns[..., : layout.cls].sum(-1), columns[..., layout.cls :].sum(-1)
    mass = torch.stack([to_cls, to_registers, 1.0 - to_cls - to_registers], dim=-1)  # (b, t, 3)
    trained, appended = mass[:, layout.register_slice], mass[:, layout.appended_slice]
    groups = [mass[:, layout.cls_slice], torch.cat([trained, appended], dim=1), mass[:, layout.patch_slice]]
    means = torch.stack([group.mean(1) for group in groups], dim=1)
    means[:, :, [group.shape[1] == 0 for group in groups]] = torch.nan
    return means


class AttentionMaps(Reader):
    """The whole softmax maps of every block and head: for the few images of a figure."""

    def __init__(self, backbone: Backbone, layout: TokenLayout) -> None:
        heads = int(backbone.blocks[0].attn.num_heads)  # type: ignore[union-attr, arg-type]
        self.shape = (backbone.depth, heads, layout.length, layout.length)
        self.held: list[Tensor] = []

    @override
    def attention(self, layer: int, attention: Attention) -> None:
        self.held.append(attention.full())

    @override
    def take(self) -> Arrays:
        held, self.held = self.held, []
        return {"attention_maps": numpy(torch.stack(held, dim=1), HALF)}

    @override
    def specs(self) -> dict[str, Spec]:
        return {"attention_maps": Spec(self.shape, "float16", "maps", "share", "layer, head, from, to")}


class Projections(Reader):
    """Queries, keys or values of the patches at some blocks, heads concatenated: the features of LOST (simeoni2021).

    ``rows``: ``dense``, an array (p, d) per image; or ``native``, a row per patch, where images have their own grids.
    """

    def __init__(
        self, backbone: Backbone, layout: TokenLayout, wanted: Mapping[Any, list[int]], rows: str = "dense"
    ) -> None:
        self.layout, self.rows = layout, rows
        self.width = backbone.width
        self.wanted = {kind: absolute_layers(backbone, wanted[kind], f"projections.{kind}") for kind in sorted(wanted)}
        self.held: dict[str, Tensor] = {}

    @override
    def attention(self, layer: int, attention: Attention) -> None:
        for kind, layers in self.wanted.items():
            if layer in layers:
                projected: Tensor = getattr(attention, kind)[:, :, self.layout.patch_slice]
                half = projected.transpose(1, 2).to(HALF, memory_format=torch.contiguous_format)
                self.held[array_name(kind, layer)] = half.flatten(2)

    @override
    def take(self) -> Arrays:
        held, self.held = self.held, {}
        arrays = {name: numpy(tensor, HALF) for name, tensor in held.items()}
        return {name: a.reshape(-1, self.width) if self.rows == "native" else a for name, a in arrays.items()}

    @override
    def specs(self) -> dict[str, Spec]:
        shape = (self.width,) if self.rows == "native" else (self.layout.patches, self.width)
        names = {"q": "queries", "k": "keys", "v": "values"}
        return {
            array_name(kind, layer): Spec(
                shape, "float16", self.rows, f"{names[kind]}' channels", f"patch {names[kind]} of block {layer}"
            )
            for kind, layers in self.wanted.items()
            for layer in layers
        }
