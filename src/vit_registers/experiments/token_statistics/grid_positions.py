"""Which grid positions are artifacts, and how large norms are there (Fig. 10 of darcet2024)."""

import numpy as np
from numpy.typing import NDArray

from vit_registers.experiments.token_statistics.tokens import Arrays, Tokens

NONE_ABOVE = "no patch exceeds the threshold"


def maps(tokens: Tokens, layer: int) -> Arrays:
    """Over images, at a block: how often each position exceeds the limit, and its mean norm; (h, w) float32 each."""
    norms = _on_grid(tokens, layer)
    return {
        "artifact_rate": (norms > tokens.limit).mean(axis=0).astype(np.float32),
        "norm_by_position": norms.mean(axis=0, dtype=np.float64).astype(np.float32),
    }


def on_border(grid: tuple[int, int]) -> NDArray[np.bool_]:
    """Whether a position is at the edge of the image: (h, w)."""
    border = np.ones(grid, dtype=bool)
    border[1:-1, 1:-1] = False
    return border


def measure(tokens: Tokens, layer: int) -> None:
    """How often the position that is most often an artifact is one, and how many artifacts are on the border.

    That position is chosen on the images that its interval is over, and flatters accordingly. The share of artifacts on
    the border compares with that of positions there.
    """
    layer %= len(tokens.layers)
    above = _on_grid(tokens, layer) > tokens.limit  # (m, h, w)
    border = on_border(tokens.layout.grid)
    tokens.rows.add("border_positions", float(border.mean()), border.size, intervention=tokens.condition, layer=layer)
    if not above.any():
        tokens.rows.absent(
            ["artifact_rate_max", "artifacts_on_border"], NONE_ABOVE, intervention=tokens.condition, layer=layer
        )
        return
    rates = above.mean(axis=0)
    y, x = (int(i) for i in np.unravel_index(rates.argmax(), rates.shape))
    tokens.mean("artifact_rate_max", above[:, y, x], layer=layer, grid_row=y, grid_column=x)
    _artifacts_on_border(tokens, above, border, layer)


def _artifacts_on_border(tokens: Tokens, above: NDArray[np.bool_], border: NDArray[np.bool_], layer: int) -> None:
    """A share of all artifacts; its interval is over images, which are drawn with all their artifacts."""
    count, edge = above.sum(axis=(1, 2)).astype(float), above[:, border].sum(axis=1).astype(float)
    drawn = tokens.resampled.means(count)
    shares = np.divide(tokens.resampled.means(edge), drawn, out=np.full_like(drawn, np.nan), where=drawn > 0)
    low, high = (float(side) for side in np.nanquantile(shares, tokens.resampled.tails))
    tokens.rows.add(
        "artifacts_on_border",
        float(edge.sum() / count.sum()),
        int((count > 0).sum()),
        low=low,
        high=high,
        intervention=tokens.condition,
        layer=layer,
    )


def _on_grid(tokens: Tokens, layer: int) -> NDArray[np.float32]:
    """Norms of patches at a block, on the grid: (m, h, w)."""
    return tokens.norms[:, layer][:, tokens.layout.patch_slice].reshape(-1, *tokens.layout.grid)
