"""Replacements, restricted attention and chains, against one image at a time, one token at a time."""

import itertools
from dataclasses import replace

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vit_registers.core.errors import InputError
from vit_registers.core.seeds import derive
from vit_registers.forward import rows
from vit_registers.interventions.activation_statistics import Moments
from vit_registers.interventions.applied import applied, derangement
from vit_registers.interventions.values import (
    Append,
    Chain,
    MoveNeurons,
    Replace,
    RestrictClsAttention,
    check,
    described,
)

ROWS = [40, 3, 17, 4, 90]  # of the five images
WITH_REGISTERS = ("dinov2_reg4", "dinov3", "deit3_reg4")


def some_moments(backbone):
    draw, shape = torch.Generator().manual_seed(5), (backbone.depth, len(backbone.layout.specials), backbone.width)
    mean, donors = torch.randn(shape, generator=draw), torch.randn(7, *shape, generator=draw)
    sd = torch.rand(shape, generator=draw) + 0.5
    flat = (backbone.depth, backbone.width)
    patches = torch.randn(flat, generator=draw), torch.rand(flat, generator=draw)
    return Moments(mean, sd, *patches, donors, "digest")


def passed(backbone, pixels, intervention, of=ROWS):
    """Outputs of every block (b, layers, t, d) and tokens after the final norm (b, t, d)."""
    outputs = []
    with applied(backbone, intervention), torch.inference_mode():
        handles = [block.register_forward_hook(lambda m, i, o: outputs.append(o)) for block in backbone.blocks]
        rows.announce(of)
        final = backbone.module.forward_features(pixels)
        for handle in handles:
            handle.remove()
    return torch.stack(outputs, dim=1), final


def positions(how, layout, row):
    """Tokens of one image that are replaced."""
    if how.tokens == "cls":
        return [0]
    if how.tokens == "registers":
        return [1 + i for i in (range(layout.registers) if how.only is None else how.only)]
    order = torch.randperm(layout.patches, generator=torch.Generator().manual_seed(derive(how.seed, "patches", row)))
    return [layout.prefix + int(i) for i in order[: how.count]]


def value(how, backbone, layer, token, row):
    """What one token of one image is replaced by; for all kinds that look at no other image of the batch."""
    moments, number = how.moments, positions(how, backbone.layout, row).index(token)
    if how.by == "zero":
        return torch.zeros(backbone.width, dtype=torch.float64)
    if how.by == "shuffled":
        return moments.donors[derive(how.seed, "donor", row) % 7][layer][token].double()
    patch = how.tokens == "patches"
    mean, sd = (
        (moments.patch_mean[layer], moments.patch_sd[layer])
        if patch
        else (moments.mean[layer][token], moments.sd[layer][token])
    )
    if how.by == "mean":
        return mean.double()
    count = len(positions(how, backbone.layout, row))
    draw = torch.Generator().manual_seed(derive(how.seed, "noise", row))
    noise = torch.randn(backbone.depth, count, backbone.width, generator=draw)
    return (mean + sd * noise[layer, number]).double()


CASES = [
    Replace("cls", "mean", moments=True),
    Replace("cls", "noise", seed=3, moments=True),
    Replace("registers", "zero"),
    Replace("registers", "mean", moments=True),
    Replace("registers", "noise", seed=4, moments=True),
    Replace("registers", "shuffled", donors="calibration", seed=4, moments=True),
    Replace("registers", "zero", only=(2,)),
    Replace("registers", "noise", only=(0, 3), seed=8, moments=True),
    Replace("patches", "zero", count=4, seed=1),
    Replace("patches", "mean", count=3, seed=1, moments=True),
    Replace("patches", "noise", count=5, seed=2, moments=True),
]


def told(case):
    return f"{case.tokens}-{case.by}-{case.only or case.count or 'all'}"


@pytest.mark.parametrize("at", ["every", "last"])
@pytest.mark.parametrize("case", CASES, ids=told)
@pytest.mark.parametrize("name", WITH_REGISTERS)
def test_a_batch_gives_what_each_image_gives_by_hand(make, pixels, by_hand, name, case, at):
    backbone = make(name, torch.float64)
    how = replace(case, at=at, moments=some_moments(backbone) if case.moments else None)
    outputs, final = passed(backbone, pixels.double(), how)
    plain = passed(backbone, pixels.double(), None)[1]
    assert (final - plain).abs().amax() > 1e-3
    for image, row in enumerate(ROWS):

        def changed(layer, x, row=row):
            if at == "last" and layer < backbone.depth - 1:
                return x
            x = x.clone()
            for token in positions(how, backbone.layout, row):
                x[token] = value(how, backbone, layer, token, row)
            return x

        expected = by_hand(backbone, pixels[image].double(), change_output=changed)
        torch.testing.assert_close(final[image], expected.final, rtol=0, atol=1e-10)
        torch.testing.assert_close(outputs[image], torch.stack(expected.outputs), rtol=0, atol=1e-10)


