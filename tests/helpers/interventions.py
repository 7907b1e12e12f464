"""Interventions as they are applied, made by hand, and passes under them."""

import statistics
from dataclasses import replace

import torch

from vit_registers.forward.hooks import second_linear
from vit_registers.forward.reading import announce_rows
from vit_registers.interventions.activation_statistics import ActivationStatistics
from vit_registers.interventions.base import applied
from vit_registers.interventions.kinds.ablate import Ablate, Ablation
from vit_registers.interventions.kinds.append import Append, AppendedTokens
from vit_registers.interventions.kinds.chain import AppliedChain
from vit_registers.interventions.kinds.clip_norms import ClipNorms, ClippedNorms
from vit_registers.interventions.kinds.edit_sink_values import EditedSinkValues, EditSinkValues
from vit_registers.interventions.kinds.interpolate_outliers import InterpolatedOutliers, InterpolateOutliers
from vit_registers.interventions.kinds.redirect_sinks import RedirectedSinks, RedirectSinks
from vit_registers.interventions.kinds.restrict_cls_attention import RestrictClsAttention, RestrictedAttention
from vit_registers.interventions.kinds.shift_average import AveragedShifts, ShiftAverage
from vit_registers.interventions.kinds.test_time_registers import MovedNeurons, TestTimeRegisters

# What detection wrote of a tiny model of three blocks: artifacts arise in block 1, the last one decides.
DETECTED = {
    "found": True,
    "top_k": 4,
    "neurons": [[1, 5, 9.0], [0, 7, 8.0], [1, 2, 7.0], [1, 90, 6.0]],
    "first_layer": 1,
    "outlier_layer": 2,
    "threshold_by_layer": [6.0, 7.0, 8.0],
    "images_ranked": 50,
}
NONE_FOUND = {"found": False, "top_k": 4, "neurons": [], "reason": "no outlier patches found: 0.00% of the patches"}
ROWS = [40, 3, 17, 4, 90]  # of the manifest: the five images of the fixture ``pixels``


def append(tokens):
    return AppendedTokens(Append(tokens=tokens))


def move(neurons, tokens, **settings):
    return MovedNeurons(TestTimeRegisters(tokens=tokens, **settings), tuple(neurons))


def ablate(tokens, by="zero", *, seed=0, count=0, statistics=None, **settings):
    how = Ablate(tokens=tokens, by=by, count=count or None, **settings)
    return Ablation(how, count, seed, statistics)


def restrict(to, skip=False, cls="drop"):
    return RestrictedAttention(RestrictClsAttention(to=to, skip=skip, cls=cls))


def clip(limits, **settings):
    return ClippedNorms(ClipNorms(**settings), tuple(limits))


def interpolate(blocks, **settings):
    return InterpolatedOutliers(InterpolateOutliers(**settings), tuple(blocks))


def redirect(limits=(), **settings):
    return RedirectedSinks(RedirectSinks(**settings), tuple(limits))


def edit_values(seed=0, statistics=None, **settings):
    return EditedSinkValues(EditSinkValues(**settings), seed, statistics)


def average(*names, **settings):
    return AveragedShifts(ShiftAverage(**settings), names or (0, "shapes", "vit", "averaged"))


def some_limits(backbone, pixels, layers, share=0.7):
    """Thresholds at some blocks that this share of the patches is below, in the model as it is."""
    norms = passed(backbone, pixels)[0][:, :, backbone.layout.patch_slice].norm(dim=-1)
    return tuple((layer, float(norms[:, layer].quantile(share))) for layer in layers)


def chain(*parts):
    return AppliedChain(parts)


def otherwise(ablation, seed=None, **settings):
    """An ablation with other settings, or another seed."""
    how = ablation.how.model_copy(update=settings)
    return replace(ablation, how=how, seed=ablation.seed if seed is None else seed)


