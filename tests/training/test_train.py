import math
import random

import numpy as np
import pandas as pd
import pytest
import torch
from torch.profiler import profile

from vit_registers.core.errors import InputError
from vit_registers.core.seeds import generator
from vit_registers.data.manifest import Manifest
from vit_registers.models import backbone
from vit_registers.models.preprocess import Preprocess, load_pixels
from vit_registers.pipeline.configs import TrainConfig
from vit_registers.training import batches, monitor
from vit_registers.training import loop as train
from vit_registers.training.augmentation import geometric
from vit_registers.training.distributed import Processes
from vit_registers.training.state import Training, explicit_attention

RECIPE = {
    "kind": "small",
    "architecture": {"image_size": 32, "patch_size": 8, "width": 16, "depth": 2, "heads": 2},
    "epochs": 3,
    "batch_size": 20,
    "lr": 1e-3,
    "betas": (0.9, 0.99),
    "weight_decay": 0.05,
    "warmup_share": 0.1,
    "label_smoothing": 0.05,
    "clip_norm": 1.0,
    "precision": "bf16",
    "checkpoint_steps": 4,
    "monitored_images": 30,
    "monitored_maps": 2,
}


def step(**changes):
    return TrainConfig.model_validate(
        {
            "seed": 0,
            "device": "cpu",
            "name": "small",
            "dataset": "shapes",
            "registers": 2,
            "recipe": RECIPE,
            **changes,
        }
    )


ALONE = Processes(0, 1, torch.device("cpu"))


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory):
    """A training that nothing interrupted."""
    out = tmp_path_factory.mktemp("models") / "small"
    train.run(step(), data, out)
    return out


def test_a_finished_training_is_a_model_and_leaves_no_checkpoint(whole):
    made = [".lock", "attention.npz", "model.json", "model.safetensors", "norms.csv", "time.json", "training.csv"]
    assert sorted(path.name for path in whole.iterdir()) == made
    loaded = backbone.load(whole)
    assert (loaded.layout.cls, loaded.layout.registers, loaded.layout.grid) == (1, 2, (4, 4))
    assert loaded.metadata["training"]["steps"] == 15
    assert not any(parameter.requires_grad for parameter in loaded.module.parameters())


def test_norms_after_the_last_epoch_are_those_of_the_finished_model(whole, data):
    """Image by image and token by token, with hooks of its own."""
    table = pd.read_csv(whole / "norms.csv")
    assert table["epoch"].tolist() == [1, 1, 2, 2, 3, 3]
    loaded, manifest = backbone.load(whole), Manifest.load(data)
    images, _ = load_pixels(manifest, manifest.rows("test")[:30], loaded.preprocess)
    for layer in range(2):
        norms = []
        handle = loaded.module.blocks[layer].register_forward_hook(
            lambda m, i, o, into=norms: into.append([sum(float(x) ** 2 for x in token) ** 0.5 for token in o[0, 3:]])
        )
        for image in images:
            with torch.inference_mode():
                loaded.module(loaded.preprocess.normalise(image[None]))
        handle.remove()
        pooled = sorted(norm for image in norms for norm in image)
        row = table[(table["epoch"] == 3) & (table["layer"] == layer)].iloc[0]
        assert len(pooled) == 30 * 16
        assert row["norm_median"] == pytest.approx((pooled[239] + pooled[240]) / 2, rel=1e-4)
        assert pooled[474] <= row["norm_p99"] + 1e-4 <= pooled[476] + 2e-4
        assert row["norm_max"] == pytest.approx(np.mean([max(image) for image in norms]), rel=1e-4)
        above = sum(norm > 3 * row["norm_median"] for norm in pooled) / len(pooled)
        assert row["share_above"] == pytest.approx(above)
        with np.load(whole / "attention.npz") as kept:
            largest, shares = kept["norm_max"][-1, layer], kept["share_above"][-1, layer]
        assert largest == pytest.approx([max(image) for image in norms], rel=1e-4)
        slow = [sum(norm > 3 * row["norm_median"] for norm in image) / len(image) for image in norms]
        assert shares == pytest.approx(slow)
    assert table[table["epoch"] == 1]["norm_median"].tolist() != table[table["epoch"] == 3]["norm_median"].tolist()


def softmax_rows(module, image):
    """Attention of every token at the last block, mean over heads, written out: (t, t)."""
    caught = []
    handle = module.blocks[-1].attn.qkv.register_forward_hook(lambda m, i, output: caught.append(output[0]))
    with torch.inference_mode():
        module(image[None])
    handle.remove()
    (qkv,) = caught  # (t, 3 x heads x channels)
    heads = module.blocks[-1].attn.num_heads
    whole = 0.0
    for head in qkv.double().reshape(len(qkv), 3, heads, -1).unbind(2):
        q, k = head[:, 0], head[:, 1]
        weights = (q @ k.T / q.shape[1] ** 0.5).exp()
        whole = whole + weights / weights.sum(1, keepdim=True) / heads
    return whole.numpy()