@pytest.mark.parametrize("case", [case for case in CASES if case.seed], ids=told)
def test_draws_belong_to_the_image_and_not_to_its_batch(make, pixels, case):
    backbone = make("dinov2_reg4", torch.float64)
    how = replace(case, moments=some_moments(backbone))
    together = passed(backbone, pixels.double(), how)[1]
    for image, row in enumerate(ROWS):
        alone = passed(backbone, pixels[image : image + 1].double(), how, [row])[1]
        torch.testing.assert_close(alone[0], together[image], rtol=0, atol=1e-10)
    other = passed(backbone, pixels.double(), replace(how, seed=how.seed + 1))[1]
    assert (other - together).abs().amax(dim=(1, 2)).min() > 1e-3  # of every image


def test_noise_has_the_mean_and_deviation_that_calibration_found(make):
    backbone = make("dinov2_reg4")
    how = Replace("registers", "noise", at="last", seed=1, moments=some_moments(backbone))
    many = torch.zeros(400, 3, 32, 48)
    drawn = passed(backbone, many, how, range(400))[0][:, -1, backbone.layout.register_slice]
    error = (drawn.mean(0) - how.moments.mean[-1, 1:]) / how.moments.sd[-1, 1:] * 20
    assert error.abs().max() < 4.5  # standard errors, of 128 numbers
    torch.testing.assert_close(drawn.std(0), how.moments.sd[-1, 1:], rtol=0.2, atol=0)


@pytest.mark.parametrize("tokens", ["cls", "registers"])
def test_shuffled_in_the_batch_every_image_gets_anothers_at_every_block(make, pixels, by_hand, tokens):
    """Images are passed by hand again and again, a block further each time, with what donors had at earlier blocks."""
    backbone = make("dinov2_reg4", torch.float64)
    how = Replace(tokens, "shuffled", seed=6)
    donor = derangement(5, how.seed).tolist()
    place = positions(how, backbone.layout, 0)
    given_at: list[list[torch.Tensor]] = []  # by layer and image, what stands there after the replacement
    for layer in range(backbone.depth):
        raw = []
        for image, picture in enumerate(pixels.double()):

            def changed(at, x, image=image, until=layer):
                if at < until:
                    x = x.clone()
                    x[place] = given_at[at][image]
                return x

            raw.append(by_hand(backbone, picture, change_output=changed).outputs[layer])
        given_at.append([raw[donor[image]][place] for image in range(5)])
    outputs, _ = passed(backbone, pixels.double(), how)
    for layer, image in itertools.product(range(backbone.depth), range(5)):
        torch.testing.assert_close(outputs[image, layer, place], given_at[layer][image], rtol=0, atol=1e-10)


@given(st.integers(2, 40), st.integers(0, 2**60))
def test_a_derangement_moves_every_image_and_is_one_cycle(images, seed):
    donor = derangement(images, seed).tolist()
    assert sorted(donor) == list(range(images))
    seen, at = set(), 0
    while at not in seen:
        seen.add(at)
        at = donor[at]
    assert len(seen) == images


def test_a_batch_of_one_cannot_be_shuffled(make, pixels):
    with pytest.raises(InputError, match=r"cannot be shuffled in a batch of one image; raise extraction\.batch_size"):
        passed(make("dinov2_reg4"), pixels[:1], Replace("registers", "shuffled"), [3])


def test_images_that_were_not_announced_are_a_mistake_and_not_a_draw(make, pixels):
    with pytest.raises(RuntimeError, match="a batch of 5 images passes, but 2 rows were announced"):
        passed(make("dinov2"), pixels, Replace("patches", count=1), [1, 2])


# --- restricted attention of [CLS] -----------------------------------------------------------------------------------


def allowed(layout, to):
    whole = list(range(layout.length))
    patches, appended = whole[layout.patch_slice], whole[layout.appended_slice]
    return {"patches": patches, "registers": whole[layout.register_slice] + appended, "nothing": []}[to]


@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize(
    ("name", "to", "appended"),
    [(name, "patches", 0) for name in ("dinov2", "dinov2_reg4", "dinov3", "clip", "swiglu_packed")]
    + [(name, "registers", 0) for name in WITH_REGISTERS]
    + [("dinov2", "registers", 2), ("deit3_reg4", "registers", 2), ("clip", "nothing", 0)],
)
def test_cls_sums_over_the_allowed_tokens_only(make, pixels, by_hand, name, to, appended, skip):
    backbone = make(name, torch.float64)
    restricted = RestrictClsAttention(to, skip)
    how = Chain((Append(appended), restricted)) if appended else restricted
    layout, last = backbone.layout.with_appended(appended), backbone.depth - 1

    def weights(layer, map_):
        if layer == last:
            map_ = map_.clone()
            for token in range(layout.length):
                if token not in allowed(layout, to):
                    map_[:, 0, token] = 0.0
        return map_

    def left_out(layer, x):
        if layer == last and not skip:
            x = x.clone()
            x[0] = 0.0
        return x

    outputs, final = passed(backbone, pixels.double(), how)
    for image, picture in enumerate(pixels.double()):
        expected = by_hand(backbone, picture, appended=appended, change_weights=weights, change_skip=left_out)
        torch.testing.assert_close(final[image], expected.final, rtol=0, atol=1e-5)
        torch.testing.assert_close(outputs[image], torch.stack(expected.outputs), rtol=0, atol=1e-5)


