"""What attention sinks are: [CLS], registers, outlier patches, or ordinary ones."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vit_registers.models.layout import TokenLayout

Masks = NDArray[np.bool_]
Kinds = NDArray[np.int64]  # of tokens: places in KINDS
KINDS = ("cls", "registers", "artifacts", "patches")
CLS, REGISTERS, ARTIFACTS, PATCHES = range(len(KINDS))


def artifacts(norms: NDArray[Any], layout: TokenLayout, limits: Sequence[float] | None) -> Masks:
    """Which tokens (m, L, t) enter a block as artifacts: patches above the threshold at the output of the block before.

    ``norms`` (m, L, t) are those of block outputs, ``limits`` (L,) their thresholds; None where detection found no
    outliers. What enters the first block no block has made.
    """
    found = np.zeros(norms.shape, dtype=bool)
    if limits is not None:
        patches = layout.patch_slice
        found[:, 1:, patches] = norms[:, :-1, patches] > np.asarray(limits)[:-1, None]
    return found


def kinds_of(tokens: NDArray[np.int64], layout: TokenLayout, artifact: Masks) -> Kinds:
    """Kind of each of the ``tokens`` (m, L, k), given which are artifacts (m, L, t); appended ones are registers."""
    kinds = np.full(layout.length, PATCHES)
    kinds[layout.cls_slice], kinds[layout.register_slice], kinds[layout.appended_slice] = CLS, REGISTERS, REGISTERS
    return np.where(np.take_along_axis(artifact, tokens, axis=2), ARTIFACTS, kinds[tokens])
