"""Self-distillation without labels (caron2021) on a ViT of two narrow blocks."""

import math
import random
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from vit_registers.core.errors import InputError
from vit_registers.core.files import read_json
from vit_registers.models import backbone
from vit_registers.models import position_embedding as positions
from vit_registers.models.resampling import PositionResampling
from vit_registers.pipeline.configs import TrainConfig
from vit_registers.training import batches
from vit_registers.training import loop as train
from vit_registers.training.augmentation.multicrop import MultiCrop
from vit_registers.training.distilled import cross_entropy
from vit_registers.training.distributed import Processes
from vit_registers.training.schedules import DistillationSchedules

ROOT = Path(__file__).parents[2]
DINO = {
    "kind": "dino",
    "architecture": {
        "name": "vit_small_patch16_224",
        "image_size": 32,
        "arguments": {"patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2},
    },
    "epochs": 2,
    "batch_size": 16,
    "micro_batches": 2,
    "lr": 2e-3,
    "betas": (0.9, 0.999),
    "weight_decay": 0.04,
    "precision": "fp32",
    "checkpoint_steps": 2,
    "monitored_images": 4,
    "monitored_maps": 2,
    "keep_every": 1,
    "drop_path": 0.3,
    "warmup_epochs": 1,
    "final_lr": 1e-6,
    "final_weight_decay": 0.4,
    "clip_norm": 3.0,
    "student_temperature": 0.1,
    "teacher": {
        "momentum": 0.9,
        "warmup_temperature": 0.04,
        "temperature": 0.07,
        "warmup_epochs": 1,
        "centre_momentum": 0.9,
    },
    "projection": {"hidden": 24, "bottleneck": 12, "prototypes": 20, "frozen_epochs": 1},
    "crops": {"global_scale": (0.4, 1.0), "local_crops": 3, "local_size": 16, "local_scale": (0.05, 0.4)},
    "colours": {
        "jitter": (0.4, 0.4, 0.2, 0.1),
        "jitter_share": 0.8,
        "grey_share": 0.2,
        "blur_radius": (0.1, 2.0),
        "blur_shares": (1.0, 0.1, 0.5),
        "solarise_share": 0.2,
    },
    "workers": 0,
}
PER_EPOCH = 3
# torch's names of what weight normalisation makes of a linear layer
LENGTHS, DIRECTIONS = (f"parametrizations.weight.original{i}" for i in (0, 1))
ALONE = Processes(0, 1, torch.device("cpu"))


def step(registers=2, **changes):
    """Changes of a part of the recipe are laid over it."""
    content = {"seed": 0, "device": "cpu", "name": "model", "dataset": "shapes", "registers": registers}
    laid = {k: {**DINO[k], **v} if isinstance(v, dict) and k in DINO else v for k, v in changes.items()}
    return TrainConfig.model_validate({**content, "recipe": {**DINO, **laid}})


def training(**changes):
    return train.Training(step(**changes), 10, PER_EPOCH, "key", ALONE)


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory):
    out = tmp_path_factory.mktemp("models") / "model"
    train.run(step(), data, out)
    return out


def test_the_loss_is_that_written_out_view_by_view_and_image_by_image():
    rng = np.random.default_rng(0)
    student, teacher = rng.normal(size=(5, 3, 7)), rng.normal(size=(2, 3, 7))
    terms = []
    for image in range(3):
        for large in range(2):
            for view in range(5):
                if view == large:
                    continue
                p = np.exp(teacher[large, image]) / np.exp(teacher[large, image]).sum()
                q = np.exp(student[view, image]) / np.exp(student[view, image]).sum()
                terms.append(-sum(p[k] * math.log(q[k]) for k in range(7)))
    assert len(terms) == 3 * (2 * 5 - 2)
    assert float(cross_entropy(torch.tensor(student), torch.tensor(teacher))) == pytest.approx(np.mean(terms))


def test_what_is_collapsed_costs_log_k_and_what_agrees_costs_nothing():
    same = torch.full((4, 6, 20), 0.3)
    assert float(cross_entropy(same, same[:2])) == pytest.approx(math.log(20))
    sure = torch.zeros(4, 6, 20)
    sure[..., 5] = 100.0
    assert float(cross_entropy(sure, sure[:2])) == pytest.approx(0.0, abs=1e-6)
    assert float(cross_entropy(sure, same[:2])) == pytest.approx(95.0)  # sure of itself, and wrong


