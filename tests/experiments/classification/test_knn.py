import math

import pytest
import torch
from sklearn.metrics import roc_auc_score

from vit_registers.experiments.classification import knn


def slow(train, labels, test, classes, k, temperature):
    votes = []
    for x in test.tolist():
        similar = []
        for row, y in zip(train.tolist(), labels.tolist(), strict=True):
            length = math.hypot(*x) * math.hypot(*row)
            similar.append((sum(a * b for a, b in zip(x, row, strict=True)) / length, y))
        similar.sort(key=lambda pair: -pair[0])
        vote = [0.0] * classes
        for cosine, y in similar[:k]:
            vote[y] += math.exp(cosine / temperature)
        votes.append([v / sum(vote) for v in vote])
    return torch.tensor(votes)


@pytest.fixture
def features():
    draw = torch.Generator().manual_seed(0)
    train, test = torch.randn(60, 5, generator=draw), torch.randn(23, 5, generator=draw)
    return train * torch.rand(60, 1, generator=draw) * 9, torch.randint(4, (60,), generator=draw), test


@pytest.mark.parametrize("k", [1, 5, 20, 60, 1000])
@pytest.mark.parametrize("temperature", [0.07, 1.0])
def test_votes_are_those_of_a_loop_over_images(features, k, temperature):
    train, labels, test = features
    votes = knn.scores(train, labels, test, 4, k, temperature)
    torch.testing.assert_close(votes, slow(train, labels, test, 4, k, temperature), rtol=1e-4, atol=1e-4)


def test_votes_are_shares_so_that_areas_compare_images_and_not_how_near_their_neighbours_are():
    """Of two images of a class one has far neighbours: its sums are small for every class, its shares are not."""
    train, labels = torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 1])
    far, near = [1.0, 0.5, 4.0], [0.05, 1.0, 0.0]  # of class 0, and of class 1
    train = torch.cat([train, torch.zeros(2, 1)], dim=1)
    votes = knn.scores(train, labels, torch.tensor([far, near]), 2, 2, 0.07)
    torch.testing.assert_close(votes.sum(1), torch.ones(2))
    assert roc_auc_score([1, 0], votes[:, 0]) == 1.0
    cosines = torch.nn.functional.normalize(torch.tensor([far, near])) @ train.T
    assert (cosines[0] / 0.07).exp()[0] > (cosines[1] / 0.07).exp()[0]
    assert (cosines[0] / 0.07).exp()[0] < (cosines[1] / 0.07).exp()[1]


def test_chunks_do_not_show(features, monkeypatch):
    train, labels, test = features
    whole = knn.scores(train, labels, test, 4, 7, 0.07)
    monkeypatch.setattr(knn, "CHUNK", 5)
    torch.testing.assert_close(knn.scores(train, labels, test, 4, 7, 0.07), whole)


def test_the_length_of_features_does_not_matter(features):
    train, labels, test = features
    longer = knn.scores(train * 7.0, labels, test * 0.01, 4, 7, 0.07)
    torch.testing.assert_close(longer, knn.scores(train, labels, test, 4, 7, 0.07), rtol=1e-4, atol=1e-4)


def test_near_neighbours_weigh_more_than_many_far_ones():
    train = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.6, 0.8], [0.6, 0.8]])
    labels, test = torch.tensor([0, 1, 1, 1]), torch.tensor([[1.0, 0.05]])
    assert knn.scores(train, labels, test, 2, 4, 0.07).argmax() == 0
    assert knn.scores(train, labels, test, 2, 4, 100.0).argmax() == 1
