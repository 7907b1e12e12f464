"""Probes of single tokens: of the position of a patch, of its pixels, and of the class of its image."""

import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

from vit_registers.core.linalg import ridge
from vit_registers.experiments.single_tokens.params import SingleTokens

RIDGE = 1e-3  # of the mean squared feature: so small that it only settles what the tokens leave open


def _fit(module: nn.Module, x: Tensor, y: Tensor, loss: nn.Module, cfg: SingleTokens, draw: torch.Generator) -> None:
    """AdamW at a constant rate over ``epochs`` of shuffled batches."""
    optimizer = torch.optim.AdamW(module.parameters(), lr=cfg.lr, weight_decay=cfg.weight_decay)
    for _ in range(cfg.epochs):
        for rows in torch.randperm(len(x), generator=draw).split(cfg.batch_size):
            optimizer.zero_grad()
            loss(module(x[rows]), y[rows]).backward()
            optimizer.step()


def _initialised(module: nn.Module, draw: torch.Generator) -> nn.Module:
    """Weights as ``torch.nn.Linear`` draws them, from a generator of one's own."""
    with torch.no_grad():
        for layer in (each for each in module.modules() if isinstance(each, nn.Linear)):
            bound = layer.in_features**-0.5
            for parameter in (layer.weight, layer.bias):
                parameter.copy_((torch.rand(parameter.shape, generator=draw) * 2 - 1) * bound)
    return module


def positions(train: Tensor, test: Tensor, cfg: SingleTokens, draw: torch.Generator) -> Tensor:
    """Patch index (m, p) that a linear classifier reads from each token, of train (n, p, d) and test (m, p, d)."""
    n, patches, width = train.shape
    head = _initialised(nn.Linear(width, patches), draw)
    _fit(head, train.flatten(0, 1), torch.arange(patches).repeat(n), nn.CrossEntropyLoss(), cfg, draw)
    with torch.inference_mode():
        return head(test).argmax(-1)


def linear_pixels(train: Tensor, targets: Tensor, test: Tensor) -> Tensor:
    """Pixels (m, p, k) by least squares: train (n, p, d), its targets (n, p, k), test (m, p, d) (darcet2024)."""
    ones = lambda x: torch.cat([x, torch.ones_like(x[..., :1])], dim=-1).double()  # noqa: E731
    x, y = ones(train.flatten(0, 1)), targets.flatten(0, 1).double()
    return (ones(test) @ ridge(x.T @ x, x.T @ y, RIDGE, constant=True)).float()


def mlp_pixels(train: Tensor, targets: Tensor, test: Tensor, cfg: SingleTokens, draw: torch.Generator) -> Tensor:
    """The same by an MLP of one hidden layer (bach2025)."""
    width, size = train.shape[-1], targets.shape[-1]
    module = _initialised(nn.Sequential(nn.Linear(width, cfg.hidden), nn.GELU(), nn.Linear(cfg.hidden, size)), draw)
    _fit(module, train.flatten(0, 1), targets.flatten(0, 1), nn.MSELoss(), cfg, draw)
    with torch.inference_mode():
        pixels: Tensor = module(test)
    return pixels


def classes(train: NDArray, labels: NDArray, test: NDArray) -> NDArray:  # type: ignore[type-arg]
    """Classes (m,) by logistic regression on standardised tokens: train (n, d), labels (n,), test (m, d)."""
    classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    predicted: NDArray = classifier.fit(train, labels).predict(test)  # type: ignore[type-arg]
    return predicted
