"""DINOv2's linear evaluation: heads for many inputs and learning rates at once, one chosen where nothing is reported.

Inputs are [CLS] of the last block or blocks after the final norm, with and without the mean patch; every input has a
head per learning rate. All conditions of a model train side by side from the same weights and see the same batches.
The winner of a condition is chosen on images held out from training; DINOv2's code chooses on those that it reports.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vit_registers.core.schedules import cosine
from vit_registers.experiments.classification.linear_probe import logits_of, with_ones
from vit_registers.params import LinearEvaluation

MOMENTUM = 0.9
REFERENCE_BATCH = 256  # learning rates are for batches of this size
INITIAL_SD = 0.01


@dataclass(frozen=True)
class Winner:
    """One condition's head: input, learning rate, accuracy where it was chosen, and test scores (m, classes)."""

    input: str
    lr: float
    accuracy: float
    scores: Tensor


def train(features: Tensor, labels: Tensor, start: Tensor, orders: Tensor, cfg: LinearEvaluation) -> Tensor:
    """Parameters (arms, rates, d + 1, classes) of heads of one input, a head for every arm and learning rate.

    ``features`` (arms, n, d), ``labels`` (n,), ``start`` (d, classes) the same for all heads, biases 0; ``orders``
    (epochs, n) of the images. Cross-entropy, SGD with momentum, no decay, cosine to 0 over all steps. A last channel of
    ones stands for the bias.
    """
    x = with_ones(features)
    arms, n, width = x.shape
    classes = start.shape[1]
    rates = torch.tensor(cfg.learning_rates) * cfg.batch_size / REFERENCE_BATCH
    parameters = torch.cat([start, start.new_zeros(1, classes)]).repeat(arms, len(rates), 1, 1)
    velocity, one_hot = torch.zeros_like(parameters), torch.eye(classes)[labels]
    steps, step = cfg.epochs * -(-n // cfg.batch_size), 0
    for order in orders:
        for batch in order.split(cfg.batch_size):
            seen = x[:, batch]  # (arms, b, d + 1)
            error = logits_of(seen, parameters).softmax(3) - one_hot[batch]  # (arms, rates, b, classes)
            together = error.transpose(1, 2).reshape(arms, len(batch), -1) / len(batch)
            gradient = torch.bmm(seen.transpose(1, 2), together).view(arms, width, len(rates), classes).transpose(1, 2)
            velocity = MOMENTUM * velocity + gradient
            now = rates * cosine(1.0, 0.0, step, steps)
            parameters = parameters - now[:, None, None] * velocity
            step += 1
    return parameters


def choose(
    inputs: dict[str, Tensor],
    labels: Tensor,
    parts: Sequence[Tensor],
    seeds: dict[str, torch.Generator],
    classes: int,
    cfg: LinearEvaluation,
) -> list[Winner]:
    """The winner of every arm.

    ``inputs`` by name (arms, n, d), ``labels`` (n,); ``parts`` are the rows of training, held-out and test images;
    ``seeds`` draw each input's start and orders.
    """
    training, held, test = parts
    best: list[Winner | None] = [None] * len(next(iter(inputs.values())))
    for name, x in inputs.items():
        start = INITIAL_SD * torch.randn(x.shape[2], classes, generator=seeds[name])
        orders = torch.stack([torch.randperm(len(training), generator=seeds[name]) for _ in range(cfg.epochs)])
        parameters = train(x[:, training], labels[training], start, orders, cfg)
        chosen_on = logits_of(with_ones(x[:, held]), parameters)  # (arms, rates, held, classes)
        accuracy = (chosen_on.argmax(3) == labels[held]).double().mean(2)
        scores = logits_of(with_ones(x[:, test]), parameters)
        for arm, of_arm in enumerate(accuracy):
            rate = int(of_arm.argmax())  # the lower learning rate where two are equal
            found = Winner(name, cfg.learning_rates[rate], float(of_arm[rate]), scores[arm, rate])
            before = best[arm]
            if before is None or found.accuracy > before.accuracy:
                best[arm] = found
    return [winner for winner in best if winner is not None]
