"""What a recipe stands for: the module, its optimizer, its learning rates and its loss."""

import math
from collections.abc import Callable
from typing import Any

import torch
from timm.loss.binary_cross_entropy import BinaryCrossEntropy
from timm.optim._param_groups import param_groups_weight_decay
from timm.optim.lamb import Lamb
from timm.scheduler.cosine_lr import CosineLRScheduler
from torch import Tensor, nn

from vit_registers.backbones import backbone
from vit_registers.params import Deit3Recipe, SmallRecipe

TOKENS = ("cls_token", "reg_token", "pos_embed")  # never decayed


def architecture(recipe: SmallRecipe | Deit3Recipe, registers: int, classes: int) -> dict[str, Any]:
    """What :func:`backbone.build` takes; registers carry no position embedding (darcet2024)."""
    if isinstance(recipe, Deit3Recipe):
        named = recipe.architecture
        given = {"name": named.name, "img_size": named.image_size, "init_values": recipe.layer_scale}
        return {**given, "no_embed_class": True, "reg_tokens": registers, "num_classes": classes, **named.arguments}
    shape = recipe.architecture
    return {
        "img_size": shape.image_size,
        "patch_size": shape.patch_size,
        "embed_dim": shape.width,
        "depth": shape.depth,
        "num_heads": shape.heads,
        "num_classes": classes,
        "reg_tokens": registers,
        "class_token": True,
        "no_embed_class": True,
        "weight_init": "jax",
    }


def build(recipe: SmallRecipe | Deit3Recipe, registers: int, classes: int) -> nn.Module:
    """A module with weights drawn from torch's generator.

    DeiT draws [CLS] as its weights, truncated normal with deviation .02, and bach2025 its registers like [CLS]; timm
    draws both with 1e-6.
    """
    arguments = architecture(recipe, registers, classes)
    if isinstance(recipe, SmallRecipe):
        return backbone.build(arguments)
    module: Any = backbone.build({**arguments, "drop_path_rate": recipe.drop_path})
    for token in (module.cls_token, module.reg_token):
        if token is not None:
            nn.init.trunc_normal_(token, std=0.02)
    return module  # type: ignore[no-any-return]


def optimizer(module: nn.Module, recipe: SmallRecipe | Deit3Recipe) -> torch.optim.Optimizer:
    """AdamW, or LAMB with its own clipping; decay on weight matrices only, not on biases, norms or ``TOKENS``."""
    groups = param_groups_weight_decay(module, recipe.weight_decay, no_weight_decay_list=TOKENS)
    if isinstance(recipe, Deit3Recipe):
        return Lamb(groups, lr=recipe.lr, betas=recipe.betas, eps=1e-8, max_grad_norm=recipe.clip_norm)
    return torch.optim.AdamW(groups, lr=recipe.lr, betas=recipe.betas, fused=True)


def clip(module: nn.Module, recipe: SmallRecipe | Deit3Recipe) -> None:
    """Gradients to the norm that the recipe allows, where the optimizer does not do it by itself."""
    if isinstance(recipe, SmallRecipe):
        nn.utils.clip_grad_norm_(module.parameters(), recipe.clip_norm)


def loss(recipe: SmallRecipe | Deit3Recipe) -> Callable[[Tensor, Tensor], Tensor]:
    """Loss of logits (n, classes) against labels (n,), or against the mixed targets (n, classes) of DeiT-III.

    DeiT's binary cross-entropy takes every class that has any part in a mixed image as wholly there.
    """
    if isinstance(recipe, Deit3Recipe):
        return BinaryCrossEntropy(smoothing=0.0, target_threshold=0.0)
    return nn.CrossEntropyLoss(label_smoothing=recipe.label_smoothing)


def schedule(recipe: SmallRecipe | Deit3Recipe, per_epoch: int) -> Callable[[int], float]:
    """Learning rate by step, of ``per_epoch`` steps an epoch: linear warm-up, then a cosine.

    The small recipe falls to zero from step to step. DeiT-III's goes by epoch and its cosine starts at epoch 0, under
    the warm-up, as in timm. (DeiT's loop sets the rate of an epoch after it, and so trains the second epoch at the
    rate of the first; that is not followed.)
    """
    if isinstance(recipe, SmallRecipe):
        return lambda step: _by_step(step, per_epoch * recipe.epochs, recipe)
    group = torch.optim.SGD([nn.Parameter(torch.empty(0))], lr=recipe.lr)
    cosine = CosineLRScheduler(
        group,
        t_initial=recipe.epochs,
        lr_min=recipe.final_lr,
        warmup_t=recipe.warmup_epochs,
        warmup_lr_init=recipe.warmup_lr,
    )

    def by_epoch(step: int) -> float:
        cosine.step(step // per_epoch)
        return float(group.param_groups[0]["lr"])

    return by_epoch


def _by_step(step: int, steps: int, recipe: SmallRecipe) -> float:
    warmup = max(1, round(steps * recipe.warmup_share))
    if step < warmup:
        return recipe.lr * (step + 1) / warmup
    return recipe.lr * 0.5 * (1.0 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))