def some_statistics(backbone):
    """Activation statistics of nothing, with seven resample sources."""
    draw, shape = torch.Generator().manual_seed(5), (backbone.depth, len(backbone.layout.specials), backbone.width)
    mean, sources = torch.randn(shape, generator=draw), torch.randn(7, *shape, generator=draw)
    sd = torch.rand(shape, generator=draw) + 0.5
    flat = (backbone.depth, backbone.width)
    patches = torch.randn(flat, generator=draw), torch.rand(flat, generator=draw)
    activity = torch.rand(backbone.depth, second_linear(backbone, 0).in_features, generator=draw)
    heads = backbone.blocks[0].attn.num_heads
    sinks = torch.randn(backbone.depth, heads, backbone.width // heads, generator=draw)
    return ActivationStatistics(mean, sd, *patches, sources, activity, "digest", sinks)


def sign_max(values):
    """The published function: the value of largest magnitude, with its sign."""
    return max(values) if abs(max(values)) > abs(min(values)) else min(values)


def slow_move(a, neurons, layout, how):
    """One image's activations (t, h) with neurons moved: a number at a time, as jiang2025 says it."""
    out = a.clone()
    every = list(range(layout.length))
    patches, cls = every[layout.patch_slice], every[layout.cls_slice]
    largest = {"magnitude": sign_max, "signed_maximum": max}[how.value]
    looked_at = {"patches": patches, "all_tokens": every}[how.value_over]
    found = {n: largest([float(a[t, n]) for t in looked_at]) for n in neurons}
    for n in neurons:
        values = [float(a[t, n]) for t in patches]
        mean, sd = sum(values) / len(values), statistics.stdev(values)
        for token in patches + (cls if how.clear_cls else []):
            if how.patches == "zero":
                out[token, n] = 0.0
            elif how.patches == "mean" or (how.patches == "only_outliers" and float(a[token, n]) > mean + sd):
                out[token, n] = mean
        for token in every[layout.appended_slice]:
            out[token, n] = how.scale * (largest(list(found.values())) if how.value_per == "layer" else found[n])
    return out


def slow_sinks(weights, half=0.5, nearly_all=0.9):
    """The most attended token of each head of a softmax map (h, t, t), and whether there is a sink event: by hand."""
    found = []
    for head in weights.tolist():
        tokens = range(len(head))
        means = [sum(row[token] for row in head) / len(head) for token in tokens]
        token = means.index(max(means))
        found.append((token, sum(row[token] >= half for row in head) / len(head) >= nearly_all))
    return found


def passed(backbone, pixels, intervention=None, of=ROWS):
    """Outputs of every block (b, layers, t, d), and tokens after the final norm (b, t, d)."""
    outputs = []
    with applied(backbone, intervention), torch.inference_mode():
        handles = [block.register_forward_hook(lambda m, i, o: outputs.append(o)) for block in backbone.blocks]
        announce_rows(of)
        final = backbone.module.forward_features(pixels)
        for handle in handles:
            handle.remove()
    return torch.stack(outputs, dim=1), final


def weights_of(backbone):
    return {name: tensor.clone() for name, tensor in backbone.module.state_dict().items()}


def assert_untouched(backbone, weights):
    """The model has the ``weights`` that it had, and no hook."""
    now = backbone.module.state_dict()
    assert now.keys() == weights.keys()
    assert all(torch.equal(now[name], weights[name]) for name in weights)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in backbone.module.modules())


def assert_by_hand(backbone, pixels, intervention, one_image, appended=0, tolerance=1e-10, **changes):
    """A batch under the intervention gives what each of its images gives by hand; the model is as it was afterwards.

    Returns the largest change of a token that was there before.
    """
    before, weights = passed(backbone, pixels)[1], weights_of(backbone)
    outputs, tokens = passed(backbone, pixels, intervention)
    assert tokens.shape[1] == backbone.layout.length + appended
    assert_untouched(backbone, weights)
    assert torch.equal(passed(backbone, pixels)[1], before)
    for image, picture in enumerate(pixels):
        expected = one_image(backbone, picture, appended=appended, **changes)
        torch.testing.assert_close(tokens[image], expected.final, rtol=0, atol=tolerance)
        torch.testing.assert_close(outputs[image], torch.stack(expected.outputs), rtol=0, atol=tolerance)
    return (tokens[:, : before.shape[1]] - before).abs().amax()
