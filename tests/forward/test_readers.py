"""What readers keep against one image at a time by hand; and the token layout they all slice by."""

import copy
import json
import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.interventions import append
from helpers.passes import FAMILIES, branch_scale
from vit_registers.core.errors import InputError
from vit_registers.forward import readers as documentation
from vit_registers.forward.readers.attention import AttentionMaps, AttentionRows
from vit_registers.forward.readers.base import Reader
from vit_registers.forward.readers.head import OwnHead, has_head
from vit_registers.forward.readers.norms import EmbeddingNorms, NeighbourCosines, Norms
from vit_registers.forward.readers.parts import PARTS, SKIP, ClsParts
from vit_registers.forward.readers.projections import Projections
from vit_registers.forward.readers.sinks import AttentionSinks
from vit_registers.forward.readers.tokens import ClsByBlock, Patches, PatchesByLayer, SpecialsByLayer, Tokens
from vit_registers.forward.reading import reading
from vit_registers.interventions.base import applied
from vit_registers.models.layout import TokenLayout

CLASSES = {
    "tokens": Tokens,
    "patches": Patches,
    "norms": Norms,
    "attention": lambda backbone, layout: AttentionRows(backbone, layout, heads=True, columns=True),
    "projections": lambda backbone, layout: Projections(backbone, layout, {"k": [0, -1], "q": [1], "v": [2]}),
    "specials": SpecialsByLayer,
    "parts": lambda backbone, layout: ClsParts(backbone, layout) if layout.cls else Reader(),
    "cls of blocks": lambda backbone, layout: ClsByBlock(backbone, layout, 2) if layout.cls else Reader(),
    "patches by layer": lambda backbone, layout: PatchesByLayer(backbone, layout, [1]),
    "neighbours": NeighbourCosines,
    "embedding norms": EmbeddingNorms,
    "maps": AttentionMaps,
    "sinks": AttentionSinks,
    "own head": lambda backbone, layout: OwnHead(backbone, layout) if has_head(backbone) else Reader(),
}

# Every family with appended tokens, which are the harder case, and one of each sequence without.
PASSES = [*((family, 2) for family in FAMILIES), *((f, 0) for f in ("dinov2", "dinov3", "without_cls"))]


def taken(backbone, pixels, intervention=None, precision="fp32"):
    """Arrays of all readers, and their specs."""
    with applied(backbone, intervention) as layout:
        readers = [of(backbone, layout) for of in CLASSES.values()]
        with reading(backbone, readers, precision) as forward:
            forward(pixels)
            arrays = {name: array for reader in readers for name, array in reader.take().items()}
    specs = {name: spec for reader in readers for name, spec in reader.specs().items()}
    return layout, arrays, specs


@pytest.mark.parametrize(("family", "appended"), PASSES)
def test_arrays_are_what_their_specs_say(make, family, pixels, appended):
    backbone = make(family)
    layout, arrays, specs = taken(backbone, pixels, append(appended) if appended else None)
    assert arrays.keys() == specs.keys()
    for name, spec in specs.items():
        assert arrays[name].shape == (len(pixels), *spec.shape), name
        assert arrays[name].dtype == spec.dtype, name
        assert spec.unit
        assert spec.what
    expected = (
        {"patch_mean", "specials", "specials_normed"}
        | ({"cls", "cls_blocks", "cls_parts"} if layout.cls else set())
        | ({"registers"} if layout.registers else set())
    )
    expected |= {"appended"} if appended else set()
    assert {name for name, spec in specs.items() if spec.rows == "all"} == expected
    dense = {
        "patches",
        "norms",
        "attention",
        "attention_heads",
        "attention_columns",
        "flow",
        "patch_attention",
        "neighbours",
        "embedding_norms",
    }
    dense |= {"k_00", "k_02", "q_01", "v_02", "patches_01"} | ({"cls_attention_max"} if layout.cls else set())
    assert [name for name, spec in specs.items() if spec.rows == "maps"] == ["attention_maps"]
    of_sinks = {f"sink_{what}" for what in ("shares", "tokens", "medians", "queries", "ratios", "ranks")}
    assert {name for name, spec in specs.items() if spec.rows == "sinks"} == of_sinks
    assert {name for name, spec in specs.items() if spec.rows == "dense"} == dense


