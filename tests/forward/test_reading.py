import pytest
import torch

from helpers.interventions import ablate, append, move
from vit_registers.forward import reading as run
from vit_registers.forward.readers.base import Reader
from vit_registers.forward.reading import reading
from vit_registers.interventions.base import applied


class Everything(Reader):
    """Notes what it is given, in order."""

    def __init__(self):
        self.seen = []

    def block(self, layer, tokens):
        self.seen.append(("block", layer, tokens))

    def activation(self, layer, activations):
        self.seen.append(("activation", layer, activations))

    def attention(self, layer, attention):
        self.seen.append(("attention", layer, attention))

    def final(self, tokens):
        self.seen.append(("final", None, tokens))

    def of(self, what):
        return [value for kind, _, value in self.seen if kind == what]


class Outputs(Reader):
    """Reads block outputs only."""

    def __init__(self):
        self.seen = []

    def block(self, layer, tokens):
        self.seen.append(tokens)


def hooks(backbone):
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in backbone.module.modules())


def read(backbone, pixels, intervention=None, precision="fp32"):
    reader = Everything()
    with applied(backbone, intervention), reading(backbone, [reader], precision) as forward:
        forward(pixels)
    return reader


def test_a_batch_is_read_layer_by_layer_and_then_at_its_end(make, family, pixels, by_hand):
    backbone = make(family, torch.float64)
    reader = read(backbone, pixels.double())
    order = [(kind, layer) for layer in range(3) for kind in ("attention", "activation", "block")]
    assert [seen[:2] for seen in reader.seen] == [*order, ("final", None)]
    close = {"rtol": 0, "atol": 1e-10}
    for image, picture in enumerate(pixels.double()):
        expected = by_hand(backbone, picture)
        torch.testing.assert_close(reader.of("final")[0][image], expected.final, **close)
        for layer in range(3):
            torch.testing.assert_close(reader.of("block")[layer][image], expected.outputs[layer], **close)
            torch.testing.assert_close(reader.of("activation")[layer][image], expected.activations[layer], **close)
            torch.testing.assert_close(reader.of("attention")[layer].k[image], expected.keys[layer], **close)


def test_readers_see_what_the_intervention_has_made(make, pixels):
    backbone = make("dinov2_reg4")
    zeroed = read(backbone, pixels, ablate("registers"))
    assert all((tokens[:, 1:5] == 0).all() for tokens in zeroed.of("block"))
    assert all((tokens[:, 5:] != 0).any() for tokens in zeroed.of("block"))
    lengthened, moved = read(backbone, pixels, append(2)), read(backbone, pixels, move(((0, 7),), 2))
    before, after = (reader.of("activation")[0][:, :, 7] for reader in (lengthened, moved))
    assert (before[:, 5:29] != 0).all()
    assert (after[:, 5:29] == 0).all()
    assert torch.equal(after[:, 29:], before[:, 5:29].amax(1, keepdim=True).expand(-1, 2))
    assert torch.equal(after[:, :5], before[:, :5])
    assert [attention.lse.shape[2] for attention in moved.of("attention")] == [31] * 3


def test_only_what_some_reader_reads_is_hooked(make, pixels):
    backbone, reader = make("dinov2"), Outputs()
    with reading(backbone, [Reader()], "fp32") as forward:
        assert hooks(backbone) == 0
        forward(pixels)
    with reading(backbone, [Reader(), reader], "fp32") as forward:
        assert hooks(backbone) == backbone.depth
        forward(pixels)
    assert len(reader.seen) == backbone.depth
    with reading(backbone, [Everything()], "fp32"):
        assert hooks(backbone) == 4 * backbone.depth + 1
    assert hooks(backbone) == 0


