"""What the reader of sinks keeps, against passes by hand and on attention whose sinks are known."""

import numpy as np
import pytest
import torch

from helpers.interventions import append, redirect, slow_sinks
from helpers.passes import FAMILIES, branch_scale
from vit_registers.forward import sinks
from vit_registers.forward.readers.sinks import AttentionSinks, stable_rank
from vit_registers.forward.reading import reading
from vit_registers.interventions.base import applied
from vit_registers.models.attention import Attention, log_sum_exp


def read(backbone, pixels, intervention=None):
    with applied(backbone, intervention) as layout:
        reader = AttentionSinks(backbone, layout)
        with reading(backbone, [reader], "fp32") as forward:
            forward(pixels, range(len(pixels)))
    return reader.take()


def written(backbone, layer, head, vectors):
    """What a head writes into the residual stream for ``vectors`` (n, d / h) of it, one by one."""
    block = backbone.blocks[layer]
    width = vectors.shape[1]
    weight = block.attn.proj.weight[:, head * width : (head + 1) * width].double()
    return torch.stack([branch_scale(block, 1) * (weight @ vector.double()) for vector in vectors])


@pytest.fixture
def mild(monkeypatch):
    """Sink events as random weights have them: in some heads of some images."""
    monkeypatch.setattr(sinks, "SINK_ATTENTION", 0.2)
    monkeypatch.setattr(sinks, "SINK_QUERIES", 0.3)


@pytest.mark.parametrize(("family", "appended"), [*((family, 0) for family in FAMILIES), ("dinov3", 2), ("dinov2", 2)])
def test_every_number_is_that_of_one_image_at_a_time_by_hand(make, pixels, by_hand, mild, family, appended):
    backbone = make(family)
    found = read(backbone, pixels, append(appended) if appended else None)
    backbone.module.double()
    for image, picture in enumerate(pixels.double()):
        expected = by_hand(backbone, picture, appended=appended)
        for layer in range(3):
            maps, values = expected.maps[layer], expected.values[layer]
            means = [sum(float(row[token]) for head in maps for row in head) for token in range(maps.shape[2])]
            means = np.array(means) / maps.shape[0] / maps.shape[1]
            assert found["sink_tokens"][image, layer, 0] == means.argmax()
            np.testing.assert_allclose(found["sink_shares"][image, layer, 0], means.max(), rtol=1e-4)
            np.testing.assert_allclose(found["sink_medians"][image, layer], np.median(means), rtol=1e-4)
            for head, (token, event) in enumerate(slow_sinks(maps, 0.2, 0.3)):
                column = maps[head, :, token]
                assert found["sink_tokens"][image, layer, 1 + head] == token
                np.testing.assert_allclose(found["sink_shares"][image, layer, 1 + head], column.mean(), rtol=1e-4)
                given = np.mean([float(weight) >= 0.2 for weight in column])
                np.testing.assert_allclose(found["sink_queries"][image, layer, head], given, rtol=1e-6)
                norms = written(backbone, layer, head, values[head]).norm(dim=1).tolist()
                own = norms.pop(token)
                ratio = own / (sum(norms) / len(norms))
                np.testing.assert_allclose(found["sink_ratios"][image, layer, head], ratio, rtol=1e-3)
                rank = found["sink_ranks"][image, layer, head]
                if not event:
                    assert np.isnan(rank)
                    continue
                spectrum = torch.linalg.svdvals(written(backbone, layer, head, maps[head] @ values[head]))
                np.testing.assert_allclose(rank, float((spectrum / spectrum[0]).square().sum()), rtol=1e-3)


def known(v, sink=7, appetite=40.0):
    """Attention (1, 1, t, t) of which one token gets all, with some values (t, d / h)."""
    q, k = torch.zeros(1, 1, *v.shape), torch.zeros(1, 1, *v.shape)
    q[..., 0], k[0, 0, sink, 0] = appetite, appetite
    lse = log_sum_exp(q, k, 0.5)
    given = Attention(q, k, v[None, None], lse, 0.5)
    return Attention(q, k, v[None, None], lse, 0.5, given.full() @ given.v)


def of_known(make, v):
    """Arrays of a block with one head whose attention is known."""
    backbone = make("dinov2")
    reader = AttentionSinks(backbone, backbone.layout)
    reader.projections = [torch.eye(v.shape[1])[None]] * 3
    reader.attention(0, known(v))
    return {name: array[0, 0] for name, array in reader.take().items()}


def some_values():
    return torch.randn(20, 4, generator=torch.Generator().manual_seed(6))


def test_a_token_that_gets_all_is_the_sink_of_all(make):
    found = of_known(make, some_values())
    assert found["sink_tokens"].tolist() == [7, 7]
    np.testing.assert_allclose(found["sink_shares"], [1.0, 1.0])
    assert found["sink_queries"].tolist() == [1.0]
    assert found["sink_medians"] == pytest.approx(0.0, abs=1e-6)


def test_a_sink_that_writes_nothing_has_a_ratio_of_zero(make):
    v = some_values()
    v[7] = 0.0
    assert of_known(make, v)["sink_ratios"].tolist() == [0.0]


def test_a_sink_that_writes_much_and_to_all_the_same_has_a_large_ratio_and_rank_one(make):
    v = some_values()
    v[7] = torch.tensor([9.0, 0.0, 0.0, 0.0])
    found = of_known(make, v)
    assert found["sink_ratios"][0] > 3.0
    np.testing.assert_allclose(found["sink_ranks"], [1.0], rtol=1e-5)


def test_a_head_without_a_sink_has_no_rank_and_uniform_attention_gives_each_token_its_share(make):
    v = some_values()
    flat = known(v, appetite=0.0)
    backbone = make("dinov2")
    reader = AttentionSinks(backbone, backbone.layout)
    reader.projections = [torch.eye(4)[None]] * 3
    reader.attention(0, flat)
    found = reader.take()
    np.testing.assert_allclose(found["sink_shares"], 1 / 20, rtol=1e-6)
    np.testing.assert_allclose(found["sink_medians"], 1 / 20, rtol=1e-6)
    assert np.isnan(found["sink_ranks"]).all()
    assert found["sink_queries"].tolist() == [[[0.0]]]


@pytest.mark.parametrize("rank", [1, 2, 3, 8])
def test_stable_ranks_are_those_of_singular_values(rank):
    draw = torch.Generator().manual_seed(rank)
    matrices = torch.randn(6, 30, rank, generator=draw) @ torch.randn(6, rank, 8, generator=draw)
    spectrum = torch.linalg.svdvals(matrices.double())
    expected = (spectrum / spectrum[:, :1]).square().sum(1)
    torch.testing.assert_close(stable_rank(matrices).double(), expected, rtol=2e-3, atol=0)
    even = torch.eye(8)[None]
    torch.testing.assert_close(stable_rank(even), torch.tensor([8.0]))


def test_heads_that_are_normed_before_the_projection_write_nothing_linear(make, pixels):
    backbone = make("eva02")
    for block in backbone.blocks:
        block.attn.norm = torch.nn.LayerNorm(32)
    found = read(backbone, pixels)
    assert np.isnan(found["sink_ratios"]).all()
    assert np.isfinite(found["sink_shares"]).all()


def test_attention_is_read_before_it_is_redirected(make, pixels):
    backbone = make("dinov2_reg4")
    before, after = read(backbone, pixels), read(backbone, pixels, redirect(which="most_attended"))
    for name in before:
        np.testing.assert_array_equal(before[name][:, 0], after[name][:, 0])
    assert not np.array_equal(before["sink_shares"][:, 1], after["sink_shares"][:, 1])