def test_a_collapsed_teacher_is_made_even_by_its_own_centre():
    """All images alike: the loss of a step is log K where the centre is what the teacher always says."""
    objective = training(drop_path=0.0).objective
    global_crops, local_crops = torch.zeros(2, 4, 3, 32, 32), torch.zeros(3, 4, 3, 16, 16)
    with torch.no_grad():
        objective.centre.copy_(objective.teacher(global_crops)[0, 0])
        objective.student.head.layers[4].weight.zero_()
        objective.student.head.layers[4].bias.zero_()
    assert objective.loss(global_crops, local_crops, 0).item() == pytest.approx(math.log(20), rel=1e-5)


def slow_head(head, tokens):
    """The projection head written out, token by token."""
    weights = {name: value.double().detach().numpy() for name, value in head.state_dict().items()}
    rows = []
    for x in tokens.double().detach().numpy():
        for layer in (0, 2, 4):
            x = weights[f"layers.{layer}.weight"] @ x + weights[f"layers.{layer}.bias"]
            if layer < 4:
                x = np.array([0.5 * v * (1 + math.erf(v / 2**0.5)) for v in x])
        x = x / np.linalg.norm(x)
        directions, lengths = (weights[f"prototypes.{name}"] for name in (DIRECTIONS, LENGTHS))
        rows.append([length[0] * (d @ x) / np.linalg.norm(d) for d, length in zip(directions, lengths, strict=True)])
    return np.array(rows)


def test_the_head_is_that_written_out():
    head = training(projection={"unit_prototypes": False}).objective.student.head
    with torch.no_grad():
        head.prototypes.get_parameter(LENGTHS).mul_(torch.linspace(0.5, 2.0, 20).view(-1, 1))
    tokens = torch.randn(5, 32, generator=torch.Generator().manual_seed(0))
    np.testing.assert_allclose(head(tokens).detach().numpy(), slow_head(head, tokens), rtol=1e-4, atol=1e-6)
    with torch.autocast("cpu", torch.bfloat16):
        assert head(tokens.bfloat16()).dtype == torch.float32


def test_local_crops_pass_a_vit_whose_positions_are_resampled_as_dino_does():
    objective = training(drop_path=0.0).objective
    global_crops, local_crops = torch.randn(2, 2, 3, 32, 32), torch.randn(3, 2, 3, 16, 16)
    student = objective.student
    sized = positions.at_size(student.backbone, (16, 16), PositionResampling(antialias=False, offset=0.1))
    slow = [student.head(student.backbone(view)) for view in global_crops]
    slow += [student.head(sized(view)) for view in local_crops]
    found = student.crops(global_crops, local_crops)
    assert torch.allclose(found, torch.stack(slow), atol=1e-5)
    found[2:, :, 0].sum().backward()
    assert float(student.backbone.pos_embed.grad.abs().min()) > 0.0  # local crops teach all positions
    assert not torch.allclose(sized.pos_embed, positions.at_size(
        student.backbone, (16, 16), PositionResampling()).pos_embed)  # fmt: skip


def test_paths_are_dropped_in_the_student_at_both_sizes_and_never_in_the_teacher():
    objective = training(drop_path=0.5).objective
    torch.manual_seed(0)
    global_crops, local_crops = torch.randn(2, 4, 3, 32, 32), torch.randn(3, 4, 3, 16, 16)
    once, again = objective.student.crops(global_crops, local_crops), objective.student.crops(global_crops, local_crops)
    assert not torch.equal(once[:2], again[:2])
    assert not torch.equal(once[2:], again[2:])
    assert torch.equal(objective.teacher(global_crops), objective.teacher(global_crops))


def test_a_step_moves_teacher_and_centre_by_the_plain_formulas(manifest):
    of = training(teacher={"momentum": 0.8, "centre_momentum": 0.7})
    objective = of.objective
    first = {name: value.clone() for name, value in objective.student.state_dict().items()}
    assert all(torch.equal(value, objective.teacher.state_dict()[name]) for name, value in first.items())
    objective.centre.uniform_(-0.1, 0.1)
    centre = objective.centre.double().numpy().copy()
    of.step = 1
    of_step = next(batches.batches(of.cfg, manifest).steps(0, 0, [0, 1]))
    teacher_logits = [
        slow_head(objective.teacher.head, objective.teacher.backbone(crop[None]))[0]
        for _, global_crops, _ in of_step
        for view in global_crops
        for crop in view
    ]
    assert len(teacher_logits) == 2 * 16 * 2  # micro-batches, images, global crops
    of.advance(of_step, 1e-3)
    moved = 0.7 * centre + 0.3 * np.mean(teacher_logits, axis=0)
    np.testing.assert_allclose(objective.centre.numpy(), moved, atol=1e-6)
    momentum = 1 - 0.2 * 0.5 * (1 + math.cos(math.pi * 1 / 6))
    for name, value in objective.teacher.state_dict().items():
        student = objective.student.state_dict()[name]
        assert torch.allclose(value, momentum * first[name] + (1 - momentum) * student, atol=1e-7), name
    moved = objective.student.state_dict()["backbone.blocks.0.attn.qkv.weight"]
    assert not torch.equal(moved, first["backbone.blocks.0.attn.qkv.weight"])
    assert all(not p.requires_grad and p.grad is None for p in objective.teacher.parameters())
    assert not objective.total.any()


