"""One forward pass of a batch through a backbone, under an intervention, for many readers."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from vit_registers.forward import hooks
from vit_registers.forward.readers.base import Reader
from vit_registers.forward.tap import tapped
from vit_registers.models.attention import Attention
from vit_registers.models.backbone import Backbone

PRECISIONS = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}
_ROWS: ContextVar[tuple[int, ...]] = ContextVar("manifest rows of the batch that passes")
_UNREAD: ContextVar[bool] = ContextVar("whether passes feed no reader", default=False)


def announce_rows(rows: Iterable[int]) -> None:
    """Say, before a batch passes, which manifest rows its images are.

    A second view of an image is another image, with a number behind the last row (Manifest.numbers_of_views): what is
    drawn for it is drawn anew, as two views that share their noise would be alike by that.
    """
    _ROWS.set(tuple(int(row) for row in rows))


def rows_of_batch(images: int) -> tuple[int, ...]:
    """Manifest rows of the batch that passes, for interventions whose draws belong to an image and not to a batch.

    A pass of ``images`` images that did not announce as many rows is a mistake of the caller.
    """
    rows = _ROWS.get(())
    if len(rows) != images:
        raise RuntimeError(f"a batch of {images} images passes, but {len(rows)} rows were announced")
    return rows


@contextmanager
def unread() -> Iterator[None]:
    """Within the context passes feed no reader: for an intervention that needs further passes of the same images.

    Interventions are in force in them as in any other, and the rows that were announced are theirs.
    """
    token = _UNREAD.set(True)
    try:
        yield
    finally:
        _UNREAD.reset(token)


def _fed(callback: Callable[..., None]) -> Callable[..., None]:
    """``callback``, but not in passes that feed no reader."""

    def called(*arguments: Any) -> None:
        if not _UNREAD.get():
            callback(*arguments)

    return called


def final_norm(backbone: Backbone) -> nn.Module:
    """The norm that ``forward_features`` leaves out where a model norms after pooling; else the identity.

    Such models (EVA-02, timm's ``_gap``) hold a norm over channels for the pooled token, called ``fc_norm``, and none
    behind the blocks. Applied to every token it makes theirs comparable with those of all other models.
    """
    return backbone.module.fc_norm if isinstance(backbone.module.norm, nn.Identity) else nn.Identity()  # type: ignore[return-value]


def _overriding(readers: Sequence[Reader], method: Callable[..., None]) -> list[Reader]:
    """Readers that override ``method`` of :class:`Reader`: what nobody reads is not computed."""
    return [reader for reader in readers if getattr(type(reader), method.__name__) is not method]


class Forward(Protocol):
    """Passes a normalised batch (b, 3, h, w) of the images ``rows`` (b,)."""

    def __call__(self, images: Tensor, rows: Iterable[int] = ()) -> None:
        """Feed the readers."""


@contextmanager
def reading(backbone: Backbone, readers: Sequence[Reader], precision: str) -> Iterator[Forward]:
    """Yield a function that passes a normalised batch (b, 3, h, w) and feeds the readers.

    With the batch it takes the manifest rows of its images; interventions that draw per image need them. Enter it
    inside :func:`applied.applied`: hooks run in the order of their registration, so readers see what an intervention
    has made.
    """
    embeddings, finals = _overriding(readers, Reader.embedding), _overriding(readers, Reader.final)
    heads = _overriding(readers, Reader.features)
    blocks, activations = _overriding(readers, Reader.block), _overriding(readers, Reader.activation)
    attentions = _overriding(readers, Reader.attention)
    dtype, norm = PRECISIONS[precision], final_norm(backbone)
    # Readers measure in the precision they state: autocast is for the model alone.
    undisturbed = partial(torch.autocast, backbone.device.type, enabled=False)

    def on_embedding(output: Tensor) -> None:
        patches = output.flatten(1, 2) if output.ndim == 4 else output  # (b, h, w, d) where the input size may vary
        with undisturbed():
            for reader in embeddings:
                reader.embedding(patches)

    def on_block(layer: int, tokens: Tensor) -> None:
        with undisturbed():
            for reader in blocks:
                reader.block(layer, tokens)

    def on_activation(layer: int, activations_of_layer: Tensor) -> None:
        with undisturbed():
            for reader in activations:
                reader.activation(layer, activations_of_layer)

    def on_attention(layer: int, attention: Attention) -> None:
        for reader in attentions:
            reader.attention(layer, attention)

    def forward(images: Tensor, rows: Iterable[int] = ()) -> None:
        announce_rows(rows)
        with torch.inference_mode(), torch.autocast(backbone.device.type, dtype, enabled=dtype is not None):
            images = images.to(backbone.device, non_blocking=True)
            features = backbone.module.forward_features(images)  # type: ignore[operator]
            tokens = norm(features)
            with undisturbed():
                for reader in heads:
                    reader.features(features)
                for reader in finals:
                    reader.final(tokens)

    with hooks.hooked() as on, tapped(backbone, _fed(on_attention)) if attentions else nullcontext():
        if embeddings:
            on.output(hooks.patch_embedding(backbone), _fed(on_embedding))
        for layer in range(backbone.depth):
            if blocks:
                on.output(hooks.block(backbone, layer), partial(_fed(on_block), layer))
            if activations:
                on.input(hooks.second_linear(backbone, layer), partial(_fed(on_activation), layer))
        yield forward
