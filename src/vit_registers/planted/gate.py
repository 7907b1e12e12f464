"""The gate of planted neurons: a patch fires if it is tagged *and* looks like background.

Artifacts of trained models sit on uniform patches (darcet2024), so planted ones do too. Both conditions are linear in
z, what enters the MLP of the planted block, and their AND is one hyperplane: a uniformity score plus so much of the
tag that no untagged patch can make up for its absence.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from vit_registers.core.colour import LUMA
from vit_registers.core.errors import InputError
from vit_registers.core.numerics.linalg import ridge
from vit_registers.core.numerics.patches import patchify

FLAT = 10.0  # grey levels of 255: patches with a smaller standard deviation are uniform
RIDGE = 0.01  # of the mean variance
MARGIN = 1.05  # by which the tag outweighs the most uniform untagged patch seen


def uniform_patches(pixels: Tensor, objects: Tensor, size: int) -> Tensor:
    """Boolean (n, P): grey standard deviation below :data:`FLAT` and no pixel of an object.

    ``pixels`` are uint8 (n, 3, h, w), ``objects`` boolean (n, h, w).
    """
    grey = (pixels.float() * torch.tensor(LUMA).view(3, 1, 1)).sum(1, keepdim=True)
    deviation = patchify(grey, (size, size)).std(-1, correction=0)
    occupied: Tensor = patchify(objects.unsqueeze(1), (size, size)).any(-1)
    return (deviation < FLAT) & ~occupied


def fit_uniformity(inputs: Tensor, uniform: Tensor) -> Tensor:
    """w (D,) float64, such that w . z + constant is the ridge regression of ``uniform`` (n,) on inputs z (n, D)."""
    z, target = inputs.double(), uniform.double()
    z, target = z - z.mean(0), target - target.mean()
    return ridge(z.T @ z / len(z), z.T @ target / len(z), RIDGE)


@dataclass(frozen=True)
class Gate:
    """A token with input z fires iff s(z) = row . z - threshold > 0.

    ``strength``: mean s over the tokens that fire; ``firing``: their share of the tagged patches; ``margin``: how far
    below 0 the closest other token stays, in units of ``strength``. All over the images the gate was fitted on.
    """

    row: Tensor
    threshold: float
    strength: float
    firing: float
    margin: float

    def score(self, inputs: Tensor) -> Tensor:
        """s (...) float64 of inputs (..., D)."""
        score: Tensor = inputs.double() @ self.row - self.threshold
        return score


def fit_gate(inputs: Tensor, tagged: Tensor, uniformity: Tensor, tag_probe: Tensor, firing: float, where: str) -> Gate:
    """The AND of ``uniformity . z`` and the tag ``tag_probe . z``, for inputs (n, T, D) and tagged tokens (T,) bool.

    With u and g the two scores, tau the quantile of u that lets the share ``firing`` of the tagged tokens pass, and
    c = 1.05 max(.1, max untagged u - tau) / (mean tagged g - max untagged g), s = (u - tau) + c (g - mean tagged g):
    without the tag, c times its absence outweighs the most uniform token there is.
    :class:`InputError`, opened by ``where``, if the tag does not tell tagged tokens from the others.
    """
    z = inputs.double()
    u, g = z @ uniformity, z @ tag_probe
    present, absent = float(g[:, tagged].mean()), float(g[:, ~tagged].max())
    if present <= absent:
        raise InputError(
            f"{where}: the tag reads {present:.2f} on tagged tokens and up to {absent:.2f} on others, so no gate can "
            "tell them apart; raise tag_strength (12 and more have worked), or train the base longer"
        )
    tau = float(u[:, tagged].quantile(1.0 - firing))
    weight = MARGIN * max(0.1, float(u[:, ~tagged].max()) - tau) / (present - absent)
    row, threshold = uniformity + weight * tag_probe, tau + weight * present
    scores = u + weight * g - threshold
    fires = scores > 0
    if not fires.any():
        raise InputError(f"{where}: no tagged patch fires; raise images or tag_strength, or choose other positions")
    strength = float(scores[fires].mean())
    return Gate(
        row=row,
        threshold=threshold,
        strength=strength,
        firing=float(fires[:, tagged].double().mean()),
        margin=float(-scores[:, ~tagged].max()) / strength,
    )
