"""What a recipe stands for: the module and its learning rates; of supervised ones the optimizer and the loss too."""

import math
from collections.abc import Callable
from typing import Any

import torch
from timm.loss.binary_cross_entropy import BinaryCrossEntropy
from timm.optim._param_groups import param_groups_weight_decay
from timm.optim.lamb import Lamb
from timm.scheduler.cosine_lr import CosineLRScheduler
from torch import nn

from vit_registers.models import backbone
from vit_registers.params import AnyRecipe, Deit3Recipe, DinoRecipe, SmallRecipe
from vit_registers.training.schedules import Distillation

Supervised = SmallRecipe | Deit3Recipe

TOKENS = ("cls_token", "reg_token", "pos_embed")  # not decayed, unless a recipe says so


def architecture(recipe: AnyRecipe, registers: int, classes: int) -> dict[str, Any]:
    """What :func:`backbone.build` takes; registers carry no position embedding (darcet2024).

    No head where no labels are seen.
    """
    if isinstance(recipe, SmallRecipe):
        return _small(recipe, registers, classes)
    named = recipe.architecture
    given: dict[str, Any] = {"name": named.name, "img_size": named.image_size}
    if isinstance(recipe, Deit3Recipe):
        given["init_values"] = recipe.layer_scale
    heads = 0 if isinstance(recipe, DinoRecipe) else classes
    return {**given, "no_embed_class": True, "reg_tokens": registers, "num_classes": heads, **named.arguments}


def _small(recipe: SmallRecipe, registers: int, classes: int) -> dict[str, Any]:
    shape = recipe.architecture
    scaled = {} if shape.layer_scale is None else {"init_values": shape.layer_scale}
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
        **scaled,
    }


def build(recipe: AnyRecipe, registers: int, classes: int) -> nn.Module:
    """A module with weights drawn from torch's generator.

    DeiT and DINO draw [CLS] as their weights, truncated normal with deviation .02, and bach2025 its registers like
    [CLS]; timm draws both with 1e-6, and the small recipe leaves that.
    """
    arguments = architecture(recipe, registers, classes)
    if isinstance(recipe, SmallRecipe):
        return backbone.build({**arguments, "drop_path_rate": recipe.architecture.drop_path})
    module: Any = backbone.build({**arguments, "drop_path_rate": recipe.drop_path})
    for token in (module.cls_token, module.reg_token):
        if token is not None:
            nn.init.trunc_normal_(token, std=0.02)
    return module  # type: ignore[no-any-return]


def optimizer(module: nn.Module, recipe: Supervised) -> torch.optim.Optimizer:
    """AdamW, or LAMB with its own clipping; decay on weight matrices only, not on biases, norms or ``TOKENS``."""
    groups = param_groups_weight_decay(module, recipe.weight_decay, no_weight_decay_list=TOKENS)
    if isinstance(recipe, Deit3Recipe):
        return Lamb(groups, lr=recipe.lr, betas=recipe.betas, eps=1e-8, max_grad_norm=recipe.clip_norm)
    return torch.optim.AdamW(groups, lr=recipe.lr, betas=recipe.betas, fused=True)


def clip(module: nn.Module, recipe: Supervised) -> None:
    """Gradients to the norm that the recipe allows, where the optimizer does not do it by itself."""
    if isinstance(recipe, SmallRecipe):
        nn.utils.clip_grad_norm_(module.parameters(), recipe.clip_norm)


def loss(recipe: Supervised) -> nn.Module:
    """Loss of logits (n, classes) against labels (n,), or against the mixed targets (n, classes) of DeiT-III.

    DeiT's binary cross-entropy takes every class that has any part in a mixed image as wholly there.
    """
    if isinstance(recipe, Deit3Recipe):
        return BinaryCrossEntropy(smoothing=0.0, target_threshold=0.0)
    return nn.CrossEntropyLoss(label_smoothing=recipe.label_smoothing)


def schedule(recipe: AnyRecipe, per_epoch: int) -> Callable[[int], float]:
    """Learning rate by step, of ``per_epoch`` steps an epoch: linear warm-up, then a cosine.

    The small recipe falls to zero from step to step. DeiT-III's goes by epoch and its cosine starts at epoch 0, under
    the warm-up, as in timm. (DeiT's loop sets the rate of an epoch after it, and so trains the second epoch at the
    rate of the first; that is not followed.) DINO's is that of :class:`schedules.Distillation`.
    """
    if isinstance(recipe, DinoRecipe):
        return Distillation(recipe, per_epoch).rate
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
