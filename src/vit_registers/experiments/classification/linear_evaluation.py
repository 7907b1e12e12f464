"""DINOv2's linear evaluation: heads for many inputs and learning rates at once, one chosen where nothing is reported.

Inputs are [CLS] of the last block or blocks after the final norm, with and without the mean patch (oquab2024); every
input has a head per learning rate. All conditions of a model train side by side from the same weights and see the same
batches. The winner of a condition is chosen on images held out from training; DINOv2's code chooses on those that it
reports.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vit_registers.core.schedules import cosine
from vit_registers.experiments.classification.linear_probe import logits_of, with_ones
from vit_registers.experiments.classification.params import LinearEvaluation

MOMENTUM = 0.9
REFERENCE_BATCH = 256  # learning rates are for batches of this size
INITIAL_SD = 0.01


@dataclass(frozen=True)
class Input:
    """What a head reads: [CLS] of the last ``blocks`` blocks side by side, and the mean patch beside it or not."""

    blocks: int
    with_mean_patch: bool

    @property
    def name(self) -> str:
        """In words, by which its random draws are named."""
        cls = "[CLS]" if self.blocks == 1 else f"[CLS] of {self.blocks} blocks"
        return f"{cls} with mean patch" if self.with_mean_patch else cls


@dataclass(frozen=True)
class Winner:
    """One condition's head: input, learning rate, accuracy where it was chosen, and test scores (m, classes)."""

    input: Input
    lr: float
    accuracy: float
    scores: Tensor


def train(features: Tensor, labels: Tensor, start: Tensor, orders: Tensor, cfg: LinearEvaluation) -> Tensor:
    """Parameters (conditions, rates, d + 1, classes) of heads of one input, one for every condition and learning rate.

    ``features`` (conditions, n, d), ``labels`` (n,), ``start`` (d, classes) the same for all heads, biases 0;
    ``orders`` (epochs, n) of the images. Cross-entropy, SGD with momentum, no decay, cosine to 0 over all steps. A last
    channel of ones stands for the bias.
    """
    x = with_ones(features)
    conditions, n, width = x.shape
    classes = start.shape[1]
    rates = torch.tensor(cfg.learning_rates) * cfg.batch_size / REFERENCE_BATCH
    parameters = torch.cat([start, start.new_zeros(1, classes)]).repeat(conditions, len(rates), 1, 1)
    velocity, one_hot = torch.zeros_like(parameters), torch.eye(classes)[labels]
    steps, step = cfg.epochs * -(-n // cfg.batch_size), 0
    for order in orders:
        for batch in order.split(cfg.batch_size):
            of_batch = x[:, batch]  # (conditions, b, d + 1)
            error = logits_of(of_batch, parameters).softmax(3) - one_hot[batch]  # (conditions, rates, b, classes)
            together = error.transpose(1, 2).reshape(conditions, len(batch), -1) / len(batch)
            gradient = torch.bmm(of_batch.transpose(1, 2), together).view(conditions, width, len(rates), classes)
            gradient = gradient.transpose(1, 2)
            velocity = MOMENTUM * velocity + gradient
            now = rates * cosine(1.0, 0.0, step, steps)
            parameters = parameters - now[:, None, None] * velocity
            step += 1
    return parameters


def choose(
    inputs: Mapping[Input, Tensor],
    labels: Tensor,
    parts: Sequence[Tensor],
    draws: Mapping[Input, torch.Generator],
    classes: int,
    cfg: LinearEvaluation,
) -> list[Winner]:
    """The winner of every condition: of inputs and learning rates that are equally good the first.

    ``inputs`` (conditions, n, d) each, ``labels`` (n,); ``parts`` are the rows of training, held-out and test images;
    ``draws`` give each input's start and orders.
    """
    training, held_out, test = parts
    best: list[Winner | None] = [None] * len(next(iter(inputs.values())))
    for one, x in inputs.items():
        start = INITIAL_SD * torch.randn(x.shape[2], classes, generator=draws[one])
        orders = torch.stack([torch.randperm(len(training), generator=draws[one]) for _ in range(cfg.epochs)])
        parameters = train(x[:, training], labels[training], start, orders, cfg)
        chosen_on = logits_of(with_ones(x[:, held_out]), parameters)  # (conditions, rates, held out, classes)
        accuracy = (chosen_on.argmax(3) == labels[held_out]).double().mean(2)
        scores = logits_of(with_ones(x[:, test]), parameters)
        for condition, by_rate in enumerate(accuracy):
            rate = int(by_rate.argmax())
            found = Winner(one, cfg.learning_rates[rate], float(by_rate[rate]), scores[condition, rate])
            before = best[condition]
            if before is None or found.accuracy > before.accuracy:
                best[condition] = found
    return [winner for winner in best if winner is not None]
