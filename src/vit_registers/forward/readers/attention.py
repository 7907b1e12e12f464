"""Readers of attention: of special tokens, by token group, and whole maps."""

import torch
from torch import Tensor
from typing_extensions import override

from vit_registers.forward.arrays import Spec
from vit_registers.forward.readers.base import HALF, Arrays, Reader, numpy
from vit_registers.models.attention import Attention
from vit_registers.models.backbone import Backbone
from vit_registers.models.layout import TokenLayout


class AttentionRows(Reader):
    """Attention of [CLS], registers and appended tokens to all tokens, mean over heads, and the nine-number flow.

    Of [CLS], where there is one, the largest over heads as well, and what patches give, on average, to each of the
    special tokens. ``heads`` keeps every head's rows besides, ``columns`` the attention of all tokens to the special
    ones.
    """

    def __init__(self, backbone: Backbone, layout: TokenLayout, heads: bool = False, columns: bool = False) -> None:
        self.layout, self.depth = layout, backbone.depth
        self.num_heads = int(backbone.blocks[0].attn.num_heads) if heads else 0  # type: ignore[union-attr, arg-type]
        chosen = {"cls_attention_max": bool(layout.cls), "attention_heads": heads, "attention_columns": columns}
        self.wanted = ["attention", "flow", "patch_attention", *(name for name, wanted in chosen.items() if wanted)]
        self.held: dict[str, list[Tensor]] = {name: [] for name in self.wanted}

    @staticmethod
    def precision(name: str) -> torch.dtype:
        """Of what is kept: means over tokens in single, as differences of them are small."""
        return torch.float32 if name in ("flow", "patch_attention") else HALF

    @override
    def attention(self, layer: int, attention: Attention) -> None:
        rows, columns = attention.rows(self.layout.specials), attention.columns(self.layout.specials).mean(1)
        found = {
            "attention": rows.mean(1),
            "flow": attention_by_group(columns, self.layout),
            "patch_attention": columns[:, self.layout.patch_slice].mean(1),
            "attention_heads": rows,
            "attention_columns": columns,
        }
        if self.layout.cls:  # the first special token
            found["cls_attention_max"] = rows[:, :, 0].amax(1)
        for name in self.wanted:
            self.held[name].append(found[name].to(self.precision(name)))

    @override
    def take(self) -> Arrays:
        held, self.held = self.held, {name: [] for name in self.wanted}
        return {name: numpy(torch.stack(parts, dim=1), self.precision(name)) for name, parts in held.items()}

    @override
    def specs(self) -> dict[str, Spec]:
        specials, tokens = len(self.layout.specials), self.layout.length
        groups = "layer, from, to; each of [CLS], registers (trained and appended), patches"
        shapes = {
            "attention": ((self.depth, specials, tokens), "mean over heads: layer, special token, token"),
            "flow": ((self.depth, 3, 3), groups),
            "patch_attention": ((self.depth, specials), "mean over heads and patches: layer, special token"),
            "cls_attention_max": ((self.depth, tokens), "largest over heads, from [CLS]: layer, token"),
            "attention_heads": ((self.depth, self.num_heads, specials, tokens), "layer, head, special token, token"),
            "attention_columns": ((self.depth, tokens, specials), "mean over heads: layer, token, special token"),
        }
        return {
            name: Spec(shapes[name][0], str(self.precision(name)).split(".")[1], "dense", "share", shapes[name][1])
            for name in self.wanted
        }


def attention_by_group(columns: Tensor, layout: TokenLayout) -> Tensor:
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
