"""Logits of a model's own head against the model called as it is, with and without appended tokens."""

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer

from helpers.interventions import append
from vit_registers.forward.readers.head import OwnHead, has_head
from vit_registers.forward.reading import reading
from vit_registers.interventions.base import applied
from vit_registers.models.backbone import Backbone
from vit_registers.models.preprocess import Preprocess
from vit_registers.models.supported import layout_of

SMALL = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 2, "num_classes": 3}


def made(**changes):
    torch.manual_seed(0)
    module = VisionTransformer(**{**SMALL, **changes}).eval()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    preprocess = Preprocess.square(32, 32, "bicubic", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    return Backbone("m", module, layout_of(module, "m"), preprocess, {})


def logits(backbone, images, intervention=None):
    with applied(backbone, intervention) as layout:
        reader = OwnHead(backbone, layout)
        with reading(backbone, [reader], "fp32") as forward:
            forward(images)
            found = reader.take()["logits"]
    assert reader.specs()["logits"].shape == found.shape[1:]
    return torch.from_numpy(found)


@pytest.mark.parametrize("pool", ["token", "avg"])
def test_logits_are_those_of_the_model_itself(pool):
    backbone, images = made(global_pool=pool, reg_tokens=1), torch.randn(4, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(logits(backbone, images), backbone.module(images))


def test_a_mean_over_patches_leaves_appended_tokens_out():
    backbone, images = made(global_pool="avg"), torch.randn(4, 3, 32, 32)
    found = logits(backbone, images, append(3))
    with torch.no_grad(), applied(backbone, append(3)):
        tokens = backbone.module.forward_features(images)
        assert tokens.shape[1] == 1 + 16 + 3
        expected = backbone.module.head(backbone.module.fc_norm(tokens[:, 1:17].mean(1)))
    torch.testing.assert_close(found, expected)


def test_a_model_without_a_head_has_none():
    assert has_head(made())
    assert not has_head(made(num_classes=0))
