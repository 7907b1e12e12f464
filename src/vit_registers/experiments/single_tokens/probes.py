"""Probes of single tokens: of the position of a patch, and of its pixels."""

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from torch import Tensor, nn

from vit_registers.core.numerics.linalg import ridge
from vit_registers.experiments.single_tokens.params import SingleTokens

RIDGE = 1e-3  # of the mean squared feature: so small that it only settles what the tokens leave open
SHRINKAGE = 1e-6  # of the covariance within positions, for the same reason

Labels = NDArray[Any]


def positions(train: Tensor, labels: Labels, test: Tensor) -> Labels:
    """Patch index that a linear classifier reads from each token: train (n, d), labels (n,), test (..., d).

    The classifier is linear discriminant analysis, which has a closed form: the maximum likelihood of Gaussian tokens
    whose covariance is the same at all positions. On these models it reaches what logistic regression reaches after
    hundreds of iterations over all tokens.
    """
    known = np.unique(labels)
    if len(known) == 1:  # one position is no choice
        return np.full(test.shape[:-1], known[0])
    classifier = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=SHRINKAGE)
    classifier.fit(train.numpy(), labels)
    predicted: Labels = classifier.predict(test.flatten(0, -2).numpy())
    return predicted.reshape(test.shape[:-1])


def linear_pixels(train: Tensor, targets: Tensor, test: Tensor) -> Tensor:
    """Pixels (..., k) by least squares: train (n, d), its targets (n, k), test (..., d) (darcet2024)."""
    ones = lambda x: torch.cat([x, torch.ones_like(x[..., :1])], dim=-1).double()  # noqa: E731
    x, y = ones(train), targets.double()
    return (ones(test) @ ridge(x.T @ x, x.T @ y, RIDGE, constant=True)).float()


def mlp_pixels(train: Tensor, targets: Tensor, test: Tensor, cfg: SingleTokens, draw: torch.Generator) -> Tensor:
    """The same by an MLP of one hidden layer (bach2025), by AdamW at a rate that falls to zero by a cosine."""
    module = nn.Sequential(nn.Linear(train.shape[-1], cfg.hidden), nn.GELU(), nn.Linear(cfg.hidden, targets.shape[-1]))
    _initialise(module, draw)
    optimizer = torch.optim.AdamW(module.parameters(), lr=cfg.lr, weight_decay=cfg.weight_decay, fused=True)
    steps = cfg.epochs * math.ceil(len(train) / cfg.batch_size)
    rate = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(cfg.epochs):
        for rows in torch.randperm(len(train), generator=draw).split(cfg.batch_size):
            optimizer.zero_grad()
            nn.functional.mse_loss(module(train[rows]), targets[rows]).backward()
            optimizer.step()
            rate.step()
    with torch.inference_mode():
        pixels: Tensor = module(test)
    return pixels


def _initialise(module: nn.Module, draw: torch.Generator) -> None:
    """Weights as ``torch.nn.Linear`` draws them, from a generator of one's own."""
    with torch.no_grad():
        for layer in (each for each in module.modules() if isinstance(each, nn.Linear)):
            bound = layer.in_features**-0.5
            for parameter in (layer.weight, layer.bias):
                parameter.copy_((torch.rand(parameter.shape, generator=draw) * 2 - 1) * bound)
