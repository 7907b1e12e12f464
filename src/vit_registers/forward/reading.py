"""One forward pass of a batch through a backbone, under an intervention, for many readers."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from vit_registers.forward import rows as rows_of_batch
from vit_registers.forward.attention import Attention, tapped
from vit_registers.forward.hooks import second_linear
from vit_registers.forward.readers import Reader
from vit_registers.models.backbone import Backbone

PRECISIONS = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}


def final_norm(backbone: Backbone) -> nn.Module:
    """The norm that ``forward_features`` leaves out where a model norms after pooling; else the identity.

    Such models (EVA-02, timm's ``_gap``) hold a norm over channels for the pooled token, called ``fc_norm``, and none
    behind the blocks. Applied to every token it makes theirs comparable with those of all other models.
    """
    return backbone.module.fc_norm if isinstance(backbone.module.norm, nn.Identity) else nn.Identity()  # type: ignore[return-value]


def _overriding(readers: Sequence[Reader], method: str) -> list[Reader]:
    """Readers that override ``method``: what nobody reads is not computed."""
    return [reader for reader in readers if getattr(type(reader), method) is not getattr(Reader, method)]


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
    embeddings, finals = _overriding(readers, "embedding"), _overriding(readers, "final")
    blocks, activations = _overriding(readers, "block"), _overriding(readers, "activation")
    attentions = _overriding(readers, "attention")
    dtype, norm = PRECISIONS[precision], final_norm(backbone)
    # Readers measure in the precision they state: autocast is for the model alone.
    undisturbed = partial(torch.autocast, backbone.device.type, enabled=False)

    def on_embedding(module: Any, inputs: Any, output: Tensor) -> None:
        patches = output.flatten(1, 2) if output.ndim == 4 else output  # (b, h, w, d) where the input size may vary
        with undisturbed():
            for reader in embeddings:
                reader.embedding(patches)

    def on_block(layer: int) -> Callable[..., None]:
        def hook(module: Any, inputs: Any, output: Tensor) -> None:
            with undisturbed():
                for reader in blocks:
                    reader.block(layer, output)

        return hook

    def on_activation(layer: int) -> Callable[..., None]:
        def hook(module: Any, inputs: tuple[Tensor, ...]) -> None:
            with undisturbed():
                for reader in activations:
                    reader.activation(layer, inputs[0])

        return hook

    def on_attention(layer: int, attention: Attention) -> None:
        for reader in attentions:
            reader.attention(layer, attention)

    with ExitStack() as stack:
        if embeddings:
            stack.callback(backbone.module.patch_embed.register_forward_hook(on_embedding).remove)  # type: ignore[union-attr, operator]
        for layer, block in enumerate(backbone.blocks):
            if blocks:
                stack.callback(block.register_forward_hook(on_block(layer)).remove)
            if activations:
                linear = second_linear(backbone, layer)
                stack.callback(linear.register_forward_pre_hook(on_activation(layer)).remove)
        if attentions:
            stack.enter_context(tapped(backbone, on_attention))

        def forward(images: Tensor, rows: Iterable[int] = ()) -> None:
            rows_of_batch.announce(rows)
            with torch.inference_mode(), torch.autocast(backbone.device.type, dtype, enabled=dtype is not None):
                images = images.to(backbone.device, non_blocking=True)
                tokens = norm(backbone.module.forward_features(images))  # type: ignore[operator]
                with undisturbed():
                    for reader in finals:
                        reader.final(tokens)

        yield forward
