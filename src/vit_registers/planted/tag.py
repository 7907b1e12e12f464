"""A mark on chosen patches that a model does not notice: the clean reference of planting.

A planted gate must know which patches may fire, and position embeddings are what makes patches of one grid place
alike. The *tag* is a direction e in which the residual stream hardly moves by itself: what is written along it stays
readable, and the model, never having used it, goes on as before.
"""

import torch
from torch import Tensor, nn

from vit_registers.models.backbone import Backbone
from vit_registers.planted.activations import capture_inputs, residual_sites


def second_moment(backbone: Backbone, block: int, pixels: Tensor) -> Tensor:
    """C (D, D) float64: mean x x' over the patches of ``pixels`` at the inputs of blocks 0..block and block's output.

    Uncentred: a tag along a direction with a large mean would be mistaken for what all patches have in common.
    """
    sites = {str(i): site for i, site in enumerate(residual_sites(backbone)[: block + 2])}
    total = torch.zeros(backbone.width, backbone.width, dtype=torch.float64)
    count = 0
    for batch in capture_inputs(backbone, sites, pixels):
        for tokens in batch.values():
            patches = tokens[:, backbone.layout.patch_slice].flatten(0, 1).double()
            total += patches.T @ patches
            count += len(patches)
    return total / count


def low_variance_direction(moment: Tensor) -> Tensor:
    """The unit vector e (D,), orthogonal to ones, with the least second moment e'Ce; its largest entry is positive.

    A component along ones is invisible behind every LayerNorm, so it is projected out of C (D, D) first: ones is then
    the smallest eigenvector, with eigenvalue 0, and e the second-smallest.
    """
    width = len(moment)
    centring = torch.eye(width, dtype=torch.float64) - 1.0 / width
    _, vectors = torch.linalg.eigh(centring @ moment.double() @ centring)
    # Of the two smallest eigenvectors, the one that is not ones: on a degenerate C rounding could swap them.
    pair = vectors[:, :2]
    direction = centring @ pair[:, int(pair.sum(0).abs().argmin())]
    direction = direction / direction.norm()
    signed: Tensor = direction * direction[direction.abs().argmax()].sign()
    return signed


def tag(backbone: Backbone, positions: list[int], direction: Tensor, length: float) -> None:
    """Add ``length * direction`` to the position embeddings of grid ``positions`` (row-major), in place.

    Embeddings are those of the models trained here: of patches only, none of [CLS] and registers.
    """
    embedding: Tensor = backbone.module.pos_embed  # type: ignore[assignment]
    with torch.no_grad():
        embedding[0, positions] += (length * direction).to(embedding.dtype)


def tag_probe(direction: Tensor, norm: nn.LayerNorm) -> Tensor:
    """v (D,) float64 such that v . norm(x) is, up to a constant, e . x / sd(x): how much tag a token x shows."""
    probe: Tensor = direction.double() / norm.weight.double()
    return probe
