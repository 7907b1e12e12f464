"""The streamed scorer against an image-by-image version with hooks and loops of its own."""

import numpy as np
import pytest
import torch
from timm.layers import SwiGLUPacked
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer

from vit_registers.forward.reading import reading
from vit_registers.models.backbone import Backbone
from vit_registers.models.layout import TokenLayout
from vit_registers.models.preprocess import Preprocess
from vit_registers.registers.neurons import NeuronScores, output_norms, ranking, resample_counts, scored

SHAPE = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 4, "num_heads": 2, "num_classes": 0}
KINDS = {  # how to make one, its [CLS] and registers, and the scale of weights at which neurons are often silent
    "mlp": (lambda: VisionTransformer(**SHAPE, reg_tokens=2), 1, 2, 0.3),
    "swiglu packed": (
        lambda: VisionTransformer(**SHAPE, mlp_layer=SwiGLUPacked, class_token=False, global_pool="avg"),
        0,
        0,
        0.5,
    ),
    "swiglu": (lambda: Eva(**SHAPE, swiglu_mlp=True, use_rot_pos_emb=True, num_reg_tokens=1), 1, 1, 0.5),
}
OUTLIERS, HIGHEST = -1, 2
IMAGES = torch.randn(11, 3, 32, 32, generator=torch.Generator().manual_seed(3))


def make(kind):
    with torch.random.fork_rng():
        torch.manual_seed(5)
        build, cls, registers, scale = KINDS[kind]
        module = build().eval().requires_grad_(False)
        for parameter in module.parameters():
            if parameter.ndim == 2:
                parameter.normal_(0.0, scale)
    preprocess = Preprocess.square(32, 32, "bicubic", (0.5,) * 3, (0.5,) * 3)
    return Backbone(kind, module, TokenLayout(cls, registers, (4, 4)), preprocess, {})


@pytest.fixture(scope="module", params=list(KINDS))
def backbone(request):
    return make(request.param)


def record(backbone):
    """Per image: activations (tokens, h) of every layer before fc2, and norms (patches) at the outlier layer."""
    images = []
    for image in IMAGES:
        inputs, outputs, handles = [], [], []
        for block in backbone.module.blocks:
            handles.append(block.mlp.fc2.register_forward_hook(lambda m, i, o, into=inputs: into.append(i[0][0])))
            handles.append(block.register_forward_hook(lambda m, i, o, into=outputs: into.append(o[0])))
        with torch.inference_mode():
            backbone.module.forward_features(image[None])
        for handle in handles:
            handle.remove()
        first = backbone.layout.cls + backbone.layout.registers
        norms = [sum(float(x) ** 2 for x in token) ** 0.5 for token in outputs[OUTLIERS][first:]]
        images.append(([a[first:].double().numpy() for a in inputs], norms, [a.double().numpy() for a in inputs]))
    return images


def threshold(recorded):
    """Some images have outliers, some none: between the largest norms of the images in the middle."""
    highest = sorted(max(norms) for _, norms, _ in recorded)
    return (highest[4] + highest[5]) / 2


def slow(recorded, limit, sparsity, tokens="patches"):
    """Scores (layers, h) by the letter of the protocol, one image, one layer and one neuron's patches at a time."""
    total, affected = None, 0
    for activations, norms, of_all in recorded:
        outliers = [i for i, norm in enumerate(norms) if norm > limit]
        if not outliers:
            continue
        score = np.zeros((HIGHEST + 1, activations[0].shape[1]))
        for layer in range(HIGHEST + 1):
            for neuron in range(score.shape[1]):
                values = activations[layer][:, neuron]
                judged = (activations if tokens == "patches" else of_all)[layer][:, neuron]
                sparse = sum(1 for x in judged if (x if sparsity == "signed" else abs(x)) < 0.5) >= len(judged) / 2
                if sparsity == "off" or sparse:
                    score[layer, neuron] = np.mean([abs(values[i]) for i in outliers])
        total = score if total is None else total + score
        affected += 1
    return total / affected


def streamed(backbone, limit, sparsity, counts, sizes=(4, 4, 3), outliers=OUTLIERS, highest=HIGHEST, tokens="patches"):
    reader = NeuronScores(backbone, outliers, highest, limit, sparsity, counts, tokens)
    with reading(backbone, [reader], "fp32") as forward:
        for batch in IMAGES.split(list(sizes)):
            forward(batch)
    return reader


