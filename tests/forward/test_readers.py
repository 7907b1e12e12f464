"""What readers keep against one image at a time by hand; and the token layout they all slice by."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vit_registers.backbones.layout import TokenLayout
from vit_registers.forward.interventions import Append, applied
from vit_registers.forward.readers import AttentionRows, Keys, Norms, Patches, Reader, Tokens
from vit_registers.forward.run import reading

CLASSES = {
    "tokens": Tokens,
    "patches": Patches,
    "norms": Norms,
    "attention": AttentionRows,
    "keys": lambda backbone, layout: Keys(backbone, layout, [0, -1]),
}


def taken(backbone, pixels, intervention=None):
    """Arrays of all readers, and their specs."""
    with applied(backbone, intervention) as layout:
        readers = [of(backbone, layout) for of in CLASSES.values()]
        with reading(backbone, readers, "fp32") as forward:
            forward(pixels)
    arrays = {name: array for reader in readers for name, array in reader.take().items()}
    specs = {name: spec for reader in readers for name, spec in reader.specs().items()}
    return layout, arrays, specs


@pytest.mark.parametrize("appended", [0, 2])
def test_arrays_are_what_their_specs_say(make, family, pixels, appended):
    backbone = make(family)
    layout, arrays, specs = taken(backbone, pixels, Append(appended) if appended else None)
    assert arrays.keys() == specs.keys()
    for name, spec in specs.items():
        assert arrays[name].shape == (len(pixels), *spec.shape), name
        assert arrays[name].dtype == spec.dtype, name
        assert spec.unit
        assert spec.what
    expected = {"patch_mean"} | ({"cls"} if layout.cls else set()) | ({"registers"} if layout.registers else set())
    expected |= {"appended"} if appended else set()
    assert {name for name, spec in specs.items() if spec.rows == "all"} == expected
    dense = {"patches", "norms", "attention", "flow", "keys_00", "keys_02"}
    assert {name for name, spec in specs.items() if spec.rows == "dense"} == dense


@pytest.mark.parametrize("appended", [0, 2])
def test_every_array_is_that_of_one_image_at_a_time(make, family, pixels, by_hand, appended):
    backbone = make(family)
    layout, arrays, _ = taken(backbone, pixels, Append(appended) if appended else None)
    backbone.module.double()
    half, single = {"rtol": 1e-3, "atol": 1e-3}, {"rtol": 1e-4, "atol": 1e-4}
    for image, picture in enumerate(pixels.double()):
        expected = by_hand(backbone, picture, appended=appended)
        final = expected.final.numpy()
        patches = final[layout.prefix : layout.prefix + 24]
        if layout.cls:
            np.testing.assert_allclose(arrays["cls"][image], final[0], **single)
        if layout.registers:
            np.testing.assert_allclose(arrays["registers"][image], final[1:5], **single)
        if appended:
            np.testing.assert_allclose(arrays["appended"][image], final[-2:], **single)
        np.testing.assert_allclose(arrays["patches"][image], patches, **half)
        np.testing.assert_allclose(arrays["patch_mean"][image], patches.mean(0), **single)
        for layer in range(3):
            norms = [sum(x * x for x in token) ** 0.5 for token in expected.outputs[layer].tolist()]
            np.testing.assert_allclose(arrays["norms"][image, layer], norms, **single)
            heads = expected.maps[layer].mean(0).numpy()
            for row, token in enumerate(layout.specials):
                np.testing.assert_allclose(arrays["attention"][image, layer, row], heads[token], **half)
            specials = list(layout.specials)
            given = heads[layout.patch_slice][:, specials].sum(1).mean()
            np.testing.assert_allclose(arrays["flow"][image, layer, 2, 2], 1.0 - given, **single)
        for layer in (0, 2):
            keys = expected.keys[layer][:, layout.patch_slice]  # (heads, patches, channels of a head)
            together = np.stack([keys[:, patch].flatten().numpy() for patch in range(24)])
            np.testing.assert_allclose(arrays[f"keys_{layer:02d}"][image], together, rtol=1e-3, atol=5e-3)


@pytest.mark.parametrize("of", CLASSES.values(), ids=CLASSES)
def test_what_was_taken_is_forgotten(make, pixels, of):
    """Memory is bounded by a batch: the second batch's arrays are the second batch's alone."""
    backbone = make("dinov2_reg4")
    reader = of(backbone, backbone.layout)
    taken = []
    for batch in pixels.split([3, 2]):
        with reading(backbone, [reader], "fp32") as forward:
            forward(batch)
        taken.append(reader.take())
    alone = of(backbone, backbone.layout)
    with reading(backbone, [alone], "fp32") as forward:
        forward(pixels[3:])
    for name, array in alone.take().items():
        assert len(taken[0][name]) == 3
        np.testing.assert_array_equal(taken[1][name], array)


def test_key_layers_count_from_the_end_and_once(make):
    backbone = make("dinov2")
    assert list(Keys(backbone, backbone.layout, [-1, 2, 0]).specs()) == ["keys_00", "keys_02"]


def test_a_reader_that_overrides_nothing_gives_nothing():
    assert Reader().take() == {}
    assert Reader().specs() == {}


# --- the token layout ------------------------------------------------------------------------------------------------

LAYOUTS = st.builds(
    TokenLayout,
    cls=st.integers(0, 1),
    registers=st.integers(0, 20),
    grid=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    appended=st.integers(0, 20),
)


@settings(deadline=None, derandomize=True, database=None)
@given(LAYOUTS)
def test_slices_part_the_sequence_into_its_groups_in_order(layout):
    sequence = list(range(layout.length))
    groups = [layout.cls_slice, layout.register_slice, layout.patch_slice, layout.appended_slice]
    assert [token for group in groups for token in sequence[group]] == sequence
    counts = [layout.cls, layout.registers, layout.grid[0] * layout.grid[1], layout.appended]
    assert [len(sequence[group]) for group in groups] == counts
    assert layout.patches == counts[2]
    assert layout.prefix == len(sequence[layout.cls_slice] + sequence[layout.register_slice])
    assert sorted([*layout.specials, *sequence[layout.patch_slice]]) == sequence


@settings(deadline=None, derandomize=True, database=None)
@given(LAYOUTS, st.integers(0, 9))
def test_layouts_survive_json_and_appending(layout, tokens):
    assert TokenLayout.from_json(json.loads(json.dumps(layout.to_json()))) == layout
    longer = layout.with_appended(tokens)
    assert longer.length == layout.length - layout.appended + tokens
    assert longer.patch_slice == layout.patch_slice
    assert longer.with_appended(layout.appended) == layout


def test_a_layout_written_before_tokens_were_appended_has_none():
    assert TokenLayout.from_json({"cls": 1, "registers": 4, "grid": [2, 3]}) == TokenLayout(1, 4, (2, 3), 0)


def test_slices_are_of_the_sequence_that_models_make(make, family, pixels):
    backbone = make(family)
    at = backbone.layout
    with torch.inference_mode():
        module = backbone.module
        grid = module.patch_embed.grid_size
        assert tuple(grid) == at.grid
        assert module.num_prefix_tokens == at.prefix
        assert module.forward_features(pixels).shape[1] == at.length
