"""Many linear heads trained together: one batched product per step instead of a loop over conditions and seeds.

The linear probe of kukade2025: one linear layer on features as they are (no standardisation), cross-entropy, AdamW,
cosine from ``lr`` to ``final_lr`` over all steps, gradient norm clipped head by head, and the epoch of lowest
validation loss kept. An arm is a set of features; every arm has a head per seed, and the heads of one seed start from
the same weights and see the same batches. A head's result is what it would be if trained alone.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from vit_registers.core.schedules import cosine
from vit_registers.params import Probe

BETAS = (0.9, 0.999)
EPSILON = 1e-8


@dataclass(frozen=True)
class Heads:
    """Trained heads: ``parameters`` (arms, seeds, d + 1, classes), ``losses`` (arms, seeds, epochs) on validation.

    The last row of a head's parameters is its bias.
    """

    parameters: Tensor
    losses: Tensor

    def logits(self, features: Tensor) -> Tensor:
        """Scores (arms, seeds, n, classes) of features (arms, n, d)."""
        return logits_of(with_ones(features), self.parameters)

    def of(self, arm: int) -> "Heads":
        """The heads of one arm in place of those of every arm: fitted to its features, tried on all."""
        return Heads(self.parameters[arm].expand_as(self.parameters), self.losses[arm].expand_as(self.losses))


def initial(width: int, classes: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Weight (d, classes) and bias (classes,) as ``torch.nn.Linear`` draws them, from a generator of one's own."""
    bound = 1.0 / math.sqrt(width)
    weight = (torch.rand(classes, width, generator=generator) * 2 - 1) * bound
    return weight.T.contiguous(), (torch.rand(classes, generator=generator) * 2 - 1) * bound


def with_ones(features: Tensor) -> Tensor:
    """Features (arms, n, d) with a last channel of ones, which the bias multiplies."""
    return torch.cat([features, features.new_ones(*features.shape[:2], 1)], dim=2)


def logits_of(features: Tensor, parameters: Tensor) -> Tensor:
    """(arms, n, d + 1), (arms, seeds, d + 1, classes) -> (arms, seeds, n, classes); features are read once for all."""
    arms, seeds, width, classes = parameters.shape
    side_by_side = parameters.transpose(1, 2).reshape(arms, width, seeds * classes)
    return torch.bmm(features, side_by_side).view(arms, -1, seeds, classes).transpose(1, 2)


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy of each head: (arms, seeds, n, classes), (n,) -> (arms, seeds)."""
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
    """Train a head for every arm and seed.

    ``features`` (arms, n, d), ``labels`` (n,), ``validation`` (arms, m, d) and its labels (m,); by seed, the same for
    all arms: ``start`` weights (seeds, d, classes) and biases (seeds, classes), and ``orders`` (seeds, epochs, n) of
    the images in each epoch. Gradients are written out: softmax minus one-hot, averaged over the batch.
    """
    features, validation = with_ones(features), with_ones(validation)
    arms, n, width = features.shape
    seeds, classes = start[1].shape
    parameters = torch.cat([start[0], start[1][:, None]], dim=1).repeat(arms, 1, 1)  # (arms * seeds, d + 1, classes)
    one_hot = torch.eye(classes)[labels]
    first, second = torch.zeros_like(parameters), torch.zeros_like(parameters)
    best, best_loss = parameters.clone(), torch.full((arms, seeds), torch.inf)
    losses = torch.empty(arms, seeds, cfg.epochs)
    steps = -(-n // cfg.batch_size) * cfg.epochs
    step = 0
    for epoch in range(cfg.epochs):
        for batch in orders[:, epoch].split(cfg.batch_size, dim=1):  # (seeds, b)
            x = features[:, batch].view(arms * seeds, -1, width)
            error = torch.bmm(x, parameters).softmax(2).view(arms, seeds, -1, classes) - one_hot[batch]
            gradient = torch.bmm(x.transpose(1, 2), error.view(arms * seeds, -1, classes) / batch.shape[1])
            norm = gradient.flatten(1).norm(dim=1)
            gradient *= (cfg.clip_norm / (norm + 1e-6)).clamp(max=1.0)[:, None, None]
            lr = cosine(cfg.lr, cfg.final_lr, step, steps)
            step += 1
            parameters *= 1.0 - lr * cfg.weight_decay
            first.lerp_(gradient, 1.0 - BETAS[0])
            second.mul_(BETAS[1]).addcmul_(gradient, gradient, value=1.0 - BETAS[1])
            size = second.sqrt() / math.sqrt(1.0 - BETAS[1] ** step) + EPSILON
            parameters.addcdiv_(first, size, value=-lr / (1.0 - BETAS[0] ** step))
        by_arm = parameters.view(arms, seeds, width, classes)
        losses[..., epoch] = cross_entropy(logits_of(validation, by_arm), validation_labels)
        better = losses[..., epoch] < best_loss
        best = torch.where(better.view(-1, 1, 1), parameters, best)
        best_loss = torch.minimum(best_loss, losses[..., epoch])
    return Heads(best.view(arms, seeds, width, classes), losses)
