"""The batch that fits: measured memory against what tensors there are, and against the peak of a real pass."""

import pytest
import torch
from torch import nn

from helpers.interventions import ablate, append, move
from vit_registers.core.errors import InputError
from vit_registers.extraction import memory
from vit_registers.extraction.memory import MIB, _LiveBytes, batch_size, peak_bytes
from vit_registers.forward.readers.attention import AttentionMaps, AttentionRows
from vit_registers.forward.readers.norms import Norms
from vit_registers.forward.readers.tokens import Tokens


def all_readers(backbone):
    return lambda: [of(backbone, backbone.layout) for of in (Tokens, Norms, AttentionRows)]


def test_bytes_are_counted_while_they_live_views_not_and_freed_ones_no_more():
    with _LiveBytes() as live:
        a = torch.zeros(1000)
        b = a.view(10, 100)[1:]
        assert live.alive == 4000
        c = a + 1
        assert live.alive == 8000
        del c
        assert live.alive == 4000
        del a
        assert live.alive == 4000  # b still holds it
        del b
        d = torch.zeros(10, dtype=torch.float64)
        assert live.alive == 80
    assert live.peak == 8000
    del d


def test_an_mlp_costs_its_widest_moment(make, pixels):
    """Input, hidden layer and its activation at once: a case that can be counted by hand."""
    mlp = nn.Sequential(nn.Linear(10, 50, bias=False), nn.GELU(), nn.Linear(50, 10, bias=False))
    with torch.inference_mode(), _LiveBytes() as live:
        mlp(torch.zeros(7, 10))
    assert live.peak == 4 * 7 * (10 + 50 + 50)


@pytest.mark.parametrize("intervention", [None, append(3), move(((0, 3),), 2), ablate("registers")], ids=repr)
def test_memory_is_linear_in_the_images(make, intervention):
    backbone = make("dinov2_reg4")
    one, two, nine = (peak_bytes(backbone, intervention, all_readers(backbone), "fp32", n) for n in (1, 2, 9))
    assert nine == pytest.approx(one + 8 * (two - one), rel=1e-3)
    maps = lambda: [AttentionMaps(backbone, backbone.layout)]  # noqa: E731
    heads, layers, tokens = 2, 3, backbone.layout.length
    assert peak_bytes(backbone, None, maps, "fp32", 4) >= 4 * layers * heads * tokens**2 * 4


@pytest.mark.parametrize("limit", [1, 2, 4])
def test_the_batch_is_the_largest_that_fits(make, limit, monkeypatch):
    backbone, readers = make("dinov2_reg4"), all_readers(make("dinov2_reg4"))
    monkeypatch.setattr(memory, "MOST", 10**6)
    size = batch_size("auto", backbone, None, readers, "fp32", limit)
    weights = sum(t.nbytes for t in backbone.module.state_dict().values())
    pixels = 2 * 5 * 3 * 32 * 48

    def needed(images):
        return weights + images * pixels + peak_bytes(backbone, None, readers, "fp32", images)

    assert size > 2
    assert needed(size) <= limit * MIB < needed(size + 2)


def test_it_is_the_same_every_time_and_never_more_than_the_most(make):
    backbone = make("dinov3")
    sizes = {batch_size("auto", backbone, None, all_readers(backbone), "fp32", 3) for _ in range(3)}
    assert len(sizes) == 1
    assert batch_size("auto", backbone, None, all_readers(backbone), "fp32", 4000) == memory.MOST


def test_too_little_memory_is_refused_with_what_is_needed(make, monkeypatch):
    backbone = make("dinov2")
    monkeypatch.setattr(memory, "MIB", 1024)  # limits in KiB
    with pytest.raises(InputError, match=r"extraction\.memory_mb: 100 is too little for model 'dinov2'") as refused:
        batch_size("auto", backbone, None, all_readers(backbone), "fp32", 100)
    enough = int(str(refused.value).split("takes ")[1].split(";")[0])
    assert batch_size("auto", backbone, None, all_readers(backbone), "fp32", enough) == 1
    with pytest.raises(InputError):
        batch_size("auto", backbone, None, all_readers(backbone), "fp32", enough - 2)
    resampled = ablate("cls", "resample")
    with pytest.raises(InputError, match="whose pass of 2 images takes"):  # one alone has nothing to resample from
        batch_size("auto", backbone, resampled, all_readers(backbone), "fp32", enough)