@pytest.mark.parametrize("sparsity", ["off", "signed", "absolute"])
def test_scores_equal_those_of_one_image_at_a_time(backbone, sparsity):
    recorded = record(backbone)
    limit = threshold(recorded)
    affected = sum(max(norms) > limit for _, norms, _ in recorded)
    assert 0 < affected < len(IMAGES)
    counts = resample_counts(len(IMAGES), 5, np.random.default_rng(1))
    scores, resampled = streamed(backbone, limit, sparsity, counts).scores()
    expected = slow(recorded, limit, sparsity)
    np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-6)
    assert ranking(scores, 10) == ranking(expected, 10)
    if sparsity != "off":
        assert not np.allclose(expected, slow(recorded, limit, "off")), "the filter must have something to do here"
    for sample, times in zip(resampled, counts, strict=True):  # a resample is a list of images, some of them repeated
        drawn = [recorded[i] for i in np.repeat(np.arange(len(IMAGES)), times)]
        np.testing.assert_allclose(sample, slow(drawn, limit, sparsity), rtol=1e-4, atol=1e-6)


def test_the_size_of_batches_does_not_matter_and_nothing_of_a_batch_is_kept(backbone):
    limit = threshold(record(backbone))
    counts = resample_counts(len(IMAGES), 3, np.random.default_rng(1))
    one, many = (streamed(backbone, limit, "off", counts, sizes) for sizes in ([11], [1] * 11))
    np.testing.assert_allclose(one.scores()[0], many.scores()[0], rtol=1e-5)
    np.testing.assert_allclose(one.scores()[1], many.scores()[1], rtol=1e-5)
    assert many.held == []
    assert many.outliers is None
    assert many.total.shape == (4, HIGHEST + 1, backbone.module.blocks[0].mlp.fc2.in_features)


def test_layers_count_from_the_end_where_negative(backbone):
    limit = threshold(record(backbone))
    counts = resample_counts(len(IMAGES), 1, np.random.default_rng(1))
    expected = streamed(backbone, limit, "off", counts, outliers=3, highest=2).scores()[0]
    np.testing.assert_array_equal(streamed(backbone, limit, "off", counts, highest=-2).scores()[0], expected)
    assert expected.shape[0] == 3


