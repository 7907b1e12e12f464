"""Weighted nearest neighbours, as DINOv2 evaluates: cosine of features, votes exp(cosine / temperature)."""

import torch
from torch import Tensor

CHUNK = 512  # test images at a time: similarities are chunk x training images


def scores(train: Tensor, labels: Tensor, test: Tensor, classes: int, k: int, temperature: float) -> Tensor:
    """Class votes (m, classes) of test features (m, d) among training features (n, d) with labels (n,)."""
    train, test = (torch.nn.functional.normalize(x.float(), dim=1) for x in (train, test))
    k = min(k, len(train))
    votes = []
    for chunk in test.split(CHUNK):
        near = (chunk @ train.T).topk(k, dim=1)
        weights = (near.values / temperature).exp()
        vote = torch.zeros(len(chunk), classes)
        votes.append(vote.scatter_add_(1, labels[near.indices], weights))
    return torch.cat(votes)
