"""Artifacts by grid position on a grid that has an inside."""

from types import SimpleNamespace

import numpy as np
import pytest

from helpers.jobs import rows
from vit_registers.core.stats import Bootstrap
from vit_registers.experiments.token_statistics import grid_positions
from vit_registers.experiments.token_statistics.tokens import Tokens
from vit_registers.models.layout import TokenLayout

LIMIT = 12.0


def test_artifacts_on_the_border_are_counted_with_an_interval_over_images():
    rng = np.random.default_rng(3)
    layout = TokenLayout(1, 0, (4, 5))
    norms = rng.gamma(2.0, 4.0, size=(40, 3, layout.length))
    norms[:20, 2] = 1.0  # images without any
    bootstrap = Bootstrap(40, 500, 0.95, np.random.default_rng(0))
    cached = SimpleNamespace(layout=layout, array={"norms": norms}.__getitem__)
    tokens = Tokens("baseline", cached, LIMIT, bootstrap, rows("token_statistics", dataset="tiny", model="m"))
    grid_positions.measure(tokens, 2)
    found = {row["metric"]: row for _, row in tokens.rows.frame().iterrows()}
    at = norms[:, 2, 1:].reshape(40, 4, 5)
    inside = [(y, x) for y in (1, 2) for x in (1, 2, 3)]
    places = [(i, y, x) for i in range(40) for y in range(4) for x in range(5) if at[i, y, x] > LIMIT]
    edge = [place for place in places if place[1:] not in inside]
    row = found["artifacts_on_border"]
    assert row["value"] == pytest.approx(len(edge) / len(places))
    assert row["n"] == len({i for i, *_ in places}) <= 20
    shares = []
    for counts in bootstrap.counts:
        drawn, at_edge = (sum(counts[i] for i, *_ in of) for of in (places, edge))
        shares.append(at_edge / drawn)
    assert (row["low"], row["high"]) == pytest.approx(tuple(np.quantile(shares, [0.025, 0.975])))
    assert row["low"] < row["value"] < row["high"]
    assert found["border_positions"]["value"] == pytest.approx(14 / 20)
    assert found["border_positions"]["n"] == 20
    assert row["layer"] == 2
