"""Baselines in which nothing was learnt: random weights, and pixels in place of tokens."""

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import nn

from vit_registers.core.files import read_json
from vit_registers.core.numerics.patches import patchify
from vit_registers.forward.readers.attention import AttentionRows
from vit_registers.forward.readers.projections import Projections
from vit_registers.forward.readers.tokens import Patches, Tokens
from vit_registers.forward.reading import reading
from vit_registers.models import backbone, fetch
from vit_registers.models.sources.openclip import OpenClipModel
from vit_registers.models.sources.pixels import Pixels
from vit_registers.models.sources.timm_hub import TimmModel
from vit_registers.models.sources.untrained import UntrainedModel
from vit_registers.pipeline.configs import FetchConfig

SIDE, PATCH = 24, 8
SIZES = {"image_size": SIDE, "patch_size": PATCH}
UNTRAINED = UntrainedModel(kind="untrained", width=32, depth=2, heads=2, registers=3, **SIZES)


def fetched(folder, source, seed=0):
    fetch.run(FetchConfig(seed=seed, name="mine", source=source), folder)
    return backbone.load(folder)


def passed(model, images):
    """Patch tokens, keys and the mean patch of images (n, 3, side, side), as an extraction reads them."""
    readers = [Patches(model, model.layout), Projections(model, model.layout, {"k": [-1]}), Tokens(model, model.layout)]
    with reading(model, readers, "fp32") as forward:
        forward(images, np.arange(len(images)))
    return {name: array.astype(np.float32) for reader in readers for name, array in reader.take().items()}


@pytest.fixture(scope="module")
def images():
    return torch.rand(5, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_tokens_and_keys_are_the_pixels_of_each_patch(tmp_path, images):
    model = fetched(tmp_path, Pixels(kind="pixels", **SIZES))
    found = passed(model, images)
    expected = patchify(images, (PATCH, PATCH)).numpy()
    assert expected.shape == (5, 9, 192)
    for patch in (0, 5):  # the same numbers in the order of the patch embedding: channel, row, column
        y, x = PATCH * (patch // 3), PATCH * (patch % 3)
        by_hand = images[2, :, y : y + PATCH, x : x + PATCH].reshape(-1).numpy()
        np.testing.assert_allclose(found["patches"][2, patch], by_hand, atol=1e-3)
        np.testing.assert_allclose(found["k_00"][2, patch], by_hand, atol=1e-3)
    assert sorted(found["patches"][1, 4]) == pytest.approx(sorted(expected[1, 4]), abs=1e-3)
    assert "cls" not in found


def test_tokens_and_keys_are_the_mean_colour_of_each_patch(tmp_path, images):
    model = fetched(tmp_path, Pixels(kind="pixels", reduce="mean", **SIZES))
    found = passed(model, images)
    assert found["patches"].shape == (5, 9, 3)
    for patch in range(9):
        y, x = PATCH * (patch // 3), PATCH * (patch % 3)
        colour = images[:, :, y : y + PATCH, x : x + PATCH].mean((2, 3)).numpy()
        np.testing.assert_allclose(found["patches"][:, patch], colour, atol=1e-3)
        np.testing.assert_allclose(found["k_00"][:, patch], colour, atol=1e-3)
    np.testing.assert_allclose(found["patch_mean"], images.mean((2, 3)).numpy(), atol=1e-5)


def test_pixels_attend_to_all_patches_alike(tmp_path, images):
    model = fetched(tmp_path, Pixels(kind="pixels", reduce="mean", **SIZES))
    reader = AttentionRows(model, model.layout, heads=False, columns=False)
    with reading(model, [reader], "fp32") as forward:
        forward(images, np.arange(5))
    flow = reader.take()["flow"]  # from patches to patches: all of it
    assert flow[..., 2, 2] == pytest.approx(np.ones((5, 1)))


def test_images_reach_baselines_whole_as_they_reach_trained_models(tmp_path):
    for source in (UNTRAINED, Pixels(kind="pixels", **SIZES)):
        model = fetched(tmp_path / source.kind, source)
        assert model.preprocess.size == model.preprocess.resize == (SIDE, SIDE)
        assert (model.preprocess.mean, model.preprocess.std) == ((0.5,) * 3, (0.5,) * 3)


def test_random_weights_are_those_of_a_small_recipe_and_drawn_from_the_models_own_seed(tmp_path):
    model = fetched(tmp_path / "a", UNTRAINED)
    assert (model.layout.cls, model.layout.registers, model.layout.grid) == (1, 3, (3, 3))
    assert (model.depth, model.width, model.patch) == (2, 32, (PATCH, PATCH))
    assert all(isinstance(layer.bias, nn.Parameter) for layer in (model.blocks[0].attn.qkv, model.blocks[0].mlp.fc1))
    assert float(model.blocks[0].mlp.fc1.weight.std()) > 0.01
    weights = [
        read_json(tmp_path / name / "model.json")["weights"]["sha256"]
        for name, seed in (("b", 0), ("c", 1))
        if fetched(tmp_path / name, UNTRAINED, seed)
    ]
    assert weights[0] == read_json(tmp_path / "a" / "model.json")["weights"]["sha256"] != weights[1]


def test_what_was_learnt_and_what_was_not():
    assert not UNTRAINED.learned
    assert not Pixels(kind="pixels", **SIZES).learned
    assert TimmModel(kind="timm", name="vit_tiny_patch16_224").learned
    assert not TimmModel(kind="timm", name="vit_tiny_patch16_224", weights="random").learned
    assert OpenClipModel(kind="openclip", name="ViT-B-16", pretrained="openai").learned
    assert not OpenClipModel(kind="openclip", name="ViT-B-16", pretrained=None).learned


def test_an_image_that_is_not_whole_patches_is_refused():
    with pytest.raises(ValidationError, match=r"patch_size: expected a divisor of image_size \(24\), got 7"):
        Pixels(kind="pixels", image_size=24, patch_size=7)
