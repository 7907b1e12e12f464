"""Linear heads on patch tokens: the class of every pixel (as for ADE20k) and its depth (as for NYUd).

As DINOv2 evaluates (Oquab et al. 2024; darcet2024): one linear layer on every patch token, whose map is upsampled
bilinearly to the image. Segmentation is trained with the cross-entropy of upsampled logits, on whitened channels
where DINOv2 standardises them by a BatchNorm: a linear layer can express the same, and needs a tenth of the steps.
Depth is the ridge regression of each patch's mean depth (DINOv2 sorts depths into bins instead). Both problems are
convex: the result depends on what the tokens hold, not on where the heads start.
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from vit_registers.core.numerics.linalg import ridge
from vit_registers.core.numerics.patches import patchify
from vit_registers.core.schedules import cosine
from vit_registers.data.transforms import Size
from vit_registers.experiments.dense_prediction.params import DensePrediction
from vit_registers.experiments.dense_prediction.targets import FARTHEST, IGNORED

CHUNK = 64  # images at a time where sums over tokens are taken


def interpolation(pixels: int, patches: int) -> Tensor:
    """Weights (pixels, patches) of the bilinear upsampling along one side, as ``F.interpolate`` has them."""
    return F.interpolate(torch.eye(patches)[None], size=pixels, mode="linear", align_corners=False)[0].T


@dataclass(frozen=True)
class Upsampling:
    """From a grid of patches to pixels: ``down`` (h, patches) and ``across`` (w, patches), one for each side."""

    down: Tensor
    across: Tensor

    @classmethod
    def between(cls, grid: Size, size: Size, every: int = 1) -> "Upsampling":
        """To every pixel of ``size``, or to one of ``every`` in each row and column, from the middle of the first."""
        sides = [
            interpolation(pixels, patches)[every // 2 :: every] for pixels, patches in zip(size, grid, strict=True)
        ]
        return cls(*sides)

    def __call__(self, maps: Tensor) -> Tensor:
        """Maps (b, p, k), row-major over the grid, at the pixels: (b, h, w, k)."""
        b, _, k = maps.shape
        patches = self.across.shape[1]
        high = self.down @ maps.reshape(b, -1, patches * k)  # (b, h, patches * k)
        return (self.across @ high.reshape(-1, patches, k)).view(b, len(self.down), len(self.across), k)


@dataclass(frozen=True)
class SegmentationHead:
    """A linear layer ``weight`` (d, classes) and ``bias`` (classes,) on tokens less their ``mean`` (d,)."""

    mean: Tensor
    weight: Tensor
    bias: Tensor

    def __call__(self, tokens: Tensor) -> Tensor:
        """Logits (b, p, classes) of tokens (b, p, d)."""
        return (tokens.float() - self.mean) @ self.weight + self.bias


@dataclass(frozen=True)
class DepthHead:
    """A linear function ``weight`` (d + 1,), the last being the constant."""

    weight: Tensor

    def __call__(self, tokens: Tensor) -> Tensor:
        """Depth (b, p) of tokens (b, p, d)."""
        return tokens.float() @ self.weight[:-1] + self.weight[-1]


def whitening(tokens: Tensor, penalty: float) -> tuple[Tensor, Tensor]:
    """Mean (d,) of tokens (n, p, d), and the symmetric matrix (d, d) that decorrelates their channels to variance 1.

    ``penalty`` of the mean variance is added to every variance: directions that hardly vary are not blown up.
    """
    count, width = tokens.shape[0] * tokens.shape[1], tokens.shape[2]
    mean, moments = torch.zeros(width, dtype=torch.double), torch.zeros(width, width, dtype=torch.double)
    for part in tokens.split(CHUNK):
        mean += part.double().sum((0, 1)) / count
    for part in tokens.split(CHUNK):
        centred = (part.double() - mean).flatten(0, 1)
        moments += centred.T @ centred / count
    variances, directions = torch.linalg.eigh(moments)
    scaled = directions / (variances.clamp(min=0.0) + penalty * variances.mean()).sqrt()
    return mean.float(), (scaled @ directions.T).float()


def fit_segmentation(
    tokens: Tensor, classes: NDArray[np.int16], count: int, grid: Size, cfg: DensePrediction, draw: torch.Generator
) -> SegmentationHead:
    """A head of ``count`` classes for tokens (n, p, d) of images whose pixels show ``classes`` (n, h, w).

    Pixels of no class (``IGNORED``) count nowhere.

    AdamW with a cosine to zero; one pixel of ``cfg.every`` in each row and column counts in the loss. The head starts
    from the frequencies of the classes (bias), with zero weights.
    """
    upsampling = Upsampling.between(grid, (classes.shape[1], classes.shape[2]), cfg.every)
    first = cfg.every // 2
    targets = torch.from_numpy(classes[:, first :: cfg.every, first :: cfg.every].astype(np.int64))
    mean, white = whitening(tokens, cfg.ridge)
    frequent = (
        torch.bincount(targets[targets != IGNORED], minlength=count) + 1.0
    )  # one more: a class may not be among them
    weight = torch.zeros(tokens.shape[2], count, requires_grad=True)  # on whitened channels
    bias = (frequent / frequent.sum()).log().requires_grad_()
    optimizer = torch.optim.AdamW([weight, bias], lr=cfg.lr, weight_decay=cfg.weight_decay)
    steps = -(-len(tokens) // cfg.batch_size) * cfg.epochs
    step = 0
    for _ in range(cfg.epochs):
        for images in torch.randperm(len(tokens), generator=draw).split(cfg.batch_size):
            optimizer.param_groups[0]["lr"] = cosine(cfg.lr, 0.0, step, steps)
            step += 1
            if (targets[images] == IGNORED).all():
                continue  # no pixel that counts: there is no loss
            logits = upsampling(SegmentationHead(mean, white @ weight, bias)(tokens[images]))
            loss = F.cross_entropy(logits.flatten(0, 2), targets[images].flatten(), ignore_index=IGNORED)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return SegmentationHead(mean, (white @ weight).detach(), bias.detach())


def patch_depth(depth: NDArray[np.uint16], grid: Size, unit: float) -> tuple[Tensor, Tensor]:
    """Mean depth of each patch (n, p) over its pixels of known depth, and how many these are (n, p).

    ``unit`` of the stored values makes a depth of 1.
    """
    patch = (depth.shape[1] // grid[0], depth.shape[2] // grid[1])
    pixels = patchify(torch.from_numpy(depth.astype(np.int32))[:, None], patch)  # (n, p, ph * pw)
    known = (pixels > 0).sum(2)
    return pixels.double().sum(2) / (unit * known.clamp(min=1)), known


def fit_depth(
    tokens: Tensor, depth: NDArray[np.uint16], grid: Size, cfg: DensePrediction, unit: float = FARTHEST
) -> DepthHead:
    """Ridge regression of a patch's mean depth on its token (n, p, d); patches weigh by their pixels of known depth."""
    width = tokens.shape[2] + 1
    products, targets = torch.zeros(width, width, dtype=torch.double), torch.zeros(width, dtype=torch.double)
    means, known = patch_depth(depth, grid, unit)
    for part, y, pixels in zip(tokens.split(CHUNK), means.split(CHUNK), known.split(CHUNK), strict=True):
        x = F.pad(part.double(), (0, 1), value=1.0).flatten(0, 1)
        weighted = x * pixels.flatten()[:, None]
        products += weighted.T @ x
        targets += weighted.T @ y.flatten()
    return DepthHead(ridge(products, targets, cfg.ridge, constant=True).float())
