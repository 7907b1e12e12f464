"""Heads trained together against heads trained one by one with torch.optim.AdamW."""

import pytest
import torch
from torch import nn

from vit_registers.experiments.classification import linear_probe
from vit_registers.experiments.classification.params import Probe

N, M, D, CLASSES, CONDITIONS, SEEDS = 45, 20, 6, 4, 3, 2  # 45 images in batches of 8: the last batch of an epoch has 5


def settings(**changes):
    values = {"features": ["cls"], "seeds": [0, 1], "lr": 0.05, "final_lr": 1e-3, "weight_decay": 0.1, "epochs": 8}
    return Probe(**{**values, "batch_size": 8, "clip_norm": 1.0, "validation_share": 0.2, **changes})


class Problem:
    """Features of three conditions of different scale, so that clipping acts on some heads and not on others."""

    def __init__(self, seed=0):
        draw = torch.Generator().manual_seed(seed)
        scale = torch.tensor([0.1, 1.0, 30.0])[:, None, None]
        self.x = torch.randn(CONDITIONS, N, D, generator=draw) * scale
        self.validation = torch.randn(CONDITIONS, M, D, generator=draw) * scale
        self.y = torch.randint(CLASSES, (N,), generator=draw)
        self.validation_y = torch.randint(CLASSES, (M,), generator=draw)
        starts = [linear_probe.initial(D, CLASSES, draw) for _ in range(SEEDS)]
        self.start = (torch.stack([w for w, _ in starts]), torch.stack([b for _, b in starts]))
        self.orders = torch.stack(
            [torch.stack([torch.randperm(N, generator=draw) for _ in range(8)]) for _ in range(SEEDS)]
        )

    def together(self, cfg):
        return linear_probe.train(self.x, self.y, self.validation, self.validation_y, self.start, self.orders, cfg)

    def alone(self, condition, seed, cfg):
        """Weight, bias and losses of one head, and the gradient norms that it met."""
        head = nn.Linear(D, CLASSES)
        with torch.no_grad():
            head.weight.copy_(self.start[0][seed].T)
            head.bias.copy_(self.start[1][seed])
        optimizer = torch.optim.AdamW(head.parameters(), lr=cfg.lr, weight_decay=cfg.weight_decay)
        steps = cfg.epochs * -(-N // cfg.batch_size)
        by_epoch = cfg.lr_changes == "epoch"
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(
            optimizer, cfg.epochs if by_epoch else steps, cfg.final_lr
        )
        best, losses, norms = None, [], []
        for epoch in range(cfg.epochs):
            order = self.orders[seed, epoch]
            for at in range(0, N, cfg.batch_size):
                batch = order[at : at + cfg.batch_size]
                optimizer.zero_grad()
                nn.functional.cross_entropy(head(self.x[condition, batch]), self.y[batch]).backward()
                norms.append(float(nn.utils.clip_grad_norm_(head.parameters(), cfg.clip_norm)))
                optimizer.step()
                if not by_epoch:
                    schedule.step()
            if by_epoch:
                schedule.step()
            with torch.no_grad():
                losses.append(float(nn.functional.cross_entropy(head(self.validation[condition]), self.validation_y)))
            if losses[-1] == min(losses):
                best = [p.detach().clone() for p in head.parameters()]
        return *best, losses, norms


@pytest.mark.parametrize(
    "changes",
    [{}, {"batch_size": 45}, {"weight_decay": 0.0, "clip_norm": 0.2}, {"epochs": 1}, {"lr_changes": "epoch"}],
)
def test_heads_trained_together_are_heads_trained_one_by_one(changes):
    problem, cfg = Problem(), settings(**changes)
    trained = problem.together(cfg)
    assert trained.losses.shape == (CONDITIONS, SEEDS, cfg.epochs)
    clipped = []
    for condition in range(CONDITIONS):
        for seed in range(SEEDS):
            weight, bias, losses, norms = problem.alone(condition, seed, cfg)
            torch.testing.assert_close(trained.losses[condition, seed], torch.tensor(losses), atol=1e-5, rtol=1e-5)
            torch.testing.assert_close(trained.parameters[condition, seed, :D], weight.T, atol=1e-4, rtol=1e-4)
            torch.testing.assert_close(trained.parameters[condition, seed, D], bias, atol=1e-4, rtol=1e-4)
            clipped.append(max(norms) > cfg.clip_norm)
    assert any(clipped)


def test_some_heads_are_clipped_and_others_are_not():
    problem, cfg = Problem(), settings()
    norms = [max(problem.alone(condition, 0, cfg)[3]) for condition in (0, 2)]
    assert norms[0] < cfg.clip_norm < norms[1]


def test_the_best_epoch_is_kept_and_not_the_last():
    problem, cfg = Problem(), settings()
    trained = problem.together(cfg)
    scores = trained.logits(problem.validation)
    losses = linear_probe.cross_entropy(scores, problem.validation_y)
    torch.testing.assert_close(losses, trained.losses.min(dim=2).values, atol=1e-5, rtol=1e-5)
    assert (trained.losses.argmin(dim=2) < cfg.epochs - 1).any()


def test_scores_are_those_of_a_linear_layer():
    problem = Problem()
    trained = problem.together(settings(epochs=1))
    scores = trained.logits(problem.validation)
    for condition in range(CONDITIONS):
        for seed in range(SEEDS):
            head = trained.parameters[condition, seed]
            torch.testing.assert_close(scores[condition, seed], problem.validation[condition] @ head[:D] + head[D])


def test_arms_with_the_same_features_end_in_the_same_heads():
    problem = Problem()
    problem.x, problem.validation = problem.x[[1, 0, 1]], problem.validation[[1, 0, 1]]
    trained = problem.together(settings())
    assert torch.equal(trained.parameters[0], trained.parameters[2])
    assert not torch.equal(trained.parameters[0], trained.parameters[1])
    assert not torch.equal(trained.parameters[0, 0], trained.parameters[0, 1])  # seeds differ


def test_training_leaves_its_start_alone():
    problem = Problem()
    before = [part.clone() for part in problem.start]
    problem.together(settings())
    assert all(torch.equal(a, b) for a, b in zip(before, problem.start, strict=True))


def test_initial_weights_are_uniform_as_those_of_a_linear_layer():
    weight, bias = linear_probe.initial(64, 500, torch.Generator().manual_seed(0))
    assert weight.shape == (64, 500)
    assert bias.shape == (500,)
    for drawn in (weight, bias):
        assert float(drawn.abs().max()) <= 1 / 8
        assert float(drawn.abs().max()) > 0.99 / 8
    assert float(weight.std()) == pytest.approx((1 / 8) / 3**0.5, rel=0.02)
    again = linear_probe.initial(64, 500, torch.Generator().manual_seed(0))
    assert torch.equal(weight, again[0])
    assert float(nn.Linear(64, 500).weight.detach().abs().max()) == pytest.approx(1 / 8, rel=0.01)
