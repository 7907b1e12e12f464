"""The recipe of DeiT-III on a DeiT-III of two narrow blocks, and trainings that several processes share."""

import math
import random
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from timm.data.auto_augment import AutoAugment
from torchvision.transforms import ColorJitter

from vit_registers.core.errors import InputError
from vit_registers.models import backbone
from vit_registers.models.preprocess import load_pixels
from vit_registers.pipeline.configs import TrainConfig
from vit_registers.training import batches
from vit_registers.training import loop as train
from vit_registers.training.distributed import Processes, joined

ROOT = Path(__file__).parents[2]
DEIT3 = {
    "kind": "deit3",
    "architecture": {
        "name": "deit3_small_patch16_224",
        "image_size": 32,
        "arguments": {"patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2},
    },
    "epochs": 3,
    "batch_size": 8,
    "micro_batches": 2,
    "lr": 4e-3,
    "betas": (0.9, 0.999),
    "weight_decay": 0.05,
    "precision": "fp32",
    "checkpoint_steps": 2,
    "monitored_images": 10,
    "monitored_maps": 2,
    "keep_every": 2,
    "warmup_epochs": 1,
    "warmup_lr": 1e-6,
    "final_lr": 1e-5,
    "clip_norm": 1.0,
    "layer_scale": 1e-4,
    "drop_path": 0.3,
    "mixup": 0.8,
    "cutmix": 1.0,
    "color_jitter": 0.3,
    "repeats": 3,
    "workers": 0,
}
SMALL = {
    "kind": "small",
    "architecture": {"image_size": 32, "patch_size": 8, "width": 16, "depth": 2, "heads": 2},
    "epochs": 2,
    "batch_size": 10,
    "micro_batches": 2,
    "lr": 1e-3,
    "betas": (0.9, 0.99),
    "weight_decay": 0.05,
    "precision": "fp32",
    "checkpoint_steps": 4,
    "monitored_images": 10,
    "monitored_maps": 2,
    "warmup_share": 0.1,
    "label_smoothing": 0.05,
    "clip_norm": 1.0,
}


def step(of=DEIT3, registers=4, **changes):
    content = {"seed": 0, "device": "cpu", "name": "model", "dataset": "shapes", "registers": registers}
    return TrainConfig.model_validate({**content, "recipe": {**of, **changes}})


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory):
    out = tmp_path_factory.mktemp("models") / "model"
    train.run(step(), data, out)
    return out


@pytest.mark.slow
def test_the_finished_model_is_the_module_that_was_trained(whole, manifest):
    loaded = backbone.load(whole)
    assert (loaded.layout.cls, loaded.layout.registers, loaded.layout.grid) == (1, 4, (4, 4))
    assert loaded.module.head.out_features == 10
    assert train.accuracy(loaded.module, manifest, loaded.preprocess) == loaded.metadata["training"]["test_top1"]
    images, labels = load_pixels(manifest, manifest.rows("test"), loaded.preprocess)
    scores = torch.cat([loaded.module(loaded.preprocess.normalise(image[None])) for image in images])
    right = [int(score.argmax()) == int(label) for score, label in zip(scores, labels, strict=True)]
    assert np.mean(right) == loaded.metadata["training"]["test_top1"]
    assert loaded.metadata["architecture"]["init_values"] == 1e-4


def test_weights_kept_on_the_way_are_those_of_their_epoch_and_an_older_training_leaves_none(data, tmp_path, whole):
    out = tmp_path / "model"
    (out / "epochs").mkdir(parents=True)
    (out / "epochs/0009.safetensors").write_bytes(b"of another training")
    train.run(step(keep_every=1), data, out)
    assert sorted(path.name for path in (out / "epochs").iterdir()) == [f"000{n}.safetensors" for n in (1, 2, 3)]
    kept, last = load_file(out / "epochs/0003.safetensors"), load_file(out / "model.safetensors")
    assert all(torch.equal(kept[name], last[name]) for name in last)
    # The same weights in the middle, whatever is kept.
    middle = load_file(whole / "epochs/0002.safetensors")
    assert all(torch.equal(middle[name], value) for name, value in load_file(out / "epochs/0002.safetensors").items())


