"""Self-distillation without labels: DINO (caron2021, "Emerging Properties in Self-Supervised Vision Transformers").

A student learns to give every crop of an image the logits that the teacher, its own running mean, gives the global
ones.
"""

from typing import Any

import torch
from timm.optim._param_groups import param_groups_weight_decay
from torch import Tensor, nn
from torch.func import functional_call
from torch.optim.swa_utils import get_ema_multi_avg_fn

from vit_registers.core.errors import InputError
from vit_registers.models.position_embedding import resampled
from vit_registers.training.distributed import Processes
from vit_registers.training.objective import TOKENS, Objective
from vit_registers.training.projection import Head
from vit_registers.training.recipes.dino import DinoRecipe
from vit_registers.training.schedules import DistillationSchedules


def cross_entropy(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean cross-entropy of student logits (v, n, k) from teacher logits (2, n, k), centre and temperatures applied.

    Over images and all pairs of a global crop of the teacher and another crop of the student; the student's first two
    crops are the teacher's.
    """
    by_pair = -torch.einsum("gnk,vnk->gv", teacher.softmax(-1), student.log_softmax(-1)) / student.shape[1]
    different = torch.ones_like(by_pair).fill_diagonal_(0.0)
    return (by_pair * different).sum() / different.sum()


class Branch(nn.Module):
    """A ViT under a projection head."""

    def __init__(self, recipe: DinoRecipe, registers: int) -> None:
        super().__init__()
        self.backbone: Any = recipe.build(registers, 0)
        width: Any = self.backbone.embed_dim
        self.head = Head(width, recipe.projection)

    def forward(self, crops: Tensor) -> Tensor:
        """Logits (v, n, k) of global crops (v, n, 3, s, s)."""
        return self.head(self.backbone(crops.flatten(0, 1))).unflatten(0, crops.shape[:2])


class Student(Branch):
    """A branch that takes local crops as well, with positions resampled to their grid.

    :class:`InputError` where local crops are not whole patches.
    """

    def __init__(self, recipe: DinoRecipe, registers: int) -> None:
        super().__init__(recipe, registers)
        self.positions = recipe.positions
        side = recipe.crops.local_size
        shape = recipe.architecture.model_copy(update={"image_size": side})
        local: Any = recipe.model_copy(update={"architecture": shape}).build(registers, 0)
        patch = local.patch_embed.feat_ratio(as_scalar=False)
        if side % patch[0] or side % patch[1]:
            raise InputError(
                f"recipes: local_size of {side} is not whole patches of {patch[0]}x{patch[1]}; give a multiple"
            )
        # Layers at the size of local crops, without weights: lent the student's at each pass, and so no part of it.
        self._local = [local.to("meta").train()]

    def crops(self, global_crops: Tensor, local_crops: Tensor) -> Tensor:
        """Logits (2 + l, n, k) of global crops (2, n, 3, s, s) and local crops (l, n, 3, t, t)."""
        tokens = [self.backbone(global_crops.flatten(0, 1))]
        if len(local_crops):
            tokens.append(functional_call(self._local[0], self._at_local_size(), (local_crops.flatten(0, 1),)))
        return self.head(torch.cat(tokens)).unflatten(0, (-1, global_crops.shape[1]))

    def _at_local_size(self) -> dict[str, Tensor]:
        whole, local = self.backbone, self._local[0]
        prefix = 0 if whole.no_embed_class else whole.num_prefix_tokens
        old, new = tuple(whole.patch_embed.grid_size), tuple(local.patch_embed.grid_size)
        positions = whole.pos_embed if old == new else resampled(whole.pos_embed, prefix, old, new, self.positions)
        return {**dict(whole.named_parameters()), "pos_embed": positions}


class Distilled(Objective):
    """Student, teacher and the centre of the teacher's output; the teacher's ViT is the model."""

    labelled = False
    centre: Tensor
    total: Tensor

    def __init__(self, recipe: DinoRecipe, registers: int, schedules: DistillationSchedules) -> None:
        super().__init__()
        self.recipe, self.schedules = recipe, schedules
        self.student = Student(recipe, registers)
        self.teacher = Branch(recipe.model_copy(update={"drop_path": 0.0}), registers).requires_grad_(False)
        self.teacher.load_state_dict(self.student.state_dict())
        self.register_buffer("centre", torch.zeros(recipe.projection.prototypes))
        # The teacher's logits of a step, added up; nothing is left of it where a checkpoint is written.
        self.register_buffer("total", torch.zeros(recipe.projection.prototypes), persistent=False)

    @property
    def model(self) -> nn.Module:
        """See :class:`Objective`."""
        return self.teacher.backbone

    @property
    def trained(self) -> nn.Module:
        """See :class:`Objective`."""
        return self.student

    def optimizer(self) -> torch.optim.Optimizer:
        """AdamW; no decay of biases and norms, nor of [CLS], registers and positions unless the recipe says so."""
        exempt = () if self.recipe.decay_tokens else [f"backbone.{name}" for name in TOKENS]
        groups = param_groups_weight_decay(self.student, self.recipe.weight_decay, no_weight_decay_list=exempt)
        return torch.optim.AdamW(groups, lr=self.recipe.lr, betas=self.recipe.betas, fused=True)

    def loss(self, global_crops: Tensor, local_crops: Tensor, step: int) -> Tensor:
        """Of global crops (2, n, 3, s, s) and local crops (l, n, 3, t, t)."""
        with torch.no_grad():
            teacher_logits = self.teacher(global_crops)
            self.total += teacher_logits.sum((0, 1))
            teacher_logits = (teacher_logits - self.centre) / self.schedules.teacher_temperature(step)
        student_logits = self.student.crops(global_crops, local_crops) / self.recipe.student_temperature
        with torch.autocast(global_crops.device.type, enabled=False):
            return cross_entropy(student_logits, teacher_logits)

    def before_update(self, optimizer: torch.optim.Optimizer, step: int) -> None:
        """Decay of this step; gradients clipped; none for prototypes that are frozen."""
        _, decayed = optimizer.param_groups  # timm has them in this order
        decayed["weight_decay"] = self.schedules.weight_decay(step)
        parameters = [p for p in self.student.parameters() if p.grad is not None]
        for together in [parameters] if self.recipe.clip == "whole" else [[p] for p in parameters]:
            nn.utils.clip_grad_norm_(together, self.recipe.clip_norm)
        if self.schedules.prototypes_frozen(step):
            for prototypes in self.student.head.prototypes.parameters():
                prototypes.grad = None

    @torch.no_grad()
    def after_update(self, processes: Processes, step: int) -> None:
        """The centre moves by the teacher's mean output over all micro-batches, the teacher then by the student."""
        outputs = 2 * self.recipe.batch_size * self.recipe.micro_batches
        self.centre.lerp_(processes.all_reduce(self.total) / outputs, 1.0 - self.recipe.teacher.centre_momentum)
        self.total.zero_()
        follow = get_ema_multi_avg_fn(self.schedules.teacher_momentum(step))
        follow(list(self.teacher.parameters()), list(self.student.parameters()), None)
