"""Features that heads read, from what a pass kept of every image."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vit_registers.core.errors import InputError
from vit_registers.extraction.store import Features


def read(cached: Features, name: str) -> Tensor | None:
    """Feature ``name`` of params (n, d) of the images that were passed; None where the condition has no such token."""
    parts = []
    for part in name.split("+"):
        if part not in cached.index["arrays"]:
            return None
        array = torch.from_numpy(np.array(cached.array(part)))
        if not array.isfinite().all():
            raise InputError(
                f"{cached.folder / part}.npy: holds values that are not finite; set extraction.precision to fp32 "
                "or look at the model's weights"
            )
        parts.append(array.mean(1) if array.ndim == 3 else array)  # several appended tokens: their mean
    return torch.cat(parts, dim=1)


def cls_of_blocks(cached: Features, blocks: int) -> Tensor:
    """[CLS] after the final norm of the last ``blocks`` blocks, side by side: (n, blocks * d)."""
    if blocks == 1:
        return torch.from_numpy(np.array(cached.array("cls")))
    return torch.from_numpy(np.array(cached.array("cls_blocks")[:, -blocks:])).flatten(1)


def has(cached: Features, rows: NDArray[np.int64]) -> bool:
    """Whether the images in these manifest rows were all passed."""
    return bool(np.isin(rows, cached.rows).all())
