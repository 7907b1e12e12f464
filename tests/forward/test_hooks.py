"""The hook engine: what callbacks are given, what they may change, and that nothing of them stays."""

import ast
from pathlib import Path

import pytest
import torch

from vit_registers.core.errors import InputError
from vit_registers.forward import hooks as engine
from vit_registers.forward.hooks import hooked

SITES = {
    "before_blocks": lambda backbone: engine.before_blocks(backbone),
    "block": lambda backbone: engine.block(backbone, 1),
    "first_norm": lambda backbone: engine.first_norm(backbone, 1),
    "attention": lambda backbone: engine.attention(backbone, 1),
    "after_blocks": lambda backbone: engine.after_blocks(backbone),
}


def hooks(backbone):
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in backbone.module.modules())


def test_sites_pass_what_their_names_say(make, family, pixels, by_hand):
    """One image at a time, with every layer written out."""
    backbone, seen = make(family, torch.float64), {}
    with hooked() as on, torch.inference_mode():
        on.output(engine.patch_embedding(backbone), lambda x: seen.__setitem__("embedding", x))
        on.input(engine.patch_embedding(backbone), lambda x: seen.__setitem__("images", x))
        on.input(engine.after_blocks(backbone), lambda x: seen.__setitem__("last", x))
        on.output(engine.after_blocks(backbone), lambda x: seen.__setitem__("final", x))
        for layer in range(backbone.depth):
            for name in ("block", "first_norm", "attention", "second_linear"):
                site = getattr(engine, name)(backbone, layer)
                on.input(site, lambda x, key=(name, layer): seen.__setitem__(key, x))
            on.output(engine.block(backbone, layer), lambda x, key=("out", layer): seen.__setitem__(key, x))
        backbone.module.forward_features(pixels.double())
    assert torch.equal(seen["images"], pixels.double())
    assert torch.equal(seen["embedding"], backbone.module.patch_embed(pixels.double()))
    close = {"rtol": 0, "atol": 1e-10}
    for image, picture in enumerate(pixels.double()):
        expected = by_hand(backbone, picture)
        torch.testing.assert_close(seen["final"][image], expected.final, **close)
        torch.testing.assert_close(seen["last"][image], expected.outputs[-1], **close)
        for layer in range(backbone.depth):
            torch.testing.assert_close(seen["out", layer][image], expected.outputs[layer], **close)
            torch.testing.assert_close(seen["second_linear", layer][image], expected.activations[layer], **close)
            entering = seen["block", layer][image]
            if layer:
                torch.testing.assert_close(entering, expected.outputs[layer - 1], **close)
            assert torch.equal(seen["first_norm", layer][image], entering)
            normed = backbone.blocks[layer].norm1(entering)
            torch.testing.assert_close(seen["attention", layer][image], normed, **close)


@pytest.mark.parametrize("site", SITES.values(), ids=SITES)
@pytest.mark.parametrize("end", ["input", "output"])
def test_callbacks_run_in_order_and_later_ones_see_what_earlier_ones_made(make, pixels, site, end):
    backbone, seen = make("dinov2_reg4"), []

    def reads(x):
        seen.append(x)

    with hooked() as on, torch.inference_mode():
        before = backbone.module.forward_features(pixels)
        place, at = getattr(on, end), site(backbone)
        place(at, reads)
        place(at, lambda x: x + 1.0)
        place(at, reads)
        place(at, lambda x: 2.0 * x)
        place(at, reads)
        changed = backbone.module.forward_features(pixels)
    first, second, third = seen
    assert torch.equal(second, first + 1.0)
    assert torch.equal(third, 2.0 * second)
    assert not torch.equal(changed, before)
    with torch.inference_mode():
        assert torch.equal(backbone.module.forward_features(pixels), before)


def test_a_keyword_argument_is_read_and_replaced_where_it_is_given(make, pixels):
    backbone, seen = make("dinov3"), []
    with hooked() as on, torch.inference_mode():
        expected = backbone.module.forward_features(pixels)
        for layer in range(backbone.depth):
            on.keyword(engine.block(backbone, layer), "rope", lambda rope: seen.append(rope))
            on.keyword(engine.block(backbone, layer), "attn_mask", lambda mask: seen.append(mask))
        assert torch.equal(backbone.module.forward_features(pixels), expected)
        assert len(seen) == backbone.depth  # no mask is given
        on.keyword(engine.block(backbone, 0), "rope", torch.zeros_like)
        on.keyword(engine.block(backbone, 0), "rope", lambda rope: seen.append(rope))
        assert not torch.equal(backbone.module.forward_features(pixels), expected)
        assert not seen[-backbone.depth].any()  # behind the replacement of the first block


def test_a_keyword_that_no_block_is_given_is_not_called(make, pixels):
    backbone = make("dinov2")
    with hooked() as on, torch.inference_mode():
        on.keyword(engine.block(backbone, 0), "rope", lambda rope: pytest.fail("there is none"))
        backbone.module.forward_features(pixels)


@pytest.mark.parametrize("fails", ["in the pass", "between passes", "not at all"])
def test_no_hook_stays_whatever_happens(make, pixels, fails):
    backbone = make("dinov2")

    def callback(x):
        if fails == "in the pass":
            raise ZeroDivisionError

    def passes():
        with hooked() as on:
            on.input(engine.block(backbone, 1), callback)
            on.output(engine.block(backbone, 1), callback)
            on.keyword(engine.block(backbone, 1), "rope", callback)
            assert hooks(backbone) == 3
            backbone.module.forward_features(pixels)
            if fails == "between passes":
                raise ZeroDivisionError

    if fails == "not at all":
        passes()
    else:
        with pytest.raises(ZeroDivisionError):
            passes()
    assert hooks(backbone) == 0


def test_contexts_end_independently(make):
    backbone = make("dinov2")
    with hooked() as outer:
        outer.input(engine.block(backbone, 0), lambda x: None)
        with hooked() as inner:
            inner.input(engine.block(backbone, 0), lambda x: None)
            outer.output(engine.block(backbone, 0), lambda x: None)
            assert hooks(backbone) == 3
        assert hooks(backbone) == 2
    assert hooks(backbone) == 0


@pytest.mark.parametrize(("which", "name"), [("first", "fc1"), ("second", "fc2")])
def test_an_mlp_without_the_linear_layer_is_refused_by_name(make, which, name):
    backbone = make("dinov2")
    site = getattr(engine, f"{which}_linear")
    assert site(backbone, 0) is getattr(backbone.blocks[0].mlp, name)
    setattr(backbone.blocks[1].mlp, name, torch.nn.Identity())
    with pytest.raises(InputError, match=rf"model 'dinov2': block 1 has no MLP with a {which} linear layer {name}"):
        site(backbone, 1)


def test_no_other_module_registers_hooks():
    """What interventions register themselves still stands in ``applied``."""
    found = set()
    for path in Path(engine.__file__).parents[1].rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and node.attr.startswith("register_") and node.attr.endswith("_hook"):
                found.add(path.name)
    assert found == {"hooks.py"}
