"""Whether a module can be laid out and measured; what cannot is refused by name before any image is read."""

from typing import Any

import torch
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.func import functional_call

from vit_registers.core.errors import InputError
from vit_registers.models.attention import Call, Interceptor
from vit_registers.models.layout import TokenLayout

# Norms whose statistics run over the image: behind one in the stem every patch depends on all pixels.
POOLING = (nn.GroupNorm, nn.InstanceNorm2d)


def layout_of(module: nn.Module, name: str) -> TokenLayout:
    """Token layout of a timm ViT at its own input size; one whose tokens or attention cannot be told is refused.

    An image is passed without computing (torch's meta device) as models are measured, in eval mode: each block must
    attend once, through ``F.scaled_dot_product_attention``, from all tokens of the layout to all of them.
    """
    if not isinstance(module, VisionTransformer | Eva):
        raise InputError(f"model '{name}' is a {type(module).__name__}; expected timm's VisionTransformer or Eva")
    cls = int(module.cls_token is not None)
    registers = 0 if module.reg_token is None else int(module.reg_token.shape[1])
    if cls + registers != module.num_prefix_tokens:
        raise InputError(
            f"model '{name}' has prefix tokens that are neither [CLS] nor registers; it cannot be laid out"
        )
    embed: Any = module.patch_embed
    image, (height, width), patch = tuple(embed.img_size), embed.grid_size, embed.feat_ratio(as_scalar=False)
    if (height * patch[0], width * patch[1]) != image:
        raise InputError(
            f"model '{name}': its input of {image[0]}x{image[1]} pixels is not whole patches of {patch[0]}x{patch[1]}; "
            "give another image_size"
        )
    pooled = next((part for part in embed.modules() if isinstance(part, POOLING)), None)
    if pooled is not None:
        raise InputError(
            f"model '{name}' embeds patches through {type(pooled).__name__}, which norms over all pixels of an image: "
            "no token is of its patch alone; take a model with a plain patch embedding"
        )
    layout = TokenLayout(cls, registers, (int(height), int(width)))
    weights = {key: tensor.to("meta") for key, tensor in (*module.named_parameters(), *module.named_buffers())}
    seen = 0

    def count(call: Call) -> Tensor:
        nonlocal seen
        seen += call.plain and call.query.shape[2] == layout.length  # a query that pools the tokens is none of them
        return call.output()

    training = module.training
    module.eval()
    with torch.no_grad(), Interceptor(count):
        functional_call(module, weights, (torch.empty(1, 3, *image, device="meta"),))
    module.train(training)
    one_each = all(hasattr(block, "attn") for block in module.blocks)  # not so where attention and MLP are fused
    if seen != len(module.blocks) or not one_each:
        raise InputError(
            f"model '{name}' has {seen} self-attentions over all {layout.length} tokens in its "
            f"{len(module.blocks)} blocks ({type(module.blocks[0]).__name__}); expected one in each, as its `attn`, "
            "fused and unmasked: no other can be measured"
        )
    return layout