@pytest.mark.parametrize("registers", [0, 1, 2])
def test_attention_after_the_last_epoch_is_that_of_the_finished_model(data, tmp_path, registers):
    """Image by image, with a softmax written out; a model without registers has its [CLS] alone."""
    train.run(step(registers=registers), data, tmp_path)
    loaded, manifest = backbone.load(tmp_path), Manifest.load(data)
    images, _ = load_pixels(manifest, manifest.rows("test")[:30], loaded.preprocess)
    first = 1 + registers  # where the patches begin
    slow = np.stack([softmax_rows(loaded.module, loaded.preprocess.normalise(x))[:first, first:] for x in images])
    with np.load(tmp_path / "attention.npz") as kept:
        pairs = {name: kept[name] for name in kept.files if name.endswith("cosine")}
        maps, focus, shown = kept["maps"], kept["focus"], kept["images"]
    assert maps.shape == (3, 2, first, 4, 4)
    np.testing.assert_allclose(maps[-1].reshape(2, first, 16), slow[:2], rtol=1e-4)
    np.testing.assert_allclose(focus[-1].reshape(first, 16), slow.mean(0), rtol=1e-4)
    assert not np.allclose(maps[0], maps[-1], rtol=1e-2)
    np.testing.assert_array_equal(shown, images[:2].permute(0, 2, 3, 1))
    expected = {"cls_register_cosine": registers > 0, "register_cosine": registers > 1}
    assert set(pairs) == {name for name, there in expected.items() if there}
    for name, values in pairs.items():
        assert values.shape == (3, 30)
        for image, found in zip(slow, values[-1], strict=True):
            unit = [token / np.linalg.norm(token) for token in image]
            others = [(0, b) for b in range(1, first)] if name.startswith("cls") else [(1, 2)]
            assert found == pytest.approx(np.mean([unit[a] @ unit[b] for a, b in others]), rel=1e-5)


def test_monitoring_changes_nothing_of_the_model_and_of_generators_and_leaves_it_in_training():
    training = train.Training(step(), 10, 5, "key", ALONE)
    preprocess = Preprocess.square(32, 32, "bicubic", (0.5,) * 3, (0.5,) * 3)
    images = torch.arange(3 * 3 * 32 * 32).remainder(256).byte().view(3, 3, 32, 32)
    with torch.no_grad():
        before = training.module(preprocess.normalise(images))
        states = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()  # noqa: NPY002
        monitor.after_epoch(training.module, images, preprocess, 1)
        assert torch.equal(torch.get_rng_state(), states[0])
        assert np.array_equal(np.random.get_state()[1], states[1])  # noqa: NPY002
        assert random.getstate() == states[2]
        assert torch.equal(training.module(preprocess.normalise(images)), before)
    assert training.module.training
    assert all(parameter.requires_grad and parameter.grad is None for parameter in training.module.parameters())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in training.module.modules())


def test_attention_that_bypasses_the_fused_function_is_refused():
    training = train.Training(step(), 10, 5, "key", ALONE)
    training.module.blocks[-1].attn.fused_attn = False
    preprocess = Preprocess.square(32, 32, "bicubic", (0.5,) * 3, (0.5,) * 3)
    images = torch.zeros((3, 3, 32, 32), dtype=torch.uint8)
    with pytest.raises(
        InputError, match="model 'in training' has 1 self-attentions over all 19 tokens in its 2 blocks"
    ):
        monitor.after_epoch(training.module, images, preprocess, 1)


@pytest.mark.parametrize("last", [1, 4, 10, 14])
def test_stopped_after_any_step_and_resumed_gives_the_same_bytes(whole, data, tmp_path, stopped, last, produced):
    out = tmp_path / "small"
    stopped(step(), data, out, last)
    assert (out / "checkpoint.pt").exists() == (last >= 4)
    train.run(step(), data, out)
    assert produced(out) == produced(whole)


@pytest.mark.slow
def test_killed_and_resumed_gives_the_same_bytes(whole, data, tmp_path, killed, produced):
    out = tmp_path / "small"
    killed(step(), data, out)
    train.run(step(), data, out)
    assert produced(out) == produced(whole)