def test_the_loss_of_a_step_is_centred_and_sharpened_and_the_mean_over_micro_batches(manifest):
    of = training(drop_path=0.0)
    objective = of.objective
    objective.centre.uniform_(-0.1, 0.1)
    of_step = next(batches.batches(of.cfg, manifest).steps(1, 0, [0, 1]))
    slow = []
    for _, global_crops, local_crops in of_step:
        teacher_logits = (objective.teacher(global_crops) - objective.centre) / 0.07
        slow.append(cross_entropy(objective.student.crops(global_crops, local_crops) / 0.1, teacher_logits).item())
    of.step = PER_EPOCH  # after the teacher's warm-up
    of.advance(of_step, 0.0)
    assert of.losses == [pytest.approx(np.mean(slow), rel=1e-5)]


def test_schedules_at_their_ends():
    changes = {"epochs": 10, "warmup_epochs": 2, "teacher": {"momentum": 0.996, "warmup_epochs": 3}}
    schedule = DistillationSchedules(step(**changes).recipe, per_epoch=5)
    rates = [schedule.learning_rate(i) for i in range(50)]
    assert rates[:10] == pytest.approx(np.linspace(0.0, 2e-3, 10))
    assert rates[10] == pytest.approx(2e-3)
    assert rates[30] == pytest.approx((2e-3 + 1e-6) / 2)
    assert rates[49] == pytest.approx(1e-6 + 0.5 * (2e-3 - 1e-6) * (1 + math.cos(math.pi * 39 / 40)))
    assert step(**changes).recipe.learning_rate(5)(30) == rates[30]
    assert (schedule.weight_decay(0), schedule.weight_decay(25)) == pytest.approx((0.04, 0.22))
    assert schedule.weight_decay(49) == pytest.approx(0.4 - 0.36 * 0.5 * (1 + math.cos(math.pi * 49 / 50)))
    assert (schedule.teacher_momentum(0), schedule.teacher_momentum(25)) == pytest.approx((0.996, 0.998))
    assert schedule.teacher_momentum(48) < schedule.teacher_momentum(49) < 1.0
    temperatures = [0.04] * 5 + [0.055] * 5 + [0.07] * 40
    assert [schedule.teacher_temperature(i) for i in range(50)] == pytest.approx(temperatures)
    assert [schedule.prototypes_frozen(i) for i in (0, 4, 5, 49)] == [True, True, False, False]


def test_no_warm_ups_are_none():
    changes = {"warmup_epochs": 0, "teacher": {"warmup_epochs": 0}, "projection": {"frozen_epochs": 0}}
    schedule = DistillationSchedules(step(**changes).recipe, per_epoch=5)
    assert (schedule.learning_rate(0), schedule.teacher_temperature(0)) == (2e-3, 0.07)
    assert not schedule.prototypes_frozen(0)


@pytest.mark.parametrize("count", [3, 0])
def test_crops_have_their_sizes(manifest, count):
    of_step = next(batches.batches(step(crops={"local_crops": count}), manifest).steps(0, 0, [0, 1]))
    for place, (micro_batch, global_crops, local_crops) in enumerate(of_step):
        assert micro_batch == place
        assert global_crops.shape == (2, 16, 3, 32, 32)
        assert local_crops.shape == (count, 16, 3, 16, 16)
        assert global_crops.dtype == torch.float32
    if not count:
        of = training(crops={"local_crops": 0})
        of.advance(of_step, 1e-3)
        assert math.isfinite(of.losses[0])


