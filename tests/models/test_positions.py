"""Other input sizes: position embeddings against bicubic sums written out, and models against timm's own way."""

import math

import numpy as np
import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vit_registers.core.errors import InputError
from vit_registers.models import backbone as backbones
from vit_registers.models.backbone import Backbone
from vit_registers.models.position_embedding import resampled
from vit_registers.models.preprocess import Preprocess
from vit_registers.models.resampling import PositionResampling
from vit_registers.models.supported import layout_of

PREPROCESS = Preprocess.square(32, 32, "bicubic", (0.5,) * 3, (0.5,) * 3)
FAMILIES = {
    "dinov2_reg4": ("vit_small_patch14_reg4_dinov2", {"img_size": 70}, 14),
    "deit3_reg2": ("deit3_small_patch16_224", {"img_size": 64, "reg_tokens": 2}, 16),
    "deit3": ("deit3_small_patch16_224", {"img_size": 64}, 16),
    "vit": ("vit_small_patch16_224", {"img_size": 64}, 16),
    "dinov3": ("vit_small_patch16_dinov3", {"img_size": 64}, 16),
    "eva02": ("eva02_tiny_patch14_224", {"img_size": 56}, 14),
    "rope_mixed": ("vit_small_patch16_rope_mixed_224", {"img_size": 64}, 16),
}


def make(family):
    name, arguments, patch = FAMILIES[family]
    torch.manual_seed(0)
    module = timm.create_model(name, num_classes=0, depth=2, **arguments).eval().requires_grad_(False)
    if module.pos_embed is not None:
        module.pos_embed.normal_()
    return Backbone(family, module, layout_of(module, family), PREPROCESS, {}), patch


def cubic(x, a):
    """Keys' kernel."""
    x = abs(x)
    if x <= 1:
        return (a + 2) * x**3 - (a + 3) * x**2 + 1
    return a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a if x < 2 else 0.0


def weights_plain(old, new, scale):
    """(new, old) of torch's bicubic: four taps at (i + 1/2) * scale - 1/2, the border repeated, a = -3/4."""
    table = np.zeros((new, old))
    for i in range(new):
        centre = (i + 0.5) * scale - 0.5
        for tap in range(math.floor(centre) - 1, math.floor(centre) + 3):
            table[i, min(max(tap, 0), old - 1)] += cubic(centre - tap, -0.75)
    return table


def weights_antialiased(old, new, scale):
    """(new, old) of PIL's way: a kernel as wide as the shrinkage, cut at the border and normalised, a = -1/2."""
    table, wide = np.zeros((new, old)), max(scale, 1.0)
    for i in range(new):
        centre = (i + 0.5) * scale
        for tap in range(max(0, int(centre - 2 * wide + 0.5)), min(old, int(centre + 2 * wide + 0.5))):
            table[i, tap] = cubic((tap + 0.5 - centre) / wide, -0.5)
        table[i] /= table[i].sum()
    return table


@settings(deadline=None, max_examples=60)
@given(
    st.tuples(st.integers(2, 9), st.integers(2, 9)),
    st.tuples(st.integers(1, 12), st.integers(1, 12)),
    st.integers(0, 5),
    st.sampled_from([(True, 0.0), (False, 0.0), (False, 0.1)]),
)
def test_resampling_is_the_weighted_sum_it_says(old, new, prefix, resampling):
    draw, (antialias, offset) = np.random.default_rng(0), resampling
    positions = draw.standard_normal((prefix + old[0] * old[1], 3))
    table = weights_antialiased if antialias else weights_plain
    # without an offset the ratio of the sides decides, with it the stated factor
    scales = [o / (n + offset) if offset else o / n for o, n in zip(old, new, strict=True)]
    rows, columns = (table(o, n, s) for o, n, s in zip(old, new, scales, strict=True))
    expected = np.einsum("yr,xc,rcd->yxd", rows, columns, positions[prefix:].reshape(*old, 3))
    how = PositionResampling(antialias=antialias, offset=offset)
    found = resampled(torch.from_numpy(positions).float()[None], prefix, old, new, how)[0].numpy()
    np.testing.assert_allclose(found[:prefix], positions[:prefix], rtol=1e-6)
    np.testing.assert_allclose(found[prefix:].reshape(*new, 3), expected, atol=2e-5)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("grid", [(3, 7), (6, 6), (1, 2)])
def test_at_another_size_a_model_is_what_timm_makes_of_it(family, grid):
    backbone, patch = make(family)
    before = {name: w.clone() for name, w in backbone.module.state_dict().items()}
    size = (grid[0] * patch, grid[1] * patch)
    pixels = torch.randn(2, 3, *size)
    sized = backbone.at_size(size)
    found = sized.module.forward_features(pixels)
    assert sized.layout.grid == grid
    assert found.shape[1] == sized.layout.length
    after = backbone.module.state_dict()
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert backbone.layout.grid != grid
    backbone.module.set_input_size(img_size=size)  # timm's own, with its defaults: antialiased, no offset
    torch.testing.assert_close(found, backbone.module.forward_features(pixels), rtol=1e-5, atol=1e-5)


def test_a_model_at_another_size_shares_its_weights():
    backbone, _ = make("dinov2_reg4")
    sized = backbone.at_size((28, 42))
    shared = {id(p) for p in backbone.module.parameters()} & {id(p) for p in sized.module.parameters()}
    assert len(shared) == len(list(backbone.module.parameters())) - 1  # all but the position embeddings


def test_how_positions_are_resampled_is_what_the_metadata_say():
    backbone, _ = make("vit")
    as_dinov2 = Backbone(
        "m", backbone.module, backbone.layout, PREPROCESS, {"positions": {"antialias": False, "offset": 0.1}}
    )
    old, prefix = backbone.module.pos_embed, 1
    expected = resampled(old, prefix, (4, 4), (2, 3), PositionResampling(antialias=False, offset=0.1))
    assert torch.equal(as_dinov2.at_size((32, 48)).module.pos_embed, expected)
    assert not torch.equal(backbone.at_size((32, 48)).module.pos_embed, expected)


def test_its_own_size_is_the_model_itself_bit_for_bit():
    backbone, _ = make("vit")
    pixels = torch.randn(1, 3, 64, 64)
    assert torch.equal(backbone.at_size((64, 64)).module(pixels), backbone.module(pixels))


@pytest.mark.parametrize("size", [(64, 65), (50, 64)])
def test_half_a_patch_is_refused(size):
    with pytest.raises(
        InputError, match=f"an input of {size[0]}x{size[1]} is not whole patches of 16x16; give multiples"
    ):
        make("vit")[0].at_size(size)


def test_a_model_with_a_size_loads_at_that_size(tmp_path):
    backbone, _ = make("deit3_reg2")
    architecture = {"name": "deit3_small_patch16_224", "depth": 2, "img_size": 64, "reg_tokens": 2}
    metadata = {
        "name": "m",
        "architecture": architecture,
        "image_size": [32, 80],
        "positions": {"antialias": False, "offset": 0.0},
        "layout": backbone.layout.to_json(),
        "preprocess": PREPROCESS.to_json(),
    }
    backbones.save(tmp_path, backbone.module, metadata)
    loaded = backbones.load(tmp_path)
    assert loaded.layout.grid == (2, 5)
    expected = resampled(backbone.module.pos_embed, 0, (4, 4), (2, 5), PositionResampling(antialias=False))
    assert torch.equal(loaded.module.pos_embed, expected)