def test_attention_by_matrix_products_gives_the_gradients_of_the_fused_kernel():
    """And the fused kernel is there again afterwards, for what is monitored."""
    module = step(registers=2).recipe.build(2, 3)
    images = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    kernels = []

    def gradients():
        module.zero_grad()
        with profile() as profiled:
            module(images).square().sum().backward()
        kernels.append(any("flash_attention" in event.key for event in profiled.key_averages()))
        return [parameter.grad.clone() for parameter in module.parameters()]

    fused = gradients()
    with explicit_attention(module, torch.device("cpu")):
        explicit = gradients()
    with explicit_attention(module, torch.device("cuda")):
        gradients()
    gradients()
    assert kernels == [True, False, True, True]
    for ours, theirs in zip(explicit, fused, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_a_checkpoint_of_other_params_is_not_gone_on_with(whole, data, tmp_path, caplog, produced):
    other = train.Training(step(seed=1), 10, 5, "another key", ALONE)
    other.save(tmp_path / "small/checkpoint.pt")
    with caplog.at_level("INFO"):
        train.run(step(), data, tmp_path / "small")
    assert "other params or code" in caplog.text
    assert produced(tmp_path / "small") == produced(whole)


def test_another_seed_gives_another_model(whole, data, tmp_path, produced):
    train.run(step(seed=1), data, tmp_path / "small")
    assert produced(tmp_path / "small")["model.safetensors"] != produced(whole)["model.safetensors"]


def of_start(cfg):
    """Weights and batches before the first step."""
    return {name: p.clone() for name, p in Training(cfg, 10, 5, "key", ALONE).module.state_dict().items()}


def test_models_of_the_same_draws_start_from_the_same_weights_whatever_their_registers(manifest):
    none, some = (step(name=f"r{r}", registers=r, draws="common") for r in (0, 2))
    ours, theirs = of_start(none), of_start(some)
    assert set(theirs) - set(ours) == {"reg_token"}
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    other, own = of_start(step(name="r2", registers=2, draws="other")), of_start(step(name="r2", registers=2))
    assert not torch.equal(other["blocks.0.attn.qkv.weight"], theirs["blocks.0.attn.qkv.weight"])
    assert not torch.equal(own["blocks.0.attn.qkv.weight"], theirs["blocks.0.attn.qkv.weight"])
    one, two = (next(batches.batches(cfg, manifest).steps(1, 0, [0])) for cfg in (none, some))
    assert torch.equal(one[0][1], two[0][1])
    assert torch.equal(one[0][2], two[0][2])


def test_a_model_that_takes_the_draws_of_another_without_registers_is_that_model(data, tmp_path, produced):
    train.run(step(name="a", registers=0), data, tmp_path / "a")
    train.run(step(name="b", registers=0, draws="a"), data, tmp_path / "b")
    ours, theirs = (produced(tmp_path / name) for name in "ab")
    assert ours["model.safetensors"] == theirs["model.safetensors"]
    assert ours["training.csv"] == theirs["training.csv"]


def test_the_schedule_warms_up_and_falls_to_zero_along_a_cosine():
    rate = step(recipe=RECIPE | {"epochs": 4}).recipe.learning_rate(25)
    rates = [rate(i) for i in range(100)]
    assert rates[:10] == pytest.approx([1e-3 * (i + 1) / 10 for i in range(10)])
    assert rates[10] == pytest.approx(1e-3)
    assert rates[55] == pytest.approx(0.5e-3)
    assert rates[99] == pytest.approx(0.5e-3 * (1 + math.cos(math.pi * 89 / 90)))


def test_dihedral_turns_and_mirrors_each_image_by_its_own_element():
    images = torch.arange(8 * 3 * 4 * 4).view(8, 3, 4, 4)
    draw = np.array([3, 0, 7, 1, 5, 2, 6, 4])
    slow = []
    for image, element in zip(images.numpy(), draw, strict=True):
        for _ in range(element % 4):
            image = np.rot90(image, axes=(1, 2))
        slow.append(image[:, :, ::-1] if element >= 4 else image)
    assert np.array_equal(geometric.dihedral(images, draw).numpy(), np.stack(slow))
    assert len({x.tobytes() for x in geometric.dihedral(images[:1].repeat(8, 1, 1, 1), np.arange(8)).numpy()}) == 8


def slow_crop(image, top, left, mirror):
    """Pixel by pixel: black outside of the image, which begins an eighth of its side into the frame."""
    side = image.shape[2]
    out = np.zeros_like(image)
    for row in range(side):
        for column in range(side):
            y, x = row + top - side // 8, column + left - side // 8
            if 0 <= y < side and 0 <= x < side:
                out[:, row, side - 1 - column if mirror else column] = image[:, y, x]
    return out


def test_crops_and_mirrors_are_those_made_pixel_by_pixel():
    rng = np.random.default_rng(0)
    images = rng.integers(1, 256, size=(12, 3, 16, 16), dtype=np.uint8)
    draw = np.array([[0, 0, 0], [4, 4, 1], [0, 4, 1], [4, 0, 0], [2, 2, 0], [2, 2, 1], *rng.integers(2, size=(6, 3))])
    slow = np.stack([slow_crop(image, *drawn) for image, drawn in zip(images, draw, strict=True)])
    assert np.array_equal(geometric.cropped(torch.from_numpy(images), draw).numpy(), slow)
    assert np.array_equal(slow[4], images[4])  # the middle of the frame
    flipped = np.stack([image[:, :, ::-1] if d else image for image, d in zip(images, draw[:, 2], strict=True)])
    assert np.array_equal(geometric.mirrored(torch.from_numpy(images), draw[:, 2]).numpy(), flipped)


@pytest.mark.parametrize(("name", "kinds"), [("dihedral", 8), ("mirror", 2), ("crop", 9 * 9 * 2), ("none", 1)])
def test_every_draw_of_an_augmentation_comes_up(name, kinds):
    draw, _ = geometric.AUGMENTATIONS[name]
    drawn = draw(np.random.default_rng(0), 5000, 32)
    assert len(np.unique(drawn, axis=0)) == kinds
    assert drawn.min() == 0


@pytest.mark.parametrize("name", ["dihedral", "mirror", "crop", "none"])
def test_a_batch_is_the_images_of_its_epoch_as_they_were_drawn(data, name):
    """From the seed alone, image by image."""
    manifest, cfg = Manifest.load(data), step(recipe={**RECIPE, "augmentation": name})
    source = batches.batches(cfg, manifest)
    ((micro_batch, images, labels),) = next(iter(source.steps(2, 3, [0])))
    rng = generator(0, "epoch", "small", 2)
    rows = rng.permutation(100)[60:80]
    expected = []
    pixels = source.images.numpy()
    if name == "dihedral":
        draws = rng.integers(8, size=100)[60:80]
        for row, draw in zip(rows, draws, strict=True):
            turned = np.rot90(pixels[row], draw % 4, axes=(1, 2))
            expected.append(turned[:, :, ::-1] if draw >= 4 else turned)
    elif name == "mirror":
        draws = rng.integers(2, size=100)[60:80]
        expected = [pixels[row][:, :, ::-1] if draw else pixels[row] for row, draw in zip(rows, draws, strict=True)]
    elif name == "crop":
        places, draws = rng.integers(9, size=(100, 2))[60:80], rng.integers(2, size=100)[60:80]
        expected = [slow_crop(pixels[r], *p, d) for r, p, d in zip(rows, places, draws, strict=True)]
    else:
        expected = [pixels[row] for row in rows]
    assert micro_batch == 0
    assert torch.equal(images, source.preprocess.normalise(torch.from_numpy(np.stack(expected))))
    assert torch.equal(labels, source.labels[torch.from_numpy(rows)])


def test_layer_scale_and_drop_path_are_those_of_the_recipe(data, tmp_path):
    shape = {**RECIPE["architecture"], "layer_scale": 1e-4, "drop_path": 0.3}
    cfg = step(recipe={**RECIPE, "architecture": shape, "epochs": 1})
    fresh = train.Training(cfg, 10, 5, "key", ALONE).module
    assert all(torch.equal(block.ls2.gamma, torch.full((16,), 1e-4)) for block in fresh.blocks)
    assert float(fresh.blocks[1].drop_path1.drop_prob) == pytest.approx(0.3)
    train.run(cfg, data, tmp_path)
    loaded = backbone.load(tmp_path)
    assert loaded.metadata["architecture"]["init_values"] == 1e-4
    assert not torch.equal(loaded.module.blocks[0].ls1.gamma, torch.full((16,), 1e-4))  # it is trained
    plain = train.Training(step(), 10, 5, "key", ALONE).module
    assert not any("ls1" in name for name in plain.state_dict())


def test_decay_is_on_weight_matrices_only():
    training = train.Training(step(), 10, 5, "key", ALONE)
    names = {id(p): name for name, p in training.module.named_parameters()}
    decayed = {names[id(p)] for p in training.optimizer.param_groups[1]["params"]}
    assert {"cls_token", "reg_token", "pos_embed"}.isdisjoint(decayed)
    assert all(name.endswith("weight") and "norm" not in name for name in decayed)
    assert {"blocks.0.attn.qkv.weight", "patch_embed.proj.weight", "head.weight"} <= decayed
