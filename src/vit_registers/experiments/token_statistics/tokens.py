"""The tokens of a model on a data set under one condition, and what figures show of them."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vit_registers.core.inference import error, wald
from vit_registers.core.stats import Bootstrap
from vit_registers.core.table import Rows
from vit_registers.extraction.store import Features
from vit_registers.models.layout import TokenLayout

Arrays = dict[str, NDArray[Any]]

# Of the histograms, the same for every condition and model.
EDGES = {"norm": np.logspace(-1, 5, 121), "attention": np.logspace(-5, 0, 101)}


@dataclass(frozen=True)
class Tokens:
    """What a pass kept of the dense images (m), and the rows that numbers about them go to.

    ``limit``: the norm above which a patch is an artifact; ``resampled`` gives intervals over images.
    """

    condition: str
    cached: Features
    limit: float
    resampled: Bootstrap
    rows: Rows

    @cached_property
    def norms(self) -> NDArray[np.float32]:
        """L2 norms of block outputs (m, layers, t), on disk until a part is needed."""
        return self.cached.array("norms")

    @cached_property
    def attention(self) -> NDArray[np.float16]:
        """Attention of the special tokens s to all (m, layers, s, t), mean over heads, on disk as well."""
        return self.cached.array("attention")

    @cached_property
    def layout(self) -> TokenLayout:
        """Which token is what."""
        return self.cached.layout

    @property
    def layers(self) -> range:
        """Blocks of the model."""
        return range(self.norms.shape[1])

    def last_maps(self) -> NDArray[np.float32]:
        """Attention (m, cls + r, p) of [CLS], where there is one, and of the registers to patches at the last block."""
        return np.asarray(self.attention[:, -1, : self.layout.prefix, self.layout.patch_slice], dtype=np.float32)

    def quantile(self, metric: str, values: NDArray[Any], share: float, **axes: Any) -> None:
        """The quantile at ``share`` of all ``values`` (m, p), with its interval over images."""
        low, high = self.resampled.quantile_interval(values, share)
        value, n = float(np.quantile(values, share)), len(values)
        self.rows.add(metric, value, n, low=low, high=high, intervention=self.condition, **axes)

    def difference(self, metric: str, differences: NDArray[Any], **axes: Any) -> None:
        """The mean of paired differences of images (m,), with its interval and the p of a Wald test that it is none."""
        values = np.asarray(differences, dtype=float)
        resampled, value = self.resampled.means(values), float(values.mean())
        low, high = self.resampled.percentiles(resampled)
        p = wald(value, error(resampled))
        self.rows.add(metric, value, len(values), low=low, high=high, p=p, intervention=self.condition, **axes)

    def mean(self, metric: str, values: NDArray[Any], **axes: Any) -> None:
        """The mean of what each image gave, ``values`` (m,), with its interval."""
        self.rows.mean(metric, values, self.resampled, intervention=self.condition, **axes)


def histograms(tokens: Tokens, layer: int) -> Arrays:
    """Counts of tokens in the bins of :data:`EDGES`, by kind of token.

    By norm at the block ``layer``, that detection looks at, and by the attention that [CLS] gives them at the last
    block, where there is one. The outermost bins hold what lies beyond, as zeroed tokens do.
    """
    layout = tokens.layout
    values = {"norm": tokens.norms[:, layer]}
    if layout.cls:
        values["attention"] = np.asarray(tokens.attention[:, -1, 0], dtype=np.float32)
    counts: Arrays = {}
    for quantity, of_tokens in values.items():
        edges = EDGES[quantity]
        for kind, where in kinds(layout).items():
            counts[f"histogram/{quantity}/{kind}"], _ = np.histogram(
                np.clip(of_tokens[:, where], edges[0], edges[-1]), bins=edges
            )
    return counts


def kinds(layout: TokenLayout) -> dict[str, slice]:
    """Kinds of tokens, but [CLS], that there are."""
    kinds = {"patches": layout.patch_slice}
    if layout.registers:
        kinds["registers"] = layout.register_slice
    if layout.appended:
        kinds["appended"] = layout.appended_slice
    return kinds


def maps(tokens: Tokens, chosen: NDArray[np.int64]) -> Arrays:
    """Maps over the patches of the ``chosen`` dense images (g), at every block.

    ``norms`` (g, layers, h, w); attention of [CLS] (g, layers, h, w) and of each of the registers and appended tokens
    (g, layers, tokens, h, w).
    """
    layout = tokens.layout
    attention = tokens.attention[chosen].astype(np.float32)
    over = attention[..., layout.patch_slice].reshape(*attention.shape[:3], *layout.grid)
    norms = tokens.norms[chosen][..., layout.patch_slice]
    found = {"norms": norms.reshape(*norms.shape[:2], *layout.grid)}
    if layout.cls:
        found["cls"] = over[:, :, 0]
    if layout.registers:
        found["registers"] = over[:, :, layout.cls : layout.prefix]
    if layout.appended:
        found["appended"] = over[:, :, layout.prefix :]
    return found