def test_a_later_highest_layer_than_the_outlier_layer_is_ranked_as_well():
    backbone = make("mlp")
    counts = resample_counts(len(IMAGES), 1, np.random.default_rng(1))
    scores = streamed(backbone, 0.0, "off", counts, outliers=0, highest=-1).scores()[0]
    assert scores.shape[0] == 4
    assert (scores[3] > 0).all()


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_activations_of_half_precision_are_averaged_in_full(precision):
    """Rounding of the average would be a relative 4e-3 (bf16) or 5e-4 (fp16): enough to make ties in the ranking."""
    backbone = make("mlp")
    seen = []
    handles = [b.mlp.fc2.register_forward_hook(lambda m, i, o: seen.append(i[0])) for b in backbone.module.blocks]
    counts = resample_counts(1, 1, np.random.default_rng(1))
    reader = NeuronScores(backbone, OUTLIERS, HIGHEST, 0.0, "off", counts)  # every patch is an outlier
    with reading(backbone, [reader], precision) as forward:
        forward(IMAGES[:1])
    for handle in handles:
        handle.remove()
    assert seen[0].dtype == {"bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    expected = [layer[0, backbone.layout.patch_slice].double().abs().mean(0).numpy() for layer in seen[: HIGHEST + 1]]
    np.testing.assert_allclose(reader.scores()[0], expected, rtol=1e-5)


def fed(sparsity, values, tokens="patches", others=0.0):
    """Score of one neuron of one image whose last patch is the outlier, its patches' activations given."""
    backbone = make("mlp")
    reader = NeuronScores(backbone, OUTLIERS, 0, 1.0, sparsity, np.zeros((0, 1), dtype=int), tokens)
    at, layout = reader.patches, backbone.layout
    activations = torch.full((1, layout.length, 96), others)
    activations[0, at, 7] = torch.tensor(values)
    tokens = torch.zeros(1, layout.length, 24)
    tokens[0, at.stop - 1, 0] = 2.0
    tokens[0, 0] = 100.0  # [CLS] is never an outlier
    reader.activation(0, activations)
    reader.block(3, tokens)
    reader.final(tokens)
    return float(reader.scores()[0][0, 7])


@pytest.mark.parametrize(
    ("values", "off", "signed", "absolute"),
    [
        ([0.1] * 15 + [-4.0], 4.0, 4.0, 4.0),  # silent but at the outlier
        ([-3.0] * 15 + [-4.0], 4.0, 4.0, 0.0),  # large negatives: sparse to the published code only
        ([3.0] * 8 + [0.1] * 7 + [4.0], 4.0, 0.0, 0.0),  # seven of sixteen are small
        ([3.0] * 7 + [0.1] * 8 + [4.0], 4.0, 4.0, 4.0),  # half are
    ],
)
def test_the_sparsity_filter_tells_signed_from_absolute(values, off, signed, absolute):
    scores = [fed(sparsity, values) for sparsity in ("off", "signed", "absolute")]
    assert scores == pytest.approx([off, signed, absolute])


@pytest.mark.parametrize("sparsity", ["signed", "absolute"])
def test_all_tokens_are_judged_as_published_where_asked(backbone, sparsity):
    recorded = record(backbone)
    limit, counts = threshold(recorded), np.zeros((0, len(IMAGES)), dtype=int)
    scores = streamed(backbone, limit, sparsity, counts, tokens="all").scores()[0]
    np.testing.assert_allclose(scores, slow(recorded, limit, sparsity, "all"), rtol=1e-4, atol=1e-6)


def test_cls_and_registers_may_decide_what_is_sparse():
    """Eight of sixteen patches are small: sparse, unless [CLS] and the two registers count and are not."""
    values = [3.0] * 7 + [0.1] * 8 + [4.0]
    assert fed("absolute", values, "all", others=9.0) == 0.0
    assert fed("absolute", values, "patches", others=9.0) == 4.0
    assert fed("absolute", values, "all", others=0.0) == 4.0


def test_what_a_neuron_writes_is_its_column_by_the_layer_scale():
    """The residual stream of a block, with one activation raised by 1, changes by that much (slow: one by one)."""
    with torch.random.fork_rng():
        torch.manual_seed(5)
        scaled = VisionTransformer(**SHAPE, init_values=0.1).eval().requires_grad_(False)
        eva = Eva(**SHAPE, swiglu_mlp=True, use_rot_pos_emb=True, init_values=0.2).eval().requires_grad_(False)
    preprocess = Preprocess.square(32, 32, "bicubic", (0.5,) * 3, (0.5,) * 3)
    for module in (make("mlp").module, scaled, eva):
        backbone = Backbone("m", module, TokenLayout(1, 0, (4, 4)), preprocess, {})
        norms = output_norms(backbone, 2)
        assert norms.shape == (2, module.blocks[0].mlp.fc2.in_features)
        for layer, neuron in ((0, 3), (1, 40)):
            with torch.inference_mode():
                before, after = written(module, layer, neuron, 0.0), written(module, layer, neuron, 1.0)
            assert norms[layer, neuron] == pytest.approx(float((after - before).norm()), rel=1e-3)
        scores = np.random.default_rng(0).random((3, *norms.shape))
        np.testing.assert_array_equal(scored(scores, "activation", backbone), scores)
        np.testing.assert_allclose(scored(scores, "contribution", backbone), scores * norms)


def written(module, layer, neuron, raised):
    """Output of a block at its third token, with ``raised`` added to one neuron's activation there."""
    outputs = []

    def raise_it(site, arguments):
        activations = arguments[0].clone()
        activations[0, 3, neuron] += raised
        return (activations,)

    handles = [
        module.blocks[layer].mlp.fc2.register_forward_pre_hook(raise_it),
        module.blocks[layer].register_forward_hook(lambda m, i, o: outputs.append(o[0, 3].double())),
    ]
    module.forward_features(IMAGES[:1])
    for handle in handles:
        handle.remove()
    return outputs[0]


def test_ranking_is_by_score_and_ties_go_to_the_earlier_neuron():
    scores = np.array([[1.0, 3.0, 0.0], [3.0, 5.0, 1.0]])
    assert ranking(scores) == [(1, 1), (0, 1), (1, 0), (0, 0), (1, 2), (0, 2)]
    assert ranking(scores, 2) == [(1, 1), (0, 1)]


def test_many_ties_are_all_in_order():
    scores = np.zeros((3, 50))
    scores[1, ::2] = 1.0
    order = ranking(scores)
    assert order[:25] == [(1, index) for index in range(0, 50, 2)]
    assert order[25:] == sorted(order[25:])


def test_every_resample_draws_as_many_images_as_there_are_and_the_seed_says_which():
    counts = resample_counts(9, 400, np.random.default_rng(2))
    assert counts.shape == (400, 9)
    assert (counts.sum(axis=1) == 9).all()
    assert abs((counts == 0).mean() - (8 / 9) ** 9) < 0.03
    np.testing.assert_array_equal(counts, resample_counts(9, 400, np.random.default_rng(2)))
