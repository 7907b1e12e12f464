"""Sixty linear heads trained together against one by one, and against scikit-learn on the same features.

    python -m benchmarks.probes

Five conditions of four features each would be as many: here 20 arms of 3 seeds, 3,200 training and 800 validation
images of 128 channels and 10 classes, as in the embedded study. Losses of both ways are compared before time is.
"""

import argparse
from collections.abc import Callable
from typing import Any

import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn

from benchmarks.pairs import compare
from vit_registers.experiments.classification import linear_probe as heads
from vit_registers.experiments.classification.params import Probe

IMAGES, HELD, WIDTH, CLASSES, ARMS, SEEDS = 3200, 800, 128, 10, 20, 3


class Problem:
    """Features of every arm, the same labels, and for every seed its start and its order of images."""

    def __init__(self, epochs: int) -> None:
        """``epochs``: the study trains 50; a ratio does not need them all."""
        draw = torch.Generator().manual_seed(0)
        self.cfg = Probe(
            features=["cls"],
            seeds=list(range(SEEDS)),
            lr=1e-3,
            final_lr=1e-4,
            weight_decay=0.05,
            epochs=epochs,
            batch_size=32,
            clip_norm=1.0,
            validation_share=0.2,
        )
        centres = torch.randn(CLASSES, WIDTH, generator=draw)
        self.y = torch.randint(CLASSES, (IMAGES + HELD,), generator=draw)
        self.x = centres[self.y] + 4.0 * torch.randn(ARMS, IMAGES + HELD, WIDTH, generator=draw)
        starts = [heads.initial(WIDTH, CLASSES, draw) for _ in range(SEEDS)]
        self.start = torch.stack([w for w, _ in starts]), torch.stack([b for _, b in starts])
        order = [[torch.randperm(IMAGES, generator=draw) for _ in range(epochs)] for _ in range(SEEDS)]
        self.orders = torch.stack([torch.stack(of_seed) for of_seed in order])

    def together(self) -> Tensor:
        """Validation losses (arms, seeds, epochs) of all heads as one batch."""
        train, held = self.x[:, :IMAGES], self.x[:, IMAGES:]
        labels = self.y[:IMAGES], self.y[IMAGES:]
        return heads.train(train, labels[0], held, labels[1], self.start, self.orders, self.cfg).losses

    def one_by_one(self, arms: int = ARMS) -> Tensor:
        """The same losses, a head at a time in a loop over batches with torch.optim.AdamW, as probes are written."""
        losses = torch.empty(arms, SEEDS, self.cfg.epochs)
        for arm in range(arms):
            for seed in range(SEEDS):
                losses[arm, seed] = self._alone(arm, seed)
        return losses

    def _alone(self, arm: int, seed: int) -> Tensor:
        cfg, x = self.cfg, self.x[arm]
        head = nn.Linear(WIDTH, CLASSES)
        with torch.no_grad():
            head.weight.copy_(self.start[0][seed].T)
            head.bias.copy_(self.start[1][seed])
        optimizer = torch.optim.AdamW(head.parameters(), lr=cfg.lr, weight_decay=cfg.weight_decay)
        steps = cfg.epochs * -(-IMAGES // cfg.batch_size)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps, cfg.final_lr)
        losses = []
        for order in self.orders[seed]:
            for batch in order.split(cfg.batch_size):
                optimizer.zero_grad()
                nn.functional.cross_entropy(head(x[batch]), self.y[batch]).backward()
                nn.utils.clip_grad_norm_(head.parameters(), cfg.clip_norm)
                optimizer.step()
                schedule.step()
            with torch.no_grad():
                losses.append(nn.functional.cross_entropy(head(x[IMAGES:]), self.y[IMAGES:]))
        return torch.stack(losses)

    def scikit(self) -> list[Any]:
        """One L2-regularised logistic regression per arm, to its optimum: another estimator, the usual stand-in."""
        y = self.y[:IMAGES].numpy()
        return [LogisticRegression(max_iter=1000).fit(x[:IMAGES].numpy(), y) for x in self.x]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=5)
    options = parser.parse_args()
    problem = Problem(options.epochs)
    error = float((problem.together() - problem.one_by_one()).abs().max())
    print(
        f"{torch.get_num_threads()} threads, torch {torch.__version__}; "
        f"{options.rounds} rounds of {options.epochs} epochs"
    )
    print(f"{ARMS * SEEDS} heads; largest difference of a validation loss between the two ways: {error:.1e}\n")
    others: dict[str, Callable[[], object]] = {
        "one by one": problem.one_by_one,
        f"scikit-learn ({ARMS} fits, to the optimum)": problem.scikit,
    }
    reference, timings = compare(problem.together, others, options.rounds)
    print("| way | seconds | time / together (quartiles) |\n| --- | --- | --- |")
    print(f"| together | {reference:.2f} | 1 |")
    for name, timing in timings.items():
        print(f"| {name} | {timing.seconds:.2f} | {timing.ratio:.1f} ({timing.low:.1f} to {timing.high:.1f}) |")


if __name__ == "__main__":
    main()