@pytest.mark.parametrize("last", [5, 6, 17])
def test_stopped_after_any_step_and_resumed_gives_the_same_bytes(whole, data, tmp_path, resumed, last, produced):
    resumed(step(), data, tmp_path / "model", last)
    assert produced(tmp_path / "model") == produced(whole)


@pytest.mark.slow
def test_killed_at_a_random_moment_and_resumed_gives_the_same_bytes(whole, data, tmp_path, killed, produced):
    out = tmp_path / "model"
    killed(step(), data, out, after=random.Random(time.time_ns()).uniform(0.0, 1.2))
    train.run(step(), data, out)
    assert produced(out) == produced(whole)


@pytest.mark.slow
def test_two_processes_end_where_one_does(whole, data, tmp_path, shared, agree):
    agree(whole, shared(step(), data, tmp_path))
    moved = load_file(whole / "model.safetensors")["blocks.0.attn.qkv.weight"]
    first = train.Training(step(), 10, 5, "key", Processes(0, 1, torch.device("cpu"))).module.state_dict()
    assert float((moved - first["blocks.0.attn.qkv.weight"]).abs().max()) > 5e-4  # it did train


def test_a_step_is_the_mean_gradient_of_its_micro_batches(data, manifest):
    """Plain SGD over both micro-batches as one, by hand, gives the gradient that a step collects one by one."""
    alone = Processes(0, 1, torch.device("cpu"))
    cfg = step(SMALL)
    training = train.Training(cfg, 10, 5, "key", alone)
    of_step = next(batches.batches(cfg, manifest).steps(0, 0, alone.micro_batches(2)))
    by_hand = train.Training(cfg, 10, 5, "key", alone).module
    images, labels = torch.cat([b[1] for b in of_step]), torch.cat([b[2] for b in of_step])
    torch.nn.functional.cross_entropy(by_hand(images), labels, label_smoothing=0.05).backward()
    torch.nn.utils.clip_grad_norm_(by_hand.parameters(), 1.0)
    training.advance(of_step, 1e-3)
    for (name, ours), theirs in zip(training.module.named_parameters(), by_hand.parameters(), strict=True):
        assert torch.allclose(ours.grad, theirs.grad, atol=1e-6), name


def test_processes_that_cannot_share_the_micro_batches_are_refused_in_one_line(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "3")
    with pytest.raises(InputError, match="3 processes cannot share 2 micro-batches evenly"), joined("cpu", 2):
        pass


def test_a_data_set_too_small_for_a_step_is_refused(manifest):
    with pytest.raises(InputError, match="100 training images, but a step of 'model' takes 128"):
        batches.batches(step(batch_size=64), manifest)


def test_an_odd_batch_cannot_be_mixed():
    with pytest.raises(ValueError, match="Mixup mixes pairs, got 7"):
        step(batch_size=7)


def test_repeats_of_an_image_go_to_different_micro_batches_and_are_augmented_anew(manifest):
    source = batches.batches(step(micro_batches=3, epochs=2), manifest)
    orders = [source._order(0, micro_batch) for micro_batch in range(3)]
    rows = [[row for row, _ in order] for order in orders]
    assert all(set(of_one) <= set(manifest.rows("train")) for of_one in rows)
    assert rows[0] == rows[1] == rows[2]  # repeats stand side by side, so that each goes to another micro-batch
    assert len(set(rows[0])) == len(rows[0]) == math.ceil(100 / 3)
    seeds = [seed for order in orders for _, seed in order]
    assert len(set(seeds)) == len(seeds)
    assert [row for row, _ in source._order(1, 0)] != rows[0]
    same = [source.data[orders[i][0]][0] for i in range(3)]
    assert not torch.equal(same[0], same[1])
    assert torch.equal(same[0], source.data[orders[0][0]][0])


