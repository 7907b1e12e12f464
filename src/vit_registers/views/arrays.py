"""Reading what readouts left for figures: histograms, maps of single images, and the steps of LOST."""

from pathlib import Path

import numpy as np
import pandas as pd

from vit_registers.core.errors import InputError
from vit_registers.views.study import Condition

Arrays = dict[str, np.ndarray]


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise InputError(f"{path}: no such file; run the readouts first")
    return path


def histogram(readouts: Path, condition: Condition, quantity: str) -> pd.DataFrame:
    """Counts of tokens by ``norm`` or by the ``attention`` [CLS] gives them at the last block.

    Columns token, bin_left, bin_right, count.
    """
    path = _existing(readouts / "tokens" / condition.dataset / f"{condition.model}.histogram.parquet")
    table = pd.read_parquet(path)
    return table[(table["intervention"] == condition.name) & (table["quantity"] == quantity)]


def _load(path: Path, condition: Condition) -> Arrays:
    """What holds for all conditions, and what is of this one under its name without the condition."""
    with np.load(_existing(path), allow_pickle=False) as content:
        common = {name: content[name] for name in content.files if "/" not in name}
        mine = {
            name.removeprefix(f"{condition.name}/"): content[name]
            for name in content.files
            if name.startswith(f"{condition.name}/")
        }
    return common | mine if mine else {}


def maps(readouts: Path, condition: Condition) -> Arrays:
    """Maps of the gallery images (g): images (g,H,W,3) uint8, norms (g,h,w) at the last block, and attention of [CLS]
    cls (g,L,h,w), of registers registers (g,L,R,h,w) and of appended tokens appended (g,L,A,h,w) where there are any;
    at baseline the register, from 0, that attends most to each patch at the last block winners (g,h,w). Empty if not
    measured.

    Of a model as it is also maps over all dense images: artifact_rate and norm_by_position (h,w) at the outlier layer,
    and the attention of [CLS] and registers focus ([CLS]+R,h,w) at the last block.
    """
    return _load(readouts / "tokens" / condition.dataset / f"{condition.model}.maps.npz", condition)


def watched(readouts: Path, model: str) -> Arrays:
    """Attention at the last block after every epoch (E) of a training, of [CLS] and the registers (1+R).

    maps (E,n,1+R,h,w) of single images (n,H,W,3) uint8, and focus (E,1+R,h,w), the mean over all images watched.
    """
    with np.load(_existing(readouts / "training" / f"{model}.maps.npz"), allow_pickle=False) as content:
        return {name: content[name] for name in content.files}


def lost_steps(readouts: Path, condition: Condition) -> Arrays:
    """LOST step by step (g images): images, truth (g,b,4) pixels, degree (g,h,w), seed (g,) patch index, kept and mask
    (g,h,w) bool, box (g,4) pixels, NaN where none; sizes and grids (g,2) of what is not padding; empty if not measured.
    """
    return _load(readouts / "lost" / condition.dataset / f"{condition.model}.steps.npz", condition)