@pytest.mark.parametrize(("family", "appended"), PASSES)
def test_every_array_is_that_of_one_image_at_a_time(make, family, pixels, by_hand, appended):
    backbone = make(family)
    layout, arrays, _ = taken(backbone, pixels, append(appended) if appended else None)
    backbone.module.double()
    half, single = {"rtol": 1e-3, "atol": 1e-3}, {"rtol": 1e-4, "atol": 1e-4}
    for image, picture in enumerate(pixels.double()):
        expected = by_hand(backbone, picture, appended=appended)
        final = expected.final.numpy()
        patches = final[layout.prefix : layout.prefix + 24]
        if layout.cls:
            np.testing.assert_allclose(arrays["cls"][image], final[0], **single)
            normed = [backbone.module.norm(output[0]).detach() for output in expected.outputs[1:]]
            np.testing.assert_allclose(arrays["cls_blocks"][image], torch.stack(normed), **single)
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
            if layout.cls:
                most = [max(head[0, t].item() for head in expected.maps[layer]) for t in range(layout.length)]
                np.testing.assert_allclose(arrays["cls_attention_max"][image, layer], most, **half)
            for row, token in enumerate(layout.specials):
                np.testing.assert_allclose(arrays["attention"][image, layer, row], heads[token], **half)
            specials = list(layout.specials)
            given = heads[layout.patch_slice][:, specials].sum(1).mean()
            np.testing.assert_allclose(arrays["flow"][image, layer, 2, 2], 1.0 - given, **single)
            to_each = heads[layout.patch_slice][:, specials].mean(0)
            np.testing.assert_allclose(arrays["patch_attention"][image, layer], to_each, **single)
            whole = expected.maps[layer].numpy()  # (heads, t, t)
            specials = list(layout.specials)
            np.testing.assert_allclose(arrays["attention_maps"][image, layer], whole, **half)
            np.testing.assert_allclose(arrays["attention_heads"][image, layer], whole[:, specials], **half)
            np.testing.assert_allclose(arrays["attention_columns"][image, layer], whole.mean(0)[:, specials], **half)
            np.testing.assert_allclose(arrays["specials"][image, layer], expected.outputs[layer][specials], **single)
        specials = list(layout.specials)
        normed = backbone.module.blocks[2].norm1(expected.outputs[1][specials]).detach()
        np.testing.assert_allclose(arrays["specials_normed"][image], normed, **single)
        kept = {"k_00": expected.keys[0], "k_02": expected.keys[2]}
        kept |= {"q_01": expected.queries[1], "v_02": expected.values[2]}
        for name, projected in kept.items():
            of_patches = projected[:, layout.patch_slice]  # (heads, patches, channels of a head)
            together = np.stack([of_patches[:, patch].flatten().numpy() for patch in range(24)])
            np.testing.assert_allclose(arrays[name][image], together, rtol=1e-3, atol=5e-3)
        np.testing.assert_allclose(arrays["patches_01"][image], expected.outputs[1][layout.patch_slice], **single)
        np.testing.assert_allclose(arrays["neighbours"][image], slow_neighbours(backbone, picture), **single)


def slow_parts(backbone, seen, layout):
    """What [CLS] of one image adds up in the last block, token by token and head by head."""
    block = backbone.module.blocks[-1]
    groups = {"patches": layout.patch_slice, "registers": layout.register_slice, "appended": layout.appended_slice}
    groups |= {"itself": layout.cls_slice}
    sums = {}
    for group, span in groups.items():
        tokens, both = range(layout.length)[span], zip(seen.maps[-1], seen.values[-1], strict=True)
        heads = [sum(weights[0, t] * values[t] for t in tokens) for weights, values in both]
        mixed = torch.cat([torch.zeros(16) + head for head in heads]).double()
        sums[group] = branch_scale(block, 1) * (block.attn.proj.weight.detach() @ mixed)
    sums["registers"] = sums["registers"] + sums.pop("appended")
    sums["bias"] = branch_scale(block, 1) * block.attn.proj.bias.detach()
    sums["skip"] = seen.outputs[-2][0]
    return torch.stack([sums[part] for part in PARTS])


@pytest.mark.parametrize(("family", "appended"), [(f, a) for f, a in PASSES if f != "without_cls"])
def test_parts_of_cls_are_sums_over_groups_of_tokens(make, family, pixels, by_hand, appended):
    backbone = make(family)
    layout, arrays, _ = taken(backbone, pixels, append(appended) if appended else None)
    backbone.module.double()
    for image, picture in enumerate(pixels[:2].double()):
        expected = slow_parts(backbone, by_hand(backbone, picture, appended=appended), layout)
        np.testing.assert_allclose(arrays["cls_parts"][image], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("family", "appended"), [(f, a) for f, a in PASSES if f != "without_cls"])