def test_crops_are_augmented_as_dino_does():
    made = MultiCrop(step().recipe)
    first, second = made.globals[0], made.globals[1].transforms[0]
    assert made.locals[0] is made.locals[2]
    for crop, side, scale, blur in ((first, 32, (0.4, 1.0), 1.0), (second, 32, (0.4, 1.0), 0.1),
                                    (made.locals[0], 16, (0.05, 0.4), 0.5)):  # fmt: skip
        resized, mirror, jitter, grey, blurred = crop.transforms
        assert (resized.size, resized.scale, resized.interpolation.value) == ((side, side), scale, "bicubic")
        assert (mirror.p, jitter.p, grey.p, blurred.p) == (0.5, 0.8, 0.2, blur)
        assert jitter.transforms[0].brightness == (0.6, 1.4)
        assert jitter.transforms[0].hue == (-0.1, 0.1)
        assert blurred.transforms[0].radius == (0.1, 2.0)
    assert made.globals[1].transforms[1].p == 0.2
    ramp = Image.fromarray(np.arange(48, 208, 5, dtype=np.uint8).reshape(1, 32, 1).repeat(32, 0).repeat(3, 2))
    solarised = np.asarray(made.globals[1].transforms[1].transforms[0](ramp))
    assert solarised.max() <= 128  # what was above is inverted


def test_without_any_change_a_global_crop_is_the_image(manifest):
    still = {"jitter_share": 0.0, "grey_share": 0.0, "blur_shares": (0.0, 0.0, 0.0), "solarise_share": 0.0}
    made = MultiCrop(step(colours=still, crops={"global_scale": (1.0, 1.0)}).recipe)
    image = Image.open(manifest.file(0)).convert("RGB")
    pixels = np.asarray(image).transpose(2, 0, 1)
    torch.manual_seed(0)
    crops = [made(image)[0][view].numpy() for _ in range(6) for view in (0, 1)]
    assert all(np.array_equal(crop, pixels) or np.array_equal(crop, pixels[:, :, ::-1]) for crop in crops)
    assert len({crop.tobytes() for crop in crops}) == 2  # both ways round


def test_every_image_is_seen_by_one_micro_batch_and_its_crops_follow_from_its_seed(manifest):
    source = batches.batches(step(), manifest)
    assert source.per_epoch == 100 // 32 == PER_EPOCH
    orders = [source._order(0, micro_batch) for micro_batch in (0, 1)]
    assert sorted(row for order in orders for row, _ in order) == sorted(manifest.rows("train"))
    assert len({seed for order in orders for _, seed in order}) == 100
    assert source._order(1, 0) != orders[0]
    (global_crops, local_crops), _ = source.data[orders[0][0]]
    random.seed(5)
    np.random.seed(5)  # noqa: NPY002
    torch.manual_seed(5)
    (again, local_again), _ = source.data[orders[0][0]]
    assert torch.equal(global_crops, again)
    assert torch.equal(local_crops, local_again)
    assert not torch.equal(global_crops[0], global_crops[1])


def test_workers_and_where_an_epoch_is_begun_change_no_batch(manifest):
    here = list(batches.batches(step(), manifest).steps(1, 0, [0, 1]))
    there = list(batches.batches(step(workers=2), manifest).steps(1, 1, [1]))
    assert len(here) == 3
    for ours, ((micro_batch, global_crops, local_crops),) in zip(here[1:], there, strict=True):
        assert micro_batch == 1
        assert torch.equal(ours[1][1], global_crops)
        assert torch.equal(ours[1][2], local_crops)


@pytest.mark.slow
def test_the_teacher_is_what_is_saved_and_it_has_no_head(whole, data, manifest):
    by_hand, source = training(), batches.batches(step(), manifest)
    rate = step().recipe.learning_rate(PER_EPOCH)
    with torch.random.fork_rng():
        torch.set_num_threads(1)
        for epoch in range(2):
            for of_step in source.steps(epoch, 0, [0, 1]):
                by_hand.advance(of_step, rate(by_hand.step))
    saved = load_file(whole / "model.safetensors")
    teacher, student = by_hand.objective.teacher.backbone.state_dict(), by_hand.objective.student.backbone.state_dict()
    assert all(torch.allclose(saved[name], teacher[name], atol=1e-6) for name in teacher)
    assert max(float((saved[name] - student[name]).abs().max()) for name in student) > 1e-4
    metadata = read_json(whole / "model.json")
    assert metadata["training"]["test_top1"] is None
    assert metadata["parameters"] == sum(value.numel() for value in saved.values())
    loaded = backbone.load(whole)
    assert (loaded.layout.cls, loaded.layout.registers, loaded.layout.grid) == (1, 2, (4, 4))
    assert isinstance(loaded.module.head, torch.nn.Identity)
    kept = load_file(whole / "epochs/0002.safetensors")
    assert all(torch.equal(kept[name], saved[name]) for name in saved)


@pytest.mark.slow
@pytest.mark.parametrize("last", [3, 5])
def test_stopped_after_any_step_and_resumed_gives_the_same_bytes(whole, data, tmp_path, resumed, last, produced):
    resumed(step(), data, tmp_path / "model", last)
    assert produced(tmp_path / "model") == produced(whole)


