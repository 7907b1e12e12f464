"""Where tokens attend to, block by block: means over heads and images."""

import numpy as np
from numpy.typing import NDArray

from vit_registers.core.numerics.linalg import cosines
from vit_registers.experiments.token_statistics.tokens import Tokens
from vit_registers.extraction.store import Features

GROUPS = ("cls", "registers", "patches")


def of_cls(tokens: Tokens, artifacts: NDArray[np.bool_]) -> None:
    """Shares of the attention of [CLS] on each kind of token and on artifacts, and its largest weight on one patch.

    Beside them what each would get if [CLS] attended to all tokens alike. ``artifacts`` (m, p) are those of the model
    as it is, whatever the condition: where an intervention leaves none, its own would get nothing by definition.
    """
    layout = tokens.layout
    given = tokens.attention[:, :, 0].astype(np.float32)  # [CLS] is the first special token: (m, layers, t)
    to_patches = given[..., layout.patch_slice]
    shares = {
        "cls": given[..., layout.cls_slice].sum(-1),
        "registers": given[..., layout.register_slice].sum(-1),
        "appended": given[..., layout.appended_slice].sum(-1),
        "patches": to_patches.sum(-1),
        "artifacts": (to_patches * artifacts[:, None]).sum(-1),
    }
    peak = to_patches.max(-1)
    for layer in tokens.layers:
        for target, share in shares.items():
            tokens.mean("attention", share[:, layer], group="cls", target=target, layer=layer)
        tokens.mean("cls_attention_peak", peak[:, layer], layer=layer)
    counts = {
        "cls": layout.cls,
        "registers": layout.registers,
        "appended": layout.appended,
        "patches": layout.patches,
    }
    for target, count in counts.items():
        if count:
            tokens.mean("attention_uniform", np.full(len(given), count / layout.length), group="cls", target=target)
    tokens.mean("attention_uniform", artifacts.sum(1) / layout.length, group="cls", target="artifacts")


def of_reference(tokens: Tokens, artifacts: NDArray[np.bool_], reference: Features) -> None:
    """What [CLS] gives, in the model that this one was made from, to patches that are ``artifacts`` (m, p) here."""
    given = reference.array("attention")[:, :, 0, reference.layout.patch_slice].astype(np.float32)
    share = (given * artifacts[:, None]).sum(-1)
    for layer in tokens.layers:
        tokens.mean("attention_in_reference", share[:, layer], group="cls", target="artifacts", layer=layer)


def register_cosines(tokens: Tokens) -> None:
    """Cosines over patches of the maps of registers, pair by pair, and with that of [CLS] (bach2025)."""
    layout = tokens.layout
    for layer in tokens.layers:
        maps = tokens.attention[:, layer, : layout.prefix, layout.patch_slice].astype(np.float32)  # (m, cls + r, p)
        for metric, of_images in cosines(maps, layout.cls).items():
            tokens.mean(metric, of_images, layer=layer)


def by_group(tokens: Tokens) -> None:
    """Attention between [CLS], registers (appended tokens among them) and patches: nine numbers a block (parodi2026).

    Groups that a model lacks have no rows.
    """
    flow = np.asarray(tokens.cached.array("flow"), dtype=float)  # (m, layers, from, to)
    mean, (low, high) = flow.mean(axis=0), tokens.resampled.intervals(flow)
    for layer, i, j in zip(*np.nonzero(~np.isnan(mean)), strict=True):
        tokens.rows.add(
            "attention_by_group",
            float(mean[layer, i, j]),
            len(flow),
            low=float(low[layer, i, j]),
            high=float(high[layer, i, j]),
            intervention=tokens.condition,
            group=GROUPS[i],
            target=GROUPS[j],
            layer=int(layer),
        )