def test_parts_add_up_to_the_attention_output_and_with_the_skip_to_what_the_mlp_norms(make, family, pixels, appended):
    backbone = make(family)
    attended, entered = [], []
    last = backbone.blocks[-1]
    hooks = [last.attn.register_forward_hook(lambda module, x, out: attended.append(out[:, 0]))]
    hooks.append(last.norm2.register_forward_pre_hook(lambda module, x: entered.append(x[0][:, 0])))
    _, arrays, _ = taken(backbone, pixels, append(appended) if appended else None)
    for hook in hooks:
        hook.remove()
    parts = torch.from_numpy(arrays["cls_parts"])
    without_skip = parts.sum(1) - parts[:, SKIP]
    torch.testing.assert_close(without_skip, branch_scale(last, 1) * attended[0], rtol=0, atol=1e-5)
    torch.testing.assert_close(parts.sum(1), entered[0], rtol=0, atol=1e-5)


def test_a_model_whose_attention_output_is_no_sum_over_tokens_has_no_parts(make):
    with pytest.raises(InputError, match=r"'without_cls': \[CLS\] after its last attention is no sum over tokens"):
        ClsParts(make("without_cls"), make("without_cls").layout)
    backbone = copy.deepcopy(make("dinov2"))
    backbone.module.blocks[-1].attn.norm = torch.nn.LayerNorm(32)
    with pytest.raises(InputError, match="no sum over tokens"):
        ClsParts(backbone, backbone.layout)


def documented():
    """The table of :mod:`readers`: reader, shape, dtype and rows of each array by name."""
    table = {}
    for line in documentation.__doc__.splitlines():
        if line.startswith("``"):
            name, reader, shape, dtype, rows = re.match(r"``(\w+)`` +(\w+) +(\(.*?\)) +(\w+) +(\w+)", line).groups()
            table[name] = reader, shape, dtype, rows
    return table


def test_the_documented_arrays_are_those_that_readers_make(make):
    backbone = copy.deepcopy(make("dinov2_reg4"))
    backbone.module.reset_classifier(5)
    layout, table, found = backbone.layout.with_appended(2), documented(), {}
    for of in CLASSES.values():
        reader = of(backbone, layout)
        for name, spec in reader.specs().items():
            found[re.sub(r"_\d\d$", "_NN", name)] = type(reader).__name__, spec.shape, spec.dtype, spec.rows
    size = {"d": 32, "p": 24, "r": 4, "a": 2, "t": 31, "s": 7, "L": 3, "n": 2, "H": 2, "c": 5, "M": 3}
    size |= {str(number): number for number in (2, 3, 5)}
    sized = {
        name: (reader, tuple(size[axis] for axis in re.findall(r"\w", shape)), dtype, rows)
        for name, (reader, shape, dtype, rows) in table.items()
    }
    assert sized == found


def slow_neighbours(backbone, picture):
    """Cosines of each of 4 x 6 patch embeddings with the one below it, then with the one to its right."""
    embedded = backbone.module.patch_embed(picture[None]).reshape(4, 6, -1).detach()
    found = []
    for down, right in ((1, 0), (0, 1)):
        for y, x in np.ndindex(4, 6):
            there = y + down < 4 and x + right < 6
            a, b = embedded[y, x], embedded[y + down, x + right] if there else embedded[y, x]
            found.append(float(a @ b / a.norm() / b.norm()) if there else np.nan)
    return np.reshape(found, (2, 24))


@pytest.mark.parametrize(
    ("family", "precision"),
    [(family, ("bf16", "fp16")[i % 2]) for i, family in enumerate(FAMILIES)],
)
def test_in_half_precision_the_same_is_kept_to_the_precision_of_the_model(make, family, pixels, precision):
    backbone = make(family)
    _, exact, _ = taken(backbone, pixels, append(2))
    _, found, specs = taken(backbone, pixels, append(2), precision)
    for name, array in found.items():
        assert array.dtype == specs[name].dtype, name
        there = np.isfinite(exact[name])
        if not there.any():  # ranks where no head has a sink
            assert name == "sink_ranks"
            continue
        scale = np.abs(exact[name][there]).mean()
        error = np.abs(array.astype(float) - exact[name])[there].mean()
        assert error < (0.1 if precision == "bf16" else 0.02) * scale, name


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
    assert list(Projections(backbone, backbone.layout, {"k": [-1, 2, 0]}).specs()) == ["k_00", "k_02"]


@pytest.mark.parametrize("layer", [3, -4])
def test_a_layer_that_is_not_there_is_refused_by_its_key(make, layer):
    backbone = make("dinov2")
    with pytest.raises(InputError, match=rf"extraction.projections.v: layer {layer} for model 'dinov2' of 3 blocks"):
        Projections(backbone, backbone.layout, {"v": [0, layer]})
    with pytest.raises(InputError, match=rf"extraction.patch_layers: layer {layer} for model 'dinov2' of 3 blocks"):
        PatchesByLayer(backbone, backbone.layout, [layer])


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
