"""Many linear heads trained together: one batched product per step instead of a loop over conditions and seeds.

The linear probe of kukade2025: one linear layer on features as they are (no standardisation), cross-entropy, AdamW,
cosine from ``lr`` to ``final_lr`` over all epochs, gradient norm clipped head by head, and the epoch of lowest
validation loss kept. Heads of one batch share batch order; a head's result is what it would be if trained alone.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from vit_registers.params import Probe

BETAS = (0.9, 0.999)
EPSILON = 1e-8


@dataclass(frozen=True)
class Heads:
    """``weight`` (heads, d, classes), ``bias`` (heads, classes), validation ``losses`` (heads, epochs)."""

    weight: Tensor
    bias: Tensor
    losses: Tensor

    def logits(self, features: Tensor) -> Tensor:
        """Scores (heads, n, classes) of features (heads, n, d)."""
        return torch.baddbmm(self.bias[:, None], features, self.weight)


def initial(width: int, classes: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Weight (d, classes) and bias (classes,) as ``torch.nn.Linear`` draws them, from a generator of one's own."""
    bound = 1.0 / math.sqrt(width)
    weight = (torch.rand(classes, width, generator=generator) * 2 - 1) * bound
    return weight.T.contiguous(), (torch.rand(classes, generator=generator) * 2 - 1) * bound


def cosine(step: int, steps: int, first: float, last: float) -> float:
    """Learning rate of a step: cosine from ``first`` to ``last``."""
    return last + 0.5 * (first - last) * (1.0 + math.cos(math.pi * step / steps))


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy of each head: (heads, n, classes), (heads, n) -> (heads,)."""
    picked = logits.gather(2, labels[..., None])[..., 0]
    return (logits.logsumexp(2) - picked).mean(1)


def train(
    features: Tensor,
    labels: Tensor,
    validation: Tensor,
    validation_labels: Tensor,
    start: tuple[Tensor, Tensor],
    orders: Tensor,
    cfg: Probe,
) -> Heads:
    """Train all heads.

    ``features`` (heads, n, d), ``labels`` (n,), ``validation`` (heads, m, d) and its labels (m,); ``start`` weights
    (heads, d, classes) and biases (heads, classes); ``orders`` (heads, epochs, n): each head's order of images in each
    epoch, so that arms of a comparison can share it. Gradients are written out: softmax minus one-hot, averaged.
    """
    heads, n, width = features.shape
    weight, bias = start[0].clone(), start[1].clone()
    classes = bias.shape[1]
    parameters = torch.cat([weight, bias[:, None]], dim=1)  # (heads, d + 1, classes): the bias is one more row
    features = torch.cat([features, features.new_ones(heads, n, 1)], dim=2)
    validation = torch.cat([validation, validation.new_ones(heads, validation.shape[1], 1)], dim=2)
    labels_of = validation_labels.expand(heads, -1)
    one_hot = torch.eye(classes)
    first, second = torch.zeros_like(parameters), torch.zeros_like(parameters)
    best, best_loss = parameters.clone(), torch.full((heads,), torch.inf)
    losses = torch.empty(heads, cfg.epochs)
    rows = torch.arange(heads)[:, None]
    per_epoch = -(-n // cfg.batch_size)
    steps = per_epoch * cfg.epochs
    step = 0
    for epoch in range(cfg.epochs):
        for batch in orders[:, epoch].split(cfg.batch_size, dim=1):  # (heads, b)
            x = features[rows, batch]
            error = (torch.bmm(x, parameters).softmax(2) - one_hot[labels[batch]]) / batch.shape[1]
            gradient = torch.bmm(x.transpose(1, 2), error)
            norm = gradient.flatten(1).norm(dim=1)
            gradient *= (cfg.clip_norm / (norm + 1e-6)).clamp(max=1.0)[:, None, None]
            lr = cosine(step, steps, cfg.lr, cfg.final_lr)
            step += 1
            parameters *= 1.0 - lr * cfg.weight_decay
            first.lerp_(gradient, 1.0 - BETAS[0])
            second.mul_(BETAS[1]).addcmul_(gradient, gradient, value=1.0 - BETAS[1])
            size = second.sqrt() / math.sqrt(1.0 - BETAS[1] ** step) + EPSILON
            parameters.addcdiv_(first, size, value=-lr / (1.0 - BETAS[0] ** step))
        losses[:, epoch] = cross_entropy(torch.bmm(validation, parameters), labels_of)
        better = losses[:, epoch] < best_loss
        best = torch.where(better[:, None, None], parameters, best)
        best_loss = torch.minimum(best_loss, losses[:, epoch])
    return Heads(best[:, :width], best[:, width], losses)
