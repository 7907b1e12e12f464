"""Which grid positions are artifacts, and how large norms are there (Fig. 10 of darcet2024)."""

import numpy as np

from vit_registers.core.stats import Bootstrap
from vit_registers.core.table import Metric
from vit_registers.models.layout import TokenLayout


def by_position(norms: np.ndarray, limit: float, layout: TokenLayout) -> dict[str, np.ndarray]:
    """Maps (h, w) float32 over images, from norms (m, t) of one block: how often ``limit`` is exceeded, and means."""
    patches = norms[:, layout.patch_slice].reshape(-1, *layout.grid)
    return {
        "artifact_rate": (patches > limit).mean(axis=0).astype(np.float32),
        "norm_by_position": patches.mean(axis=0, dtype=np.float64).astype(np.float32),
    }


def on_border(grid: tuple[int, int]) -> np.ndarray:
    """Whether a position is at the edge of the image: bool (h, w)."""
    border = np.ones(grid, dtype=bool)
    border[1:-1, 1:-1] = False
    return border


def rows(
    where: tuple[str, str, str], norms: np.ndarray, limit: float, layout: TokenLayout, layer: int, bootstrap: Bootstrap
) -> list[Metric]:
    """Rows of readout ``positions`` from norms (m, t) of block ``layer``; ``where``: model, data set, condition.

    The highest rate of a position is chosen on the images that its interval is over, and flatters accordingly. The
    share of artifacts on the border compares with that of positions there; its interval is over images, which are
    drawn with all their artifacts.
    """

    def row(metric: str, value: float | None, unit: str, n: int, **more: float | str) -> Metric:
        return Metric(*where, "positions", metric, value, unit, n, layer=layer, **more)  # type: ignore[arg-type]

    above = (norms[:, layout.patch_slice] > limit).reshape(-1, *layout.grid)  # (m, h, w)
    border, n = on_border(layout.grid), len(above)
    found = [row("border_positions", float(border.mean()), "share of positions", border.size)]
    if not above.any():
        absent = [("artifact_rate_max", "share of images"), ("artifacts_on_border", "share of artifacts")]
        return found + [row(metric, None, unit, n, note="no patch exceeds the threshold") for metric, unit in absent]
    rates = above.mean(axis=0)
    y, x = (int(i) for i in np.unravel_index(rates.argmax(), rates.shape))
    low, high = bootstrap.interval(above[:, y, x].astype(float))
    at = f"row {y}, column {x}, both from 0"
    found.append(row("artifact_rate_max", float(rates[y, x]), "share of images", n, low=low, high=high, note=at))
    count, edge = above.sum(axis=(1, 2)).astype(float), above[:, border].sum(axis=1).astype(float)
    drawn = bootstrap.means(count)
    shares = np.divide(bootstrap.means(edge), drawn, out=np.full_like(drawn, np.nan), where=drawn > 0)
    low, high = (float(side) for side in np.nanquantile(shares, bootstrap.tails))
    images = int((count > 0).sum())
    value = float(edge.sum() / count.sum())
    return [*found, row("artifacts_on_border", value, "share of artifacts", images, low=low, high=high)]
