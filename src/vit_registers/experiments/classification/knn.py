"""Weighted nearest neighbours, as DINOv2 evaluates: cosine of features, votes exp(cosine / temperature)."""

import torch
from torch import Tensor

CHUNK = 512  # test images at a time: similarities are chunk x training images


def scores(train: Tensor, labels: Tensor, test: Tensor, classes: int, k: int, temperature: float) -> Tensor:
    """Shares of the votes (m, classes) for test features (m, d) among training features (n, d) with labels (n,).

    Shares and not sums: images with near neighbours have larger sums for every class, and an area under the ROC curve
    compares images.
    """
    train, test = (torch.nn.functional.normalize(x.float(), dim=1) for x in (train, test))
    k = min(k, len(train))
    votes = []
    for chunk in test.split(CHUNK):
        near = (chunk @ train.T).topk(k, dim=1)
        weights = (near.values / temperature).exp()
        vote = torch.zeros(len(chunk), classes).scatter_add_(1, labels[near.indices], weights)
        votes.append(vote / vote.sum(dim=1, keepdim=True))
    return torch.cat(votes)
