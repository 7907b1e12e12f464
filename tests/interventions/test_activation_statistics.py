"""Activation statistics streamed over batches against all block outputs at once."""

import pytest
import torch

from helpers.interventions import slow_sinks
from vit_registers.core.errors import InputError
from vit_registers.forward.hooks import second_linear
from vit_registers.forward.reading import reading
from vit_registers.interventions import activation_statistics
from vit_registers.interventions.activation_statistics import ActivationStatisticsReader, SinkValueReader


def outputs_of(backbone, pixels):
    found = []
    handles = [block.register_forward_hook(lambda m, i, o: found.append(o)) for block in backbone.blocks]
    with torch.inference_mode():
        backbone.module.forward_features(pixels)
    for handle in handles:
        handle.remove()
    return torch.stack(found, dim=1).double()  # (b, layers, t, d)


def deviation(values):
    """Sample standard deviation over the first dimension; there may be no token to take it of."""
    return ((values - values.mean(0)).square().sum(0) / (len(values) - 1)).sqrt()


@pytest.mark.parametrize("split", [[5], [3, 2], [1, 1, 1, 1, 1]], ids=str)
def test_statistics_are_those_of_all_images_at_once(make, family, pixels, split):
    backbone = make(family)
    reader = ActivationStatisticsReader(backbone, resample_sources=4)
    with reading(backbone, [reader], "fp32") as forward:
        for batch in pixels.split(split):
            forward(batch)
    found, whole = reader.finish(), outputs_of(backbone, pixels)
    specials = whole[:, :, list(backbone.layout.specials)]
    patches = whole[:, :, backbone.layout.patch_slice].transpose(1, 2).flatten(0, 1)
    close = {"rtol": 1e-4, "atol": 1e-5, "check_dtype": False}
    torch.testing.assert_close(found["mean"], specials.mean(0), **close)
    torch.testing.assert_close(found["sd"], deviation(specials), **close)
    torch.testing.assert_close(found["patch_mean"], patches.mean(0), **close)
    torch.testing.assert_close(found["patch_sd"], deviation(patches), **close)
    torch.testing.assert_close(found["donors"], specials[:4], **close)  # as the file calls the resample sources
    for layer, activity in enumerate(found["neuron_activity"]):
        entered = []
        handle = second_linear(backbone, layer).register_forward_pre_hook(
            lambda m, i, entered=entered: entered.append(i[0])
        )
        with torch.inference_mode():
            backbone.module.forward_features(pixels)
        handle.remove()
        expected = entered[0][:, backbone.layout.patch_slice].double().abs().mean((0, 1))
        torch.testing.assert_close(activity, expected, **close)


@pytest.mark.parametrize("split", [[5], [3, 2]], ids=str)
def test_the_value_of_sinks_is_the_mean_over_images_of_the_token_that_each_head_attends_to_most(
    make, family, pixels, by_hand, split
):
    backbone = make(family)
    reader = SinkValueReader(backbone)
    with reading(backbone, [reader], "fp32") as forward:
        for batch in pixels.split(split):
            forward(batch)
    passes = [by_hand(backbone, picture) for picture in pixels]
    expected = torch.zeros(3, 2, 16)
    for layer in range(3):
        for head in range(2):
            tokens = [token for token, _ in (slow_sinks(each.maps[layer])[head] for each in passes)]
            values = [each.values[layer][head, token] for each, token in zip(passes, tokens, strict=True)]
            expected[layer, head] = sum(values) / len(values)
    torch.testing.assert_close(reader.finish()["sink_value"], expected, rtol=1e-4, atol=1e-4)


def test_statistics_read_back_and_are_equal_by_their_file(make, pixels, tmp_path):
    backbone = make("dinov2_reg4")
    reader = ActivationStatisticsReader(backbone, resample_sources=2)
    with reading(backbone, [reader], "fp32") as forward:
        forward(pixels)
    for name in ("a", "b"):
        activation_statistics.save(tmp_path / f"{name}.safetensors", reader.finish(), {"images": 5})
    first, second = (activation_statistics.load(tmp_path / f"{name}.safetensors") for name in ("a", "b"))
    assert torch.equal(first.mean, reader.finish()["mean"])
    assert first.resample_sources.shape == (2, 3, 5, 32)
    assert first == second
    assert len({first, second}) == 1
    assert first.sink_value is None
    sinks = torch.ones(3, 2, 16)
    activation_statistics.save(tmp_path / "c.safetensors", reader.finish() | {"sink_value": sinks}, {"images": 5})
    assert torch.equal(activation_statistics.load(tmp_path / "c.safetensors").sink_value, sinks)
    with pytest.raises(InputError, match=r"none\.safetensors: no such file; run `vit-registers calibrate`"):
        activation_statistics.load(tmp_path / "none.safetensors")
