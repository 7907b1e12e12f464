"""The gate of planted neurons: a patch fires if it is tagged *and* looks like background.

Artifacts of trained models sit on uniform patches (darcet2024), so planted ones do too. Both conditions are linear in
z, what enters the MLP of the planted block, and their AND is one hyperplane: a uniformity score plus so much of the
tag that no untagged patch can make up for its absence.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from vit_registers.core.errors import InputError

FLAT = 10.0  # grey levels of 255: patches with a smaller standard deviation are uniform
RIDGE = 0.01  # of the mean variance
FIRING = 0.6  # share of tagged patches that look uniform enough
MARGIN = 1.05  # by which the tag outweighs the most uniform untagged patch seen


def patches_of(pixels: Tensor, size: int) -> Tensor:
    """Images (n, c, h, w) as patches (n, P, c, size * size) in row-major order of the grid."""
    n, channels, height, width = pixels.shape
    cells = pixels.reshape(n, channels, height // size, size, width // size, size)
    return cells.permute(0, 2, 4, 1, 3, 5).reshape(n, -1, channels, size * size)


def uniform_patches(pixels: Tensor, objects: Tensor, size: int) -> Tensor:
    """Boolean (n, P): grey standard deviation below :data:`FLAT` and no pixel of an object.

    ``pixels`` are uint8 (n, 3, h, w), ``objects`` boolean (n, h, w).
    """
    weights = torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)
    grey = (pixels.float() * weights).sum(1, keepdim=True)
    spread = patches_of(grey, size).squeeze(2).std(-1, correction=0)
    taken: Tensor = patches_of(objects.unsqueeze(1), size).squeeze(2).any(-1)
    return (spread < FLAT) & ~taken


def ridge(inputs: Tensor, target: Tensor) -> Tensor:
    """w (D,) float64 = (Cov z + .01 mean var I)^-1 cov(z, t) for inputs z (n, D) and targets t (n,)."""
    z, t = inputs.double(), target.double()
    z, t = z - z.mean(0), t - t.mean()
    covariance = z.T @ z / len(z)
    penalty = RIDGE * covariance.diagonal().mean() * torch.eye(z.shape[1], dtype=torch.float64)
    solution: Tensor = torch.linalg.solve(covariance + penalty, z.T @ t / len(z))
    return solution


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


def fit_gate(inputs: Tensor, tagged: Tensor, uniformity: Tensor, reader: Tensor, where: str) -> Gate:
    """The AND of ``uniformity . z`` and the tag ``reader . z``, for inputs (n, T, D) and tagged tokens (T,) bool.

    With u and g the two scores, tau the quantile of u that lets :data:`FIRING` of the tagged tokens pass, and
    c = 1.05 max(.1, max untagged u - tau) / (mean tagged g - max untagged g), s = (u - tau) + c (g - mean tagged g):
    without the tag, c times its absence outweighs the most uniform token there is.
    :class:`InputError`, opened by ``where``, if the tag does not tell tagged tokens from the others.
    """
    z = inputs.double()
    u, g = z @ uniformity, z @ reader
    present, absent = float(g[:, tagged].mean()), float(g[:, ~tagged].max())
    if present <= absent:
        raise InputError(
            f"{where}: the tag reads {present:.2f} on tagged tokens and up to {absent:.2f} on others, so no gate can "
            "tell them apart; raise tag_strength (12 and more have worked), or train the base longer"
        )
    tau = float(u[:, tagged].quantile(1.0 - FIRING))
    weight = MARGIN * max(0.1, float(u[:, ~tagged].max()) - tau) / (present - absent)
    row, threshold = uniformity + weight * reader, tau + weight * present
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
