"""All heads at once against torch.optim.SGD one head at a time; and the choice of the winner."""

import math

import pytest
import torch
from torch import nn

from vit_registers.experiments.classification import linear_evaluation
from vit_registers.experiments.classification.linear_evaluation import Input
from vit_registers.experiments.classification.params import LinearEvaluation

N, D, CLASSES, CONDITIONS = 50, 5, 3, 2  # batches of 16: the last of an epoch has 2
RATES = [1e-3, 0.05, 1.0]


def settings(**changes):
    return LinearEvaluation(**{"blocks": [1], "learning_rates": RATES, "epochs": 4, "batch_size": 16, **changes})


@pytest.fixture
def problem():
    draw = torch.Generator().manual_seed(0)
    y = torch.randint(CLASSES, (N,), generator=draw)
    x = torch.randn(CONDITIONS, N, D, generator=draw) + torch.randn(CLASSES, D, generator=draw)[y]
    start = 0.01 * torch.randn(D, CLASSES, generator=draw)
    orders = torch.stack([torch.randperm(N, generator=draw) for _ in range(4)])
    return x, y, start, orders


def alone(x, y, start, orders, rate, cfg):
    """One head as DINOv2 trains it: SGD, momentum 0.9, cosine to zero over all steps, the rate scaled by the batch."""
    head = nn.Linear(D, CLASSES)
    with torch.no_grad():
        head.weight.copy_(start.T)
        head.bias.zero_()
    first = rate * cfg.batch_size / 256
    optimizer = torch.optim.SGD(head.parameters(), lr=first, momentum=0.9, weight_decay=0.0)
    steps, step = cfg.epochs * math.ceil(N / cfg.batch_size), 0
    for order in orders:
        for batch in order.split(cfg.batch_size):
            for group in optimizer.param_groups:
                group["lr"] = first * 0.5 * (1 + math.cos(math.pi * step / steps))
            optimizer.zero_grad()
            nn.functional.cross_entropy(head(x[batch]), y[batch]).backward()
            optimizer.step()
            step += 1
    return head


def test_heads_trained_together_are_heads_trained_one_by_one(problem):
    x, y, start, orders = problem
    cfg = settings()
    together = linear_evaluation.train(x, y, start, orders, cfg)
    assert together.shape == (CONDITIONS, len(RATES), D + 1, CLASSES)
    for condition in range(CONDITIONS):
        for number, rate in enumerate(RATES):
            head = alone(x[condition], y, start, orders, rate, cfg)
            torch.testing.assert_close(together[condition, number, :D], head.weight.T, atol=1e-5, rtol=1e-5)
            torch.testing.assert_close(together[condition, number, D], head.bias, atol=1e-5, rtol=1e-5)
            scores = x[condition] @ together[condition, number, :D] + together[condition, number, D]
            loss, expected = (nn.functional.cross_entropy(s, y) for s in (scores, head(x[condition])))
            assert abs(float(loss) - expected.item()) < 1e-5
            assert (scores.argmax(1) == y).double().mean() == (head(x[condition]).argmax(1) == y).double().mean()


def winners(inputs, y, cfg, parts):
    draws = {one: torch.Generator().manual_seed(i) for i, one in enumerate(inputs)}
    return linear_evaluation.choose(inputs, y, parts, draws, CLASSES, cfg)


def test_the_winner_is_the_best_of_all_on_the_held_out_images_and_never_sees_the_test_labels(problem):
    x, y, _, _ = problem
    parts = [torch.arange(0, 30), torch.arange(30, 42), torch.arange(42, 50)]
    inputs, cfg = {Input(4, False): torch.randn(CONDITIONS, N, 2), Input(1, True): x}, settings()
    found = winners(inputs, y, cfg, parts)
    for condition, winner in enumerate(found):
        accuracies = {}
        for i, (name, of_input) in enumerate(inputs.items()):
            draw = torch.Generator().manual_seed(i)
            start = 0.01 * torch.randn(of_input.shape[2], CLASSES, generator=draw)
            orders = torch.stack([torch.randperm(30, generator=draw) for _ in range(cfg.epochs)])
            heads = linear_evaluation.train(of_input[:, parts[0]], y[parts[0]], start, orders, cfg)
            for number, rate in enumerate(RATES):
                width = of_input.shape[2]
                scores = of_input[condition] @ heads[condition, number, :width] + heads[condition, number, width]
                hits = (scores.argmax(1) == y).double()
                accuracies[name, rate] = (float(hits[parts[1]].mean()), scores[parts[2]])
        best = max(accuracy for accuracy, _ in accuracies.values())
        assert winner.accuracy == pytest.approx(best)
        assert accuracies[winner.input, winner.lr][0] == pytest.approx(best)
        torch.testing.assert_close(winner.scores, accuracies[winner.input, winner.lr][1])
    other = y.clone()
    other[parts[2]] = (other[parts[2]] + 1) % CLASSES
    again = winners(inputs, other, cfg, parts)
    assert [(w.input, w.lr) for w in again] == [(w.input, w.lr) for w in found]


def test_a_condition_is_chosen_for_by_itself(problem):
    x, y, _, _ = problem
    parts = [torch.arange(0, 30), torch.arange(30, 42), torch.arange(42, 50)]
    both = winners({Input(1, False): x}, y, settings(), parts)
    first = winners({Input(1, False): x[:1]}, y, settings(), parts)
    assert (first[0].lr, first[0].accuracy) == (both[0].lr, both[0].accuracy)
    torch.testing.assert_close(first[0].scores, both[0].scores)


def test_random_draws_are_named_by_the_input_in_words():
    assert Input(1, False).name == "[CLS]"
    assert Input(4, True).name == "[CLS] of 4 blocks with mean patch"