def test_the_parts_add_up_to_the_whole(make, pixels):
    """Attention outputs of [CLS] over patches and registers are the full one less [CLS]'s own: they are its addends."""
    backbone, found = make("dinov2_reg4", torch.float64), {}
    attn = backbone.blocks[-1].attn
    for name, how in (("whole", None), *((to, RestrictClsAttention(to)) for to in ("patches", "registers", "nothing"))):
        handle = attn.proj.register_forward_pre_hook(
            lambda m, inputs, name=name: found.__setitem__(name, inputs[0][:, 0])
        )
        passed(backbone, pixels.double(), how)
        handle.remove()
    assert found["nothing"].abs().max() == 0
    own = found["whole"] - found["patches"] - found["registers"]
    values = []
    handle = attn.register_forward_pre_hook(lambda m, inputs: values.append(inputs[0]))
    passed(backbone, pixels.double(), None)
    handle.remove()
    q, k, v = attn.qkv(values[0]).reshape(5, -1, 3, attn.num_heads, 16).permute(2, 0, 3, 1, 4)
    weights = (q @ k.transpose(-1, -2) / 4).softmax(-1)
    expected = (weights[:, :, :1, :1] * v[:, :, :1]).transpose(1, 2).reshape(5, -1)
    torch.testing.assert_close(own, expected, rtol=0, atol=1e-5)


# --- chains ----------------------------------------------------------------------------------------------------------

PARTS = [
    Replace("cls", "zero"),
    Replace("registers", "mean", moments=True),
    Replace("patches", "zero", count=2, seed=5),
    MoveNeurons(((0, 3), (1, 17)), 2),
    RestrictClsAttention("patches"),
]


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.permutations(PARTS).flatmap(lambda order: st.integers(2, len(order)).map(lambda n: order[:n])))
def test_interventions_on_different_tokens_commute(make, order):
    backbone = make("dinov2_reg4", torch.float64)
    pixels = torch.randn(3, 3, 32, 48, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    known = some_moments(backbone)
    parts = [replace(p, moments=known) if isinstance(p, Replace) and p.moments else p for p in order]
    one = passed(backbone, pixels, Chain(tuple(parts)), ROWS[:3])
    other = passed(backbone, pixels, Chain(tuple(reversed(parts))), ROWS[:3])
    assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_a_chain_of_one_token_twice_leaves_the_later(make, pixels):
    backbone = make("dinov2_reg4", torch.float64)
    mean = Replace("registers", "mean", moments=some_moments(backbone))
    both = passed(backbone, pixels.double(), Chain((Replace("registers"), mean)))[1]
    assert torch.equal(both, passed(backbone, pixels.double(), mean)[1])


@pytest.mark.parametrize(
    ("name", "how", "message"),
    [
        ("dinov2_reg4", Replace("registers", only=(4,)), "has 4 registers, numbered from 0; `only: \\[4\\]`"),
        ("dinov2_reg4", Replace("registers", "mean"), "needs calibration before its registers can be replaced by mean"),
        ("dinov2", Replace("patches", count=25), "has 24 patches; it cannot be that 25 of them"),
        ("dinov2", Replace("patches"), "has 24 patches; it cannot be that 0 of them"),
        ("dinov2", Replace("patches", "shuffled", count=1, donors="calibration"), "has no patches among its"),
        ("dinov2", RestrictClsAttention("registers"), "has no registers that \\[CLS\\] could be restricted to"),
        ("without_cls", RestrictClsAttention("patches"), "has no \\[CLS\\] whose attention"),
        ("dinov2", Chain((Append(1), MoveNeurons(((0, 1),), 2))), "appends tokens twice"),
    ],
    ids=str,
)
def test_what_cannot_be_done_is_refused_before_any_image(make, name, how, message):
    with pytest.raises(InputError, match=message):
        check(make(name), how)


def test_descriptions_tell_interventions_apart_and_name_moments_by_their_file(make):
    moments = some_moments(make("dinov2_reg4"))
    mean = Replace("registers", "mean", moments=moments)
    assert described(mean)["moments"] == "digest"
    assert described(Chain((Append(2), mean))) == [described(Append(2)), described(mean)]
    assert described(None) is None
    everything = [*CASES, *PARTS, RestrictClsAttention("patches", skip=True)]
    everything = [replace(c, moments=moments) if isinstance(c, Replace) and c.moments else c for c in everything]
    assert len({str(described(case)) for case in everything}) == len(set(everything))
