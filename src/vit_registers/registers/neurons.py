"""Register neurons (jiang2025): which neurons fire at outlier patches, ranked in one streamed pass.

Score of a neuron = mean |activation| over an image's outlier patches, then mean over images that have any. A
later layer decides the positions, so a batch's activations are held until it has passed; nothing grows with the number
of images.

What a neuron adds to a token is its activation times a column of the second linear layer. A neuron of small activation
and large column is not found by its activation; its *contribution* is the score times that column's norm.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vit_registers.forward.hooks import output_columns, second_linear
from vit_registers.forward.readers.base import Reader
from vit_registers.models.backbone import Backbone

Counts = NDArray[np.int64]


def resample_counts(images: int, resamples: int, rng: np.random.Generator) -> Counts:
    """How often each bootstrap sample draws each image: (resamples, images)."""
    return rng.multinomial(images, np.full(images, 1.0 / images), size=resamples)


class NeuronScores(Reader):
    """Accumulates scores of every neuron up to ``highest_layer``, for the images as they are and for resamples.

    ``counts`` (resamples, images) comes from :func:`resample_counts`. With ``sparsity`` a neuron counts in an image
    only where at least half of its tokens have activation (``signed``: a; ``absolute``: |a|) below 0.5: the published
    code is ``signed``, which takes large negative activations for sparse. ``tokens`` are its ``patches`` or, as in the
    published code, ``all``, with [CLS] and registers.
    """

    def __init__(
        self,
        backbone: Backbone,
        outlier_layer: int,
        highest_layer: int,
        limit: float,
        sparsity: str,
        counts: Counts,
        tokens: str = "patches",
    ) -> None:
        """``limit``: norm above which a patch is an outlier at ``outlier_layer``; layers count from the end if < 0."""
        self.patches = backbone.layout.patch_slice
        self.judged = self.patches if tokens == "patches" else slice(None)
        self.outlier_layer = outlier_layer % backbone.depth
        self.layers = highest_layer % backbone.depth + 1
        self.limit, self.sparsity, self.counts = limit, sparsity, counts
        width = int(second_linear(backbone, 0).in_features)
        self.total = torch.zeros(1 + len(counts), self.layers, width, dtype=torch.float64)
        self.images = torch.zeros(1 + len(counts), dtype=torch.float64)
        self.seen = 0
        self.held: list[Tensor] = []
        self.outliers: Tensor | None = None

    def activation(self, layer: int, activations: Tensor) -> None:
        """Hold a layer's activations until the outlier positions are known."""
        if layer < self.layers:
            self.held.append(activations)

    def block(self, layer: int, tokens: Tensor) -> None:
        """Find the outlier patches (b, p) at the outlier layer."""
        if layer == self.outlier_layer:
            self.outliers = tokens[:, self.patches].float().norm(dim=-1) > self.limit

    def final(self, tokens: Tensor) -> None:
        """Add the batch to the running sums."""
        assert self.outliers is not None
        where = self.outliers
        affected = where.any(dim=1)
        scores = torch.stack([self._score(held, where) for held in self.held], dim=1)  # (b, layers, h)
        batch = slice(self.seen, self.seen + len(where))
        weights = torch.from_numpy(np.concatenate([np.ones((1, len(where)), dtype=np.int64), self.counts[:, batch]]))
        # Moved before they are widened: not every device has float64.
        weights = weights.double() * affected.cpu().double()
        self.total += torch.einsum("rb,blh->rlh", weights, scores.cpu().double())
        self.images += weights.sum(dim=1)
        self.seen += len(where)
        self.held, self.outliers = [], None

    def _score(self, activations: Tensor, where: Tensor) -> Tensor:
        """Mean |activation| (b, h) of ``activations`` (b, t, h) over the outlier patches ``where`` (b, p).

        0 for images without any. Outliers are few: only their activations are touched. Their sum has one order on every
        device.
        """
        fired = activations[:, self.patches][where].float().abs()  # (outliers, h), image after image
        score = torch.segment_reduce(fired, "mean", lengths=where.sum(dim=1), axis=0, unsafe=True)
        score = torch.where(where.any(dim=1)[:, None], score, 0.0)
        if self.sparsity == "off":
            return score
        judged = activations[:, self.judged]
        small = (judged if self.sparsity == "signed" else judged.abs()) < 0.5
        return score * (small.float().mean(dim=1) >= 0.5)

    def scores(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Scores (layers, h) over all images, and over each resample (resamples, layers, h)."""
        mean = (self.total / self.images.clamp(min=1.0)[:, None, None]).numpy()
        return mean[0], mean[1:]


def output_norms(backbone: Backbone, layers: int) -> NDArray[np.float64]:
    """Norm of what every neuron of the first ``layers`` blocks writes for an activation of 1: (layers, h)."""
    return np.stack([output_columns(backbone, layer).norm(dim=0).numpy() for layer in range(layers)])


def scored(scores: NDArray[np.float64], by: str, backbone: Backbone) -> NDArray[np.float64]:
    """Mean |activation| (..., layers, h) as the score ``by``: ``activation`` is that itself, see the module."""
    return scores if by == "activation" else scores * output_norms(backbone, scores.shape[-2])


def ranking(scores: NDArray[np.float64], count: int | None = None) -> list[tuple[int, int]]:
    """(layer, index) of the ``count`` best neurons of ``scores`` (layers, h), or of all: highest first, ties to the
    earlier layer and index.
    """
    order = np.argsort(-scores, axis=None, kind="stable")[:count]
    layers, indices = np.unravel_index(order, scores.shape)
    return list(zip(layers.tolist(), indices.tolist(), strict=True))
