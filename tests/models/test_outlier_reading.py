"""A head that reads outliers, and a register that enters late, against slow, obvious versions."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from vit_registers.forward import hooks
from vit_registers.interventions.base import applied
from vit_registers.interventions.kinds.append import Append, AppendedTokens
from vit_registers.models import backbone as backbones
from vit_registers.models.backbone import Backbone
from vit_registers.models.outlier_reading import JITTER, OUTLIER, OutlierReader
from vit_registers.models.preprocess import Preprocess
from vit_registers.models.supported import layout_of

ARCHITECTURE = {
    "img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 4, "num_heads": 2, "num_classes": 3,
    "no_embed_class": True,
}  # fmt: skip
RATIO, BLOCK = 8.0, 2


def built(registers: int = 1, ratio: float | None = RATIO) -> OutlierReader:
    """An untrained model whose blocks do something."""
    torch.manual_seed(0)
    reads = {"block": BLOCK} if ratio is None else {"block": BLOCK, "ratio": ratio}
    module = backbones.build({**ARCHITECTURE, "reg_tokens": registers, "reads": reads})
    assert isinstance(module, OutlierReader)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if parameter.ndim == 2 or "token" in name:
                parameter *= 8.0 if parameter.ndim == 2 else 1e6
    return module


@pytest.fixture
def images() -> Tensor:
    return torch.randn(5, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def backbone_of(module: OutlierReader) -> Backbone:
    preprocess = Preprocess.square(32, 32, "bicubic", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    return Backbone("m", module, layout_of(module, "m"), preprocess, {})


def sequence(module: OutlierReader, images: Tensor, zeros: int) -> Tensor:
    """[CLS], ``zeros`` zero tokens, patches."""
    patches = module.patch_embed(images) + module.pos_embed
    return torch.cat([module.cls_token.expand(len(images), 1, -1), torch.zeros(len(images), zeros, 24), patches], 1)


def by_hand(module: OutlierReader, images: Tensor, lengths: Tensor, zeros: int = 1) -> tuple[Tensor, Tensor]:
    """What the head reads and its logits, one image at a time; ``lengths`` are of the register's vector."""
    direction = module.reg_token[0, 0] - module.reg_token.mean()
    direction = direction / direction.norm()
    read = []
    for image, length in zip(images, lengths, strict=True):
        x = sequence(module, image[None], zeros)
        for number, block in enumerate(module.blocks):
            if number == BLOCK:
                if zeros:
                    x[0, 1] += length * direction
                else:
                    x = torch.cat([x[:, :1], (length * direction)[None, None], x[:, 1:]], dim=1)
                median = x[0, -16:].norm(dim=1).sort().values[7]  # the lower of the two in the middle, as torch has it
                outliers = [t for t in range(x.shape[1]) if x[0, t].norm() > OUTLIER * median]
            x = block(x)
        chosen = outliers or list(range(x.shape[1] - 16, x.shape[1]))
        read.append(torch.stack([x[0, t] for t in chosen]).mean(0))
    pooled = torch.stack(read)
    return pooled, module.head(F.layer_norm(pooled, (24,), eps=1e-6))


def medians(module: OutlierReader, images: Tensor, zeros: int) -> Tensor:
    x = module.blocks[:BLOCK](sequence(module, images, zeros))
    return x[:, -16:].norm(dim=-1).median(1).values


@torch.no_grad()
def test_the_register_is_filled_in_front_of_its_block_and_read_at_the_end(images: Tensor) -> None:
    module = built()
    pooled, logits = by_hand(module, images, RATIO * medians(module, images, 1))
    torch.testing.assert_close(module.pool(module.forward_features(images)), pooled, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(module(images), logits, rtol=1e-4, atol=1e-4)
    assert module.shares is not None
    assert torch.equal(module.shares, F.one_hot(torch.ones(5, dtype=torch.long), 18).float())


@torch.no_grad()
def test_without_an_outlier_the_mean_patch_is_read(images: Tensor) -> None:
    module = built(0, None)
    x = sequence(module, images, 0)
    mean = module.blocks(x)[:, 1:].mean(1)
    torch.testing.assert_close(module(images), module.head(F.layer_norm(mean, (24,), eps=1e-6)), rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_outliers_are_read_wherever_they_are_and_alike(images: Tensor) -> None:
    module = built(0, None)
    backbone = backbone_of(module)
    vector = 300.0 * torch.randn(24, generator=torch.Generator().manual_seed(2))

    def lifted(x: Tensor) -> Tensor:  # patches 3 and 9 of the first image, an appended token of the second
        x = x.clone()
        x[0, [1 + 3, 1 + 9]] += vector
        x[1, -1] += vector
        return x

    with applied(backbone, AppendedTokens(Append(tokens=2))), hooks.hooked() as on:
        on.input(hooks.block(backbone, BLOCK), lambda x: None)
        on.output(hooks.block(backbone, BLOCK - 1), lifted)
        features = module.forward_features(images)
    assert module.shares is not None
    assert features.shape[1] == 1 + 16 + 2
    expected = torch.zeros(5, 19)
    expected[0, [4, 10]], expected[1, 18], expected[2:, 1:17] = 0.5, 1.0, 1.0 / 16
    torch.testing.assert_close(module.shares, expected)
    torch.testing.assert_close(module.pool(features)[0], (features[0, 4] + features[0, 10]) / 2)


@torch.no_grad()
def test_the_layout_counts_the_register_in_both_modes_and_leaves_the_mode(images: Tensor) -> None:
    module = built()
    for training in (False, True):
        module.train(training)
        layout = layout_of(module, "m")
        assert (layout.cls, layout.registers, layout.length) == (1, 1, 18)
        assert module.training is training


def test_training_draws_zero_tokens_and_lengths_that_the_register_always_stands_out_with(images: Tensor) -> None:
    module = built().train()
    seen = set()
    for seed in range(40):
        torch.manual_seed(seed)
        module.zero_grad()
        features = module.forward_features(images)
        zeros = features.shape[1] - 17  # tokens that are neither [CLS] nor patches
        assert module.shares is not None
        assert torch.equal(module.shares, F.one_hot(torch.ones(5, dtype=torch.long), 17 + zeros).float())
        seen.add(zeros)
        if seed < 8:
            with torch.no_grad():
                torch.manual_seed(seed)
                drawn = (0, 1, 2, 4)[int(torch.randint(4, ()))]
                lengths = RATIO * medians(module, images, drawn) * JITTER ** (2 * torch.rand(5) - 1)
                pooled, _ = by_hand(module, images, lengths, drawn)
            torch.testing.assert_close(module.pool(features), pooled, rtol=1e-4, atol=1e-4)
            module.pool(features).sum().backward()
            assert module.reg_token.grad is not None
            assert float(module.reg_token.grad.abs().sum()) > 0  # the direction is learnt
    assert seen == {1, 2, 4}  # none before its block: one from there on
