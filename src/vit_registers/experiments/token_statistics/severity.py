"""How severe artifacts are, how much of that an intervention takes away, and medians by kind of token (kukade2025)."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vit_registers.experiments.token_statistics.tokens import Tokens, kinds

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Peak:
    """The mean over images of what is largest in each, by block, at the block where that mean is largest.

    ``value`` there, ``resampled`` (resamples,): each resample of the images takes its own block.
    """

    value: float
    resampled: Floats
    layer: int

    @classmethod
    def of(cls, largest: NDArray[np.float32], tokens: Tokens) -> "Peak":
        """Of the ``largest`` of each image at each block, (m, layers)."""
        of_images = largest.astype(np.float64)
        means = of_images.mean(axis=0)
        return cls(float(means.max()), tokens.resampled.means(of_images).max(axis=1), int(means.argmax()))


def peaks(tokens: Tokens) -> dict[str, Peak]:
    """The peaks of the largest patch norm of an image, of that over the median of its patches, and of the attention,
    mean over heads, that [CLS] gives to one patch (Figures 1 to 4 of kukade2025).
    """
    layout = tokens.layout
    norms = np.asarray(tokens.norms[:, :, layout.patch_slice])
    largest = {"norm_peak": norms.max(axis=-1)}
    largest["norm_ratio_peak"] = largest["norm_peak"] / np.maximum(np.median(norms, axis=-1), 1e-12)
    if layout.cls:
        largest["attention_peak"] = tokens.attention[:, :, 0, layout.patch_slice].max(axis=-1).astype(np.float32)
    return {name: Peak.of(values, tokens) for name, values in largest.items()}


def measure(tokens: Tokens, found: dict[str, Peak], before: dict[str, Peak]) -> None:
    """Rows of the peaks ``found`` in a condition, and of their share that is gone from ``before``, the model as it is.

    Block and share are taken anew in every resample of the images, which both sides share.
    """
    n, condition = len(tokens.norms), tokens.condition
    for name, peak in found.items():
        low, high = tokens.resampled.percentiles(peak.resampled)
        tokens.rows.add(name, peak.value, n, low=low, high=high, layer=peak.layer, intervention=condition)
    if found is before:
        return
    for name, metric in (("norm_peak", "norm_reduction"), ("attention_peak", "attention_reduction")):
        if name in found:
            low, high = tokens.resampled.percentiles(1.0 - found[name].resampled / before[name].resampled)
            gone = 1.0 - found[name].value / before[name].value
            tokens.rows.add(metric, gone, n, low=low, high=high, intervention=condition)


def medians(tokens: Tokens, layer: int) -> None:
    """By kind of token: the median norm of all of them at the block that detection looks at, and the median over images
    of the largest attention that [CLS] gives, in any head, to one of them at the last block (Figures 5 and 6).

    Registers are the trained ones; appended tokens are a kind of their own.
    """
    layout, layer = tokens.layout, layer % len(tokens.layers)
    in_any_head = np.asarray(tokens.cached.array("cls_attention_max")[:, -1]) if layout.cls else None
    for kind, where in kinds(layout).items():
        tokens.quantile("token_norm_median", tokens.norms[:, layer, where], 0.5, group=kind, layer=layer)
        if in_any_head is not None:
            largest = in_any_head[:, where].max(axis=1, keepdims=True).astype(np.float32)
            tokens.quantile("attention_in_any_head", largest, 0.5, group="cls", target=kind)
