"""The nearest by cosine, in chunks."""

import numpy as np
import torch

from vit_registers.core.numerics import neighbours


def test_an_image_is_never_its_own_neighbour_in_any_chunk(monkeypatch):
    monkeypatch.setattr(neighbours, "CHUNK", 4)
    x = neighbours.directions(np.random.default_rng(0).normal(size=(11, 3)))
    found = neighbours.nearest_other(x, x)
    assert (found != np.arange(11)).all()
    assert neighbours.nearest_other(torch.cat([x, x]), torch.cat([x, x])).tolist() == [*range(11, 22), *range(11)]