@pytest.mark.parametrize("name", ["reg4_gap", "eva02"])
def test_tokens_of_models_that_norm_after_pooling_are_normed_too(make, pixels, name):
    """As the pooled token would be; a model's own output stays what it is."""
    backbone = make(name, torch.float64)
    assert isinstance(backbone.module.norm, torch.nn.Identity)
    reader, norm = read(backbone, pixels.double(), append(2)), backbone.module.fc_norm
    raw, final = reader.of("block")[-1], reader.of("final")[0]
    assert raw.shape == final.shape == (5, backbone.layout.length + 2, 32)
    for token in (0, 7, -1):
        x = raw[2, token]
        centred = x - x.sum() / 32
        by_hand = centred / ((centred * centred).sum() / 32 + norm.eps) ** 0.5 * norm.weight + norm.bias
        torch.testing.assert_close(final[2, token], by_hand, rtol=0, atol=1e-10)
        assert (raw[2, token] - by_hand).abs().max() > 0.1
    with torch.inference_mode():
        assert torch.equal(
            backbone.module.forward_features(pixels.double()), read(backbone, pixels.double()).of("block")[-1]
        )


def test_a_pass_without_readers_of_attention_does_not_touch_it(make, pixels, monkeypatch):
    def forbidden(*arguments):
        raise AssertionError("the tap is in force")

    monkeypatch.setattr(run, "tapped", forbidden)
    reader = Outputs()
    with reading(make("dinov3"), [reader], "fp32") as forward:
        forward(pixels)
    assert len(reader.seen) == 3


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_the_pass_runs_in_the_precision_that_params_ask_for(make, family, pixels, precision):
    backbone = make(family)
    exact, found = read(backbone, pixels), read(backbone, pixels, precision=precision)
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    assert {activations.dtype for activations in found.of("activation")} == {dtype}
    assert {attention.q.dtype for attention in found.of("attention")} == {dtype}
    assert {attention.lse.dtype for attention in found.of("attention")} == {torch.float32}
    error = (found.of("final")[0].float() - exact.of("final")[0]).abs().mean()
    low, high = {"fp32": (-1.0, 0.0), "bf16": (1e-4, 0.1), "fp16": (1e-5, 0.01)}[precision]
    assert low < error <= high


class Measuring(Reader):
    """Multiplies matrices that bfloat16 would round, wherever it is asked to read."""

    def __init__(self):
        self.product = {}

    def measure(self, what):
        x = torch.full((1, 1), 1.0 + 2**-12)
        self.product[what] = float(x @ x)

    def block(self, layer, tokens):
        self.measure("block")

    def activation(self, layer, activations):
        self.measure("activation")

    def attention(self, layer, attention):
        self.measure("attention")

    def final(self, tokens):
        self.measure("final")


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_readers_measure_in_full_whatever_the_model_computes_in(make, pixels, precision):
    reader = Measuring()
    with reading(make("dinov2"), [reader], precision) as forward:
        forward(pixels)
    exact = (1.0 + 2**-12) ** 2
    assert reader.product == pytest.approx(
        dict.fromkeys(["block", "activation", "attention", "final"], exact), rel=1e-6
    )


@pytest.mark.parametrize("intervention", [append(2), move(((1, 7),), 2), ablate("cls")], ids=repr)
def test_interventions_and_readers_together_run_in_half_precision(make, pixels, intervention):
    backbone = make("dinov3")
    exact, found = read(backbone, pixels, intervention), read(backbone, pixels, intervention, "bf16")
    assert found.of("final")[0].shape == exact.of("final")[0].shape
    assert (found.of("final")[0].float() - exact.of("final")[0]).abs().mean() < 0.1


def test_no_graph_is_kept(make, pixels):
    backbone = make("dinov2")
    backbone.module.requires_grad_(True)
    assert not any(tokens.requires_grad for tokens in read(backbone, pixels).of("block"))
    assert torch.is_grad_enabled()


def test_a_reader_that_fails_leaves_no_hook(make, pixels):
    class Failing(Reader):
        def block(self, layer, tokens):
            raise RuntimeError("the reader fails")

    backbone = make("dinov2")
    readers = [Failing(), Everything()]
    with pytest.raises(RuntimeError, match="the reader fails"), reading(backbone, readers, "fp32") as forward:
        forward(pixels)
    assert hooks(backbone) == 0
    assert not torch.is_inference_mode_enabled()
    assert not torch.is_autocast_enabled("cpu")
