"""Norms of tokens by block: artifacts are patches whose norm is far above that of others (darcet2024)."""

from vit_registers.experiments.token_statistics.tokens import Tokens


def by_layer(tokens: Tokens) -> None:
    """Median, 99th percentile and mean per-image maximum of patch norms, artifact share, and means of other tokens."""
    layout = tokens.layout
    others = {"cls": layout.cls_slice, "registers": layout.register_slice, "appended": layout.appended_slice}
    for layer in tokens.layers:
        norms = tokens.norms[:, layer]
        patches = norms[:, layout.patch_slice]
        tokens.quantile("norm_median", patches, 0.5, layer=layer)
        tokens.quantile("norm_p99", patches, 0.99, layer=layer)
        tokens.mean("norm_max", patches.max(axis=1), layer=layer)
        tokens.mean("artifact_share", (patches > tokens.limit).mean(axis=1), layer=layer)
        for group, where in others.items():
            of_group = norms[:, where]
            if of_group.size:
                tokens.mean("norm_mean", of_group.mean(axis=1), group=group, layer=layer)
