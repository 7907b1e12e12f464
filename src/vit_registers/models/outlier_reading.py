"""A ViT whose head reads its outlier tokens, whichever they are: a late register, artifacts, test-time registers.

What a classifier reads is a place in ordinary ViTs: [CLS], or the mean patch. Here it is a property of tokens: their
norm in front of one block. So the tokens that hold the class of an image may change, by planting or by test-time
registers, and one frozen head still says how much of the class is left, without being told where to look.
"""

from collections.abc import Mapping
from typing import Any

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor
from typing_extensions import override

OUTLIER = 3.0  # times the median patch norm of the image: what detection calls an outlier unless params say otherwise
ZEROS = (0, 1, 2, 4)  # empty tokens that a step of training may have
JITTER = 2.0  # factor, up or down, within which the length of the register's vector is drawn in training


class OutlierReader(VisionTransformer):
    """timm's ViT with another pooling: the mean of an image's outlier tokens; of its patches where it has none.

    ``reads`` holds ``block``: norms in front of this block say which tokens are read in the end, at the output of the
    last one. A *late register* is a token of zeros up to that block. There a constant vector is added to it,
    ``ratio`` times the median patch norm of the image long and along a learnt direction (``reg_token``, its mean
    removed): an outlier from then on. What it tells of the image it gathers in the blocks that follow. A model without
    one (``reg_tokens`` 0) has no ``ratio``.

    In training, the register is one of 1, 2 or 4 zero tokens, or is not in the sequence before its block; which of
    these is drawn for each step, and the length of its vector for each image, within a factor of two. A model that has
    learnt so neither minds empty tokens nor depends on an exact norm: what appended tokens change is what they hold.
    """

    def __init__(self, reads: Mapping[str, float], **arguments: Any) -> None:
        super().__init__(**arguments, fc_norm=True)  # behind pooling, as of the mean patch: it would hide norms
        self.block, self.ratio = int(reads["block"]), reads.get("ratio")
        self.shares: Tensor | None = None  # of each token of the batch that passes in what is read, (b, t)

    @property
    def vector(self) -> Tensor:
        """Unit vector (d,) that the late register is filled along."""
        assert self.reg_token is not None
        direction = self.reg_token[0, 0] - self.reg_token.mean()
        return direction / direction.norm()

    @override
    def _pos_embed(self, x: Tensor) -> Tensor:
        """The sequence with positions; the register is empty yet."""
        tokens: Tensor = super()._pos_embed(x)
        if self.reg_token is None:
            return tokens
        zeros = ZEROS[int(torch.randint(len(ZEROS), ()))] if self.training else 1
        empty = tokens.new_zeros(len(x), zeros, self.embed_dim)
        return torch.cat([tokens[:, : self._register], empty, tokens[:, self._register + 1 :]], dim=1)

    @override
    def forward_features(self, x: Tensor, attn_mask: Tensor | None = None, is_causal: bool = False) -> Tensor:
        """Tokens (b, t, d) as the last block leaves them, of images (b, 3, h, w); what the head reads is noted."""
        x = self.norm_pre(self.patch_drop(self._pos_embed(self.patch_embed(x))))
        for number, block in enumerate(self.blocks):
            if number == self.block:
                x = self._filled(x)
                self.shares = self._read(x)
            x = block(x)
        return self.norm(x)

    @override
    def pool(self, x: Tensor, pool_type: str | None = None) -> Tensor:
        """What the head reads (b, d) of the tokens (b, t, d) of the batch that has just passed."""
        assert self.shares is not None
        return (self.shares.unsqueeze(2) * x).sum(1)

    @property
    def _register(self) -> int:
        """Place of the register in the sequence: behind [CLS]."""
        return self.num_prefix_tokens - self.num_reg_tokens

    def _patches(self, x: Tensor) -> slice:
        """Places of the patches: last in training, where zero tokens stand before them; else tokens may be appended."""
        count = int(self.patch_embed.num_patches)
        first = x.shape[1] - count if self.training else self.num_prefix_tokens
        return slice(first, first + count)

    def _filled(self, x: Tensor) -> Tensor:
        """The sequence (b, t, d) with the register filled, or put in where it was absent so far."""
        if self.ratio is None:
            return x
        length = self.ratio * _norms(x[:, self._patches(x)]).median(dim=1).values
        if self.training:
            length = length * JITTER ** (2.0 * torch.rand(len(x), device=x.device) - 1.0)
        vector = (length[:, None, None] * self.vector).to(x.dtype)
        start = self._patches(x).start
        empty = x[:, self._register : start]
        register = vector + empty[:, :1].sum(1, keepdim=True)  # of nothing the sum is zero
        return torch.cat([x[:, : self._register], register, empty[:, 1:], x[:, start:]], dim=1)

    def _read(self, x: Tensor) -> Tensor:
        """Share of each token (b, t) in what the head reads: the outliers', or the patches', all alike."""
        norms, patches = _norms(x), self._patches(x)
        read = norms > OUTLIER * norms[:, patches].median(dim=1, keepdim=True).values
        read[:, patches] |= ~read.any(dim=1, keepdim=True)
        return read / read.sum(dim=1, keepdim=True)


def _norms(tokens: Tensor) -> Tensor:
    """L2 norms (b, t) in single precision, through which nothing is learnt."""
    return tokens.detach().float().norm(dim=-1)
