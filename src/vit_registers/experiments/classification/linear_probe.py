"""Many linear heads trained together: one batched product per step instead of a loop over conditions and seeds.

The linear probe of kukade2025: one linear layer on features as they are (no standardisation), cross-entropy, AdamW,
cosine from ``lr`` to ``final_lr`` over all steps or epochs, gradient norm clipped head by head, and the epoch of lowest
validation loss kept. Every condition has a head per seed; the heads of one seed start from the same weights and see the
same batches. A head's result is what it would be if trained alone.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from vit_registers.core.schedules import cosine
from vit_registers.experiments.classification.params import Probe

BETAS = (0.9, 0.999)
EPSILON = 1e-8


@dataclass(frozen=True)
class Heads:
    """Trained heads: ``parameters`` (conditions, seeds, d + 1, classes), the last row of each its bias, and ``losses``
    (conditions, seeds, epochs) on the validation images.
    """

    parameters: Tensor
    losses: Tensor

    def logits(self, features: Tensor) -> Tensor:
        """Scores (conditions, seeds, n, classes) of features (conditions, n, d)."""
        return logits_of(with_ones(features), self.parameters)

    def frozen(self, condition: int, count: int) -> "Heads":
        """The heads of one condition for ``count`` conditions: fitted to its features, tried on those of all."""
        parameters, losses = self.parameters[condition], self.losses[condition]
        return Heads(parameters.expand(count, *parameters.shape), losses.expand(count, *losses.shape))


def initial(width: int, classes: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Weight (d, classes) and bias (classes,) as ``torch.nn.Linear`` draws them, from a generator of one's own."""
    bound = 1.0 / math.sqrt(width)
    weight = (torch.rand(classes, width, generator=generator) * 2 - 1) * bound
    return weight.T.contiguous(), (torch.rand(classes, generator=generator) * 2 - 1) * bound


def with_ones(features: Tensor) -> Tensor:
    """Features (conditions, n, d) with a last channel of ones, which the bias multiplies."""
    return torch.cat([features, features.new_ones(*features.shape[:2], 1)], dim=2)


def logits_of(features: Tensor, parameters: Tensor) -> Tensor:
    """Scores (conditions, heads, n, classes) of features (conditions, n, d + 1) by the heads of each condition.

    ``parameters`` (conditions, heads, d + 1, classes): the features are read once for all heads.
    """
    conditions, heads, width, classes = parameters.shape
    side_by_side = parameters.transpose(1, 2).reshape(conditions, width, heads * classes)
    return torch.bmm(features, side_by_side).view(conditions, -1, heads, classes).transpose(1, 2)


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy of each head: (conditions, seeds, n, classes), (n,) -> (conditions, seeds)."""
    picked = logits.gather(3, labels.expand(logits.shape[:3])[..., None])[..., 0]
    return (logits.logsumexp(3) - picked).mean(2)


def train(
    features: Tensor,
    labels: Tensor,
    validation: Tensor,
    validation_labels: Tensor,
    start: tuple[Tensor, Tensor],
    orders: Tensor,
    cfg: Probe,
) -> Heads:
    """Train a head for every condition and seed.

    ``features`` (conditions, n, d), ``labels`` (n,), ``validation`` (conditions, m, d) and its labels (m,); by seed,
    the same for all conditions: ``start`` weights (seeds, d, classes) and biases (seeds, classes), and ``orders``
    (seeds, epochs, n) of the images in each epoch. Gradients are written out: softmax minus one-hot, averaged over the
    batch.
    """
    features, validation = with_ones(features), with_ones(validation)
    conditions, n, width = features.shape
    seeds, classes = start[1].shape
    parameters = torch.cat([start[0], start[1][:, None]], dim=1).repeat(conditions, 1, 1)  # a row per head
    one_hot = torch.eye(classes)[labels]
    first, second = torch.zeros_like(parameters), torch.zeros_like(parameters)
    best, best_loss = parameters.clone(), torch.full((conditions, seeds), torch.inf)
    losses = torch.empty(conditions, seeds, cfg.epochs)
    steps = -(-n // cfg.batch_size) * cfg.epochs
    step = 0
    for epoch in range(cfg.epochs):
        for batch in orders[:, epoch].split(cfg.batch_size, dim=1):  # (seeds, b)
            x = features[:, batch].view(conditions * seeds, -1, width)
            error = torch.bmm(x, parameters).softmax(2).view(conditions, seeds, -1, classes) - one_hot[batch]
            gradient = torch.bmm(x.transpose(1, 2), error.view(conditions * seeds, -1, classes) / batch.shape[1])
            norm = gradient.flatten(1).norm(dim=1)
            gradient *= (cfg.clip_norm / (norm + 1e-6)).clamp(max=1.0)[:, None, None]
            now = (step, steps) if cfg.lr_changes == "step" else (epoch, cfg.epochs)
            lr = cosine(cfg.lr, cfg.final_lr, *now)
            step += 1
            parameters *= 1.0 - lr * cfg.weight_decay
            first.lerp_(gradient, 1.0 - BETAS[0])
            second.mul_(BETAS[1]).addcmul_(gradient, gradient, value=1.0 - BETAS[1])
            size = second.sqrt() / math.sqrt(1.0 - BETAS[1] ** step) + EPSILON
            parameters.addcdiv_(first, size, value=-lr / (1.0 - BETAS[0] ** step))
        by_condition = parameters.view(conditions, seeds, width, classes)
        losses[..., epoch] = cross_entropy(logits_of(validation, by_condition), validation_labels)
        better = losses[..., epoch] < best_loss
        best = torch.where(better.view(-1, 1, 1), parameters, best)
        best_loss = torch.minimum(best_loss, losses[..., epoch])
    return Heads(best.view(conditions, seeds, width, classes), losses)