@pytest.mark.slow
def test_killed_at_a_random_moment_and_resumed_gives_the_same_bytes(whole, data, tmp_path, killed, produced):
    out = tmp_path / "model"
    killed(step(), data, out, after=random.Random(time.time_ns()).uniform(0.0, 0.3))
    train.run(step(), data, out)
    assert produced(out) == produced(whole)


@pytest.mark.slow
def test_two_processes_end_where_one_does(whole, data, tmp_path, shared, agree):
    """The centre is that of all micro-batches, whoever computes them."""
    agree(whole, shared(step(), data, tmp_path))
    moved = load_file(whole / "model.safetensors")["blocks.0.attn.qkv.weight"]
    first = training().module.state_dict()["blocks.0.attn.qkv.weight"]
    assert float((moved - first).abs().max()) > 2e-4  # it did train


@pytest.mark.parametrize("decay_tokens", [True, False])
def test_decay_follows_its_schedule_on_matrices_and_tokens_if_asked_for(manifest, decay_tokens):
    of = training(decay_tokens=decay_tokens)
    names = {id(p): name for name, p in of.objective.student.named_parameters()}
    spared, decayed = ({names[id(p)] for p in group["params"]} for group in of.optimizer.param_groups)
    tokens = {f"backbone.{name}" for name in ("cls_token", "reg_token", "pos_embed")}
    assert tokens <= (decayed if decay_tokens else spared)
    assert all("norm" in name or name.endswith("bias") for name in spared - tokens)
    assert {f"head.prototypes.{DIRECTIONS}", "backbone.patch_embed.proj.weight"} <= decayed
    assert names.keys() - {id(of.objective.student.head.prototypes.get_parameter(LENGTHS))} == {
        id(p) for group in of.optimizer.param_groups for p in group["params"]
    }
    of.step = 4
    of.advance(next(batches.batches(of.cfg, manifest).steps(1, 1, [0, 1])), 1e-3)
    of_step = [group["weight_decay"] for group in of.optimizer.param_groups]
    assert of_step == [0.0, pytest.approx(0.4 - 0.36 * 0.5 * (1 + math.cos(math.pi * 4 / 6)))]


@pytest.mark.parametrize("clip", ["parameter", "whole"])
def test_gradients_are_clipped_one_by_one_or_together(clip):
    of = training(clip=clip, clip_norm=0.5, projection={"frozen_epochs": 0})
    generator, before = torch.Generator().manual_seed(0), {}
    for name, p in of.objective.student.named_parameters():
        if p.requires_grad:
            p.grad = torch.randn(p.shape, generator=generator) * (1e-4 if "bias" in name else 1.0)
            before[name] = p.grad.clone()
    of.objective.before_update(of.optimizer, 0)
    together = math.sqrt(sum(float(grad.double().square().sum()) for grad in before.values()))
    for name, p in of.objective.student.named_parameters():
        if p.requires_grad:
            norm = together if clip == "whole" else float(before[name].norm())
            assert torch.allclose(p.grad, before[name] * min(1.0, 0.5 / norm), rtol=1e-4), name


def test_prototypes_stay_as_drawn_in_frozen_epochs_and_their_lengths_for_good(manifest):
    of = training()
    prototypes = of.objective.student.head.prototypes
    drawn = prototypes.get_parameter(DIRECTIONS).detach().clone()
    assert torch.equal(of.objective.teacher.head.prototypes.get_parameter(DIRECTIONS), drawn)
    source = batches.batches(of.cfg, manifest)
    for of_step in source.steps(0, 0, [0, 1]):
        of.advance(of_step, 1e-3)
    assert torch.equal(prototypes.get_parameter(DIRECTIONS), drawn)
    of.advance(next(source.steps(1, 0, [0, 1])), 1e-3)
    assert not torch.equal(prototypes.get_parameter(DIRECTIONS), drawn)
    assert torch.equal(prototypes.get_parameter(LENGTHS), torch.ones(20, 1))


def test_what_does_not_fit_is_refused():
    with pytest.raises(InputError, match="local_size of 20 is not whole patches of 8x8"):
        training(crops={"local_size": 20})
    with pytest.raises(ValueError, match=r"teacher\.warmup_epochs: expected fewer than the 2 epochs, got 30"):
        step(teacher={"warmup_epochs": 30})
    with pytest.raises(ValueError, match="local_scale: expected the smaller share first"):
        step(crops={"local_scale": (0.4, 0.05)})
