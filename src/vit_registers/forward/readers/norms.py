"""Readers that look for artifacts: norms of tokens, and how alike neighbouring patches are (darcet2024)."""

import torch
import torch.nn.functional as F
from torch import Tensor
from typing_extensions import override

from vit_registers.forward.arrays import Spec
from vit_registers.forward.readers.base import Arrays, Reader, numpy
from vit_registers.models.backbone import Backbone
from vit_registers.models.layout import TokenLayout


class Norms(Reader):
    """L2 norm over channels of every token at the raw output of every block (darcet2024)."""

    def __init__(self, backbone: Backbone, layout: TokenLayout) -> None:
        self.shape = (backbone.depth, layout.length)
        self.norms: list[Tensor] = []

    @override
    def block(self, layer: int, tokens: Tensor) -> None:
        self.norms.append(torch.linalg.vector_norm(tokens, dim=-1, dtype=torch.float32))

    @override
    def take(self) -> Arrays:
        norms, self.norms = self.norms, []
        return {"norms": numpy(torch.stack(norms, dim=1))}

    @override
    def specs(self) -> dict[str, Spec]:
        return {"norms": Spec(self.shape, "float32", "dense", "L2 norm", "raw block outputs: layer, token")}


class EmbeddingNorms(Reader):
    """L2 norm over channels of every patch embedding, before positions: what stands out there no block has made."""

    def __init__(self, backbone: Backbone, layout: TokenLayout) -> None:
        self.patches = layout.grid[0] * layout.grid[1]
        self.held: Tensor | None = None

    @override
    def embedding(self, patches: Tensor) -> None:
        self.held = torch.linalg.vector_norm(patches, dim=-1, dtype=torch.float32)

    @override
    def take(self) -> Arrays:
        held, self.held = self.held, None
        assert held is not None
        return {"embedding_norms": numpy(held)}

    @override
    def specs(self) -> dict[str, Spec]:
        return {"embedding_norms": Spec((self.patches,), "float32", "dense", "L2 norm", "patch embeddings, row-major")}


class NeighbourCosines(Reader):
    """Cosine of each patch embedding with the one below and the one to its right: artifacts are redundant (darcet2024).

    Every pair of neighbours is there once; NaN where a patch has no such neighbour.
    """

    def __init__(self, backbone: Backbone, layout: TokenLayout) -> None:
        self.grid = layout.grid
        self.held: Tensor | None = None

    @override
    def embedding(self, patches: Tensor) -> None:
        unit = F.normalize(patches.float(), dim=-1).unflatten(1, self.grid)  # (b, h, w, d)
        below = (unit[:, 1:] * unit[:, :-1]).sum(-1)  # (b, h - 1, w)
        right = (unit[:, :, 1:] * unit[:, :, :-1]).sum(-1)
        whole = [F.pad(below, (0, 0, 0, 1), value=torch.nan), F.pad(right, (0, 1), value=torch.nan)]
        self.held = torch.stack(whole, dim=1).flatten(2)

    @override
    def take(self) -> Arrays:
        held, self.held = self.held, None
        assert held is not None
        return {"neighbours": numpy(held)}

    @override
    def specs(self) -> dict[str, Spec]:
        what = "patch embeddings with the one below, and with the one to the right; patches row-major"
        return {"neighbours": Spec((2, self.grid[0] * self.grid[1]), "float32", "dense", "cosine", what)}