def test_workers_and_where_an_epoch_is_begun_change_no_batch(manifest):
    here = list(batches.batches(step(), manifest).steps(1, 0, [0, 1]))
    there = list(batches.batches(step(workers=2), manifest).steps(1, 2, [0, 1]))
    assert len(here) == 6
    for ours, theirs in zip(here[2:], there, strict=True):
        for (number, images, targets), (other, images_there, targets_there) in zip(ours, theirs, strict=True):
            assert number == other
            assert torch.equal(images, images_there)
            assert torch.equal(targets, targets_there)
    assert here[0][0][2].sum(1).allclose(torch.ones(8))  # mixed targets are shares
    assert ((here[0][0][2] > 0).sum(1) > 1).any()


def test_images_are_cropped_mirrored_three_augmented_and_jittered(manifest):
    stages = batches.batches(step(), manifest).data.transform.transforms
    names = [type(stage).__name__ for stage in stages]
    assert names[:2] == ["RandomResizedCropAndInterpolation", "RandomHorizontalFlip"]
    augment = next(stage for stage in stages if isinstance(stage, AutoAugment))
    assert [[op.name for op in policy] for policy in augment.policy] == [
        ["Solarize"],
        ["Desaturate"],
        ["GaussianBlurRand"],
    ]
    jitter = next(stage for stage in stages if isinstance(stage, ColorJitter))
    assert jitter.brightness == jitter.contrast == jitter.saturation == (0.7, 1.3)


def test_learning_rates_go_by_epoch_through_warm_up_and_cosine():
    rate = step(epochs=10, warmup_epochs=5).recipe.learning_rate(3)
    slow = []
    for epoch in range(10):
        warm = 1e-6 + epoch * (4e-3 - 1e-6) / 5
        cosine = 1e-5 + 0.5 * (4e-3 - 1e-5) * (1 + math.cos(math.pi * epoch / 10))
        slow += [warm if epoch < 5 else cosine] * 3
    assert [rate(i) for i in range(30)] == pytest.approx(slow)
    assert rate(29) == pytest.approx(slow[29])
    assert rate(0) == pytest.approx(1e-6)


def test_every_class_with_a_part_in_a_mixed_image_is_wholly_there():
    logits, mixed = torch.randn(4, 10), torch.zeros(4, 10)
    mixed[:, 3], mixed[:, 7], mixed[0, 7] = 0.9, 0.1, 0.0
    slow = 0.0
    for row in range(4):
        for label in range(10):
            p = 1 / (1 + math.exp(-float(logits[row, label])))
            slow -= math.log(p if mixed[row, label] > 0 else 1 - p)
    assert float(step().recipe.objective(0, 10, 1).criterion(logits, mixed)) == pytest.approx(slow / 40, rel=1e-5)


def test_registers_begin_as_deit_draws_cls_and_are_never_decayed():
    torch.manual_seed(0)
    objective = step().recipe.objective(64, 10, 1)
    module = objective.module
    assert float(module.reg_token.detach().std()) == pytest.approx(0.02, rel=0.1)
    assert float(module.cls_token.detach().std()) == pytest.approx(0.02, rel=0.5)
    assert module.pos_embed.shape[1] == 16  # none for [CLS] or registers
    assert float(module.blocks[1].drop_path1.drop_prob) == pytest.approx(0.3)
    groups = objective.optimizer().param_groups
    names = {id(p): name for name, p in module.named_parameters()}
    decayed = {names[id(p)] for group in groups if group["weight_decay"] for p in group["params"]}
    assert decayed.isdisjoint({"cls_token", "reg_token", "pos_embed"})
    assert all(name.endswith("weight") and "norm" not in name for name in decayed)
    assert sum(len(group["params"]) for group in groups) == len(names)
