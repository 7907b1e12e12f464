"""Attention sinks against softmax maps that are built whole, and on attention whose sinks are known."""

import pytest
import torch

from helpers.interventions import slow_sinks
from vit_registers.forward import sinks
from vit_registers.models import attention
from vit_registers.models.attention import Attention, log_sum_exp


def some_attention(q, k, v=None):
    scale = q.shape[-1] ** -0.5
    return Attention(q, k, torch.zeros_like(k) if v is None else v, log_sum_exp(q, k, scale), scale)


def random_attention(b=3, h=2, t=37, d=8, sharp=3.0):
    draw = torch.Generator().manual_seed(0)
    q, k, v = torch.randn(3, b, h, t, d, generator=draw)
    return some_attention(sharp * q, k, v)


@pytest.mark.parametrize("chunk", [5, 37, 256])
def test_column_means_and_columns_are_those_of_the_whole_map(monkeypatch, chunk):
    monkeypatch.setattr(attention, "CHUNK", chunk)
    found = random_attention()
    whole = found.full()
    torch.testing.assert_close(found.column_means(), whole.mean(2), rtol=1e-5, atol=1e-7)
    token = torch.tensor([[0, 36], [5, 5], [17, 2]])
    expected = torch.stack([torch.stack([whole[b, h, :, token[b, h]] for h in range(2)]) for b in range(3)])
    torch.testing.assert_close(found.column(token), expected, rtol=1e-5, atol=1e-7)
    values = torch.stack([torch.stack([found.v[b, h, token[b, h]] for h in range(2)]) for b in range(3)])
    torch.testing.assert_close(sinks.values(found, token), values)


@pytest.mark.parametrize(("half", "nearly_all"), [(0.5, 0.9), (0.2, 0.3), (0.05, 0.5)])
def test_sinks_are_those_of_a_slow_loop_over_heads_and_queries(monkeypatch, half, nearly_all):
    monkeypatch.setattr(sinks, "SINK_ATTENTION", half)
    monkeypatch.setattr(sinks, "SINK_QUERIES", nearly_all)
    given = random_attention(b=8)
    found = sinks.find(given)
    for image, maps in enumerate(given.full()):
        expected = slow_sinks(maps, half, nearly_all)
        assert found.token[image].tolist() == [token for token, _ in expected]
        assert found.events[image].tolist() == [event for _, event in expected]
    if half == 0.2:
        assert 0.05 < found.events.float().mean() < 0.95


def test_uniform_attention_gives_every_token_its_share_and_has_no_sink():
    found = sinks.find(some_attention(torch.zeros(2, 3, 20, 4), torch.zeros(2, 3, 20, 4)))
    torch.testing.assert_close(found.shares, torch.full((2, 3, 20), 1 / 20))
    assert not found.events.any()
    assert (found.token == 0).all()  # of equal ones the first


def test_a_token_that_gets_all_is_a_sink_and_nine_queries_in_ten_are_enough():
    q, k = torch.zeros(1, 1, 20, 4), torch.zeros(1, 1, 20, 4)
    q[..., 0], k[0, 0, 7, 0] = 20.0, 20.0
    found = sinks.find(some_attention(q, k))
    assert found.token.item() == 7
    torch.testing.assert_close(found.shares[0, 0], torch.eye(20)[7])
    assert found.events.item()
    for others, event in ((2, True), (3, False)):
        fewer = q.clone()
        fewer[0, 0, :others, 0] = 0.0
        assert sinks.find(some_attention(fewer, k)).events.item() == event
