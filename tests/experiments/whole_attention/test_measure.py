"""Whole attention maps against queries and keys multiplied by hand, and what is kept of each condition."""

import numpy as np
import pytest
import torch
from timm.models.vision_transformer import VisionTransformer

from helpers.measuring import job_of, study_of, written
from vit_registers.core.errors import InputError
from vit_registers.core.files import write_json
from vit_registers.data.manifest import Manifest
from vit_registers.experiments.whole_attention import measure, scenes
from vit_registers.experiments.whole_attention.params import Config
from vit_registers.extraction.images import Images
from vit_registers.interventions.kinds.test_time_registers import TestTimeRegisters
from vit_registers.models import backbone as backbones
from vit_registers.models.preprocess import Preprocess
from vit_registers.params.statistics import Statistics
from vit_registers.pipeline.paths import Paths
from vit_registers.views.arrays import Arrays
from vit_registers.views.study import Condition

DEPTH, HEADS, SPECIALS = 2, 2, 2  # [CLS] and a register
NEURONS = {"found": True, "top_k": 2, "neurons": [[0, 3, 1.0], [1, 5, 0.5]]}
ARCHITECTURE = {
    "img_size": 16, "patch_size": 4, "embed_dim": 16, "depth": DEPTH, "num_heads": HEADS, "num_classes": 0,
    "reg_tokens": 1,
}  # fmt: skip


@pytest.fixture
def root(study):
    """The small data set, a ViT with a register, features that name the dense images, and two register neurons."""
    study.write_manifest()
    dense = study.rows("test")
    study.write_features("baseline", {"norms": np.ones((len(dense), DEPTH, SPECIALS + 16))}, dense, registers=1)
    torch.manual_seed(0)
    module = VisionTransformer(**ARCHITECTURE)
    seen = Preprocess.square(16, 20, "bicubic", (0.5,) * 3, (0.25,) * 3)
    metadata = {
        "name": "m",
        "architecture": ARCHITECTURE,
        "layout": {"cls": 1, "registers": 1, "grid": [4, 4], "appended": 0},
    }
    backbones.save(study.root / "model", module, {**metadata, "preprocess": seen.to_json()})
    write_json(study.root / "registers" / "tiny" / "m.json", NEURONS)
    return study.root


def config(images=2, heads="all", limit_mb=16.0):
    return Config(
        seed=0,
        statistics=Statistics(confidence=0.9, resamples=50),
        dataset="tiny",
        model="m",
        device="cpu",
        precision="fp32",
        gallery={"images": 3},
        settings={"images": images, "heads": heads, "limit_mb": limit_mb},
        interventions={"baseline": None, "ttr-1": TestTimeRegisters(kind="test_time_registers", tokens=1)},
    )


def kept(root, **settings):
    job = job_of("whole_attention", root, dataset="tiny", model="m")
    measure.run(config(**settings), job)
    return job


def by_hand(root, rows):
    """Softmax of scaled products of queries and keys, from what enters every attention."""
    backbone = backbones.load(root / "model")
    manifest = Manifest.load(root / "data")
    (pixels,) = Images(manifest, backbone.preprocess).batches([rows])
    entering, maps = [], []
    for block in backbone.blocks:
        block.attn.register_forward_pre_hook(lambda module, given: entering.append(given[0]))
    with torch.no_grad():
        backbone.module(pixels)
        for block, tokens in zip(backbone.blocks, entering, strict=True):
            query, key, _ = block.attn.qkv(tokens).reshape(*tokens.shape[:2], 3, HEADS, -1).permute(2, 0, 3, 1, 4)
            maps.append((query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5).softmax(-1))
    return torch.stack(maps, dim=1).numpy()


def test_maps_are_those_of_queries_and_keys_of_the_first_gallery_images(root):
    job = kept(root)
    found = job.arrays["baseline/maps"]
    assert found.shape == (2, DEPTH, HEADS, SPECIALS + 16, SPECIALS + 16)
    table = Manifest.load(root / "data").table
    rows = np.array([int(np.flatnonzero(table["image_id"] == name)[0]) for name in job.arrays["image_id"]])
    assert np.allclose(found, by_hand(root, rows), atol=1e-3)  # half precision
    assert job.arrays["images"].shape == (2, 16, 16, 3)
    assert list(job.arrays["baseline/layout"]) == [1, 1, 0, 4, 4]


def test_under_test_time_registers_there_is_a_token_more_and_rows_sum_to_one(root):
    job = kept(root)
    found = job.arrays["ttr-1/maps"].astype(float)
    assert found.shape[-1] == SPECIALS + 16 + 1
    assert np.allclose(found.sum(-1), 1.0, atol=5e-3)
    assert list(job.arrays["ttr-1/layout"]) == [1, 1, 1, 4, 4]


def test_the_mean_over_heads_is_that_of_all_of_them(root):
    every, mean = kept(root).arrays["baseline/maps"], kept(root, heads="mean").arrays["baseline/maps"]
    assert mean.shape[2] == 1
    assert np.allclose(mean[:, :, 0], every.astype(float).mean(2), atol=1e-3)


def test_a_condition_that_does_not_apply_has_no_maps(root):
    write_json(root / "registers" / "tiny" / "m.json", {"found": False, "reason": "no outlier patches found"})
    assert not [name for name in kept(root).arrays if name.startswith("ttr-1/")]


def test_more_than_the_limit_is_refused_and_says_what_to_lower(root):
    with pytest.raises(InputError, match=r"'m' takes .* limit_mb is 0.001; set heads: mean, or fewer images"):
        kept(root, limit_mb=0.001)
    with pytest.raises(InputError, match="set fewer images"):
        kept(root, heads="mean", limit_mb=0.001)


def test_the_scene_has_appended_tokens_before_the_patches_and_a_map_for_every_token(root):
    job = kept(root)
    job.out = Paths("s", root).measure("whole_attention", "shapes", "m")
    written(job, "whole_attention")
    study = study_of([], ["m"], interventions=["ttr-1"])
    found = scenes.attention_of_any_token(study, Arrays(Paths("s", root), ("whole_attention",)))
    assert found is not None
    (model,) = found.models
    before, after = (condition.quantities["attention"] for condition in model.conditions)
    assert list(before.others) == ["[CLS]", "register 1"]
    assert list(after.others) == ["[CLS]", "register 1", "appended token 1"]
    assert len(after.axes["from"]) == len(after.others) + 16 == after.values.shape[-1]
    raw = job.arrays["ttr-1/maps"].astype(np.float32)
    assert np.array_equal(after.values[0, 0, 0, 0, 2], raw[0, 0, 0, 0, -1])  # from [CLS] to the appended token
    assert np.array_equal(after.values[1, 1, 0, 2, 3:], raw[1, 1, 0, -1, 2:-1])  # from it to the patches


def test_a_model_that_was_not_measured_is_left_out(tmp_path):
    study = study_of([], ["m"])
    arrays = Arrays(Paths("s", tmp_path), ("whole_attention",))
    assert not arrays.has(Condition("shapes", "m"))
    assert scenes.attention_of_any_token(study, arrays) is None
