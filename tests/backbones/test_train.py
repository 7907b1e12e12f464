"""Training: the recipe step by step against a slow one, and killed, resumed and repeated to the same bytes."""

import math
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor
from torch.nn import functional as F

from vit_registers.backbones import backbone, train
from vit_registers.backbones.backbone import Preprocess
from vit_registers.backbones.train import Training
from vit_registers.data import manifest
from vit_registers.errors import InputError
from vit_registers.files import read_json
from vit_registers.params import Recipe
from vit_registers.steps import TrainStep

RECIPE: dict[str, Any] = {
    "architecture": {"image_size": 32, "patch_size": 8, "width": 32, "depth": 2, "heads": 2},
    "epochs": 3,
    "batch_size": 8,
    "lr": 2e-3,
    "betas": (0.9, 0.99),
    "weight_decay": 0.05,
    "warmup_share": 0.2,
    "label_smoothing": 0.05,
    "clip_norm": 1.0,
    "precision": "bf16",
    "checkpoint_steps": 4,
}
IMAGES = 28  # three batches of 8 per epoch; four images sit out, other ones each time
STEPS = 9
MADE = ("model.json", "model.safetensors", "training.csv")


def recipe(**changes: Any) -> Recipe:
    return Recipe.model_validate({**RECIPE, **changes})


def step(name: str = "tiny", seed: int = 0, registers: int = 1, **changes: Any) -> TrainStep:
    return TrainStep(seed=seed, device="cpu", name=name, dataset="dots", registers=registers, recipe=recipe(**changes))


def contents(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in MADE}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Reddish and bluish noise: 28 images to train on, 10 to test."""
    folder = tmp_path_factory.mktemp("dots")
    rng = np.random.default_rng(0)
    rows = []
    for i in range(IMAGES + 10):
        tint = np.array([[90, 0, 0], [0, 0, 90]])[i % 2]
        Image.fromarray((rng.integers(0, 160, (32, 32, 3)) + tint).astype(np.uint8)).save(folder / f"{i}.png")
        split = "train" if i < IMAGES else "test"
        rows.append({"image_id": str(i), "path": f"{i}.png", "split": split, "label": i % 2})
    table = manifest.check(pd.DataFrame(rows), ["red", "blue"], folder, "dots")
    manifest.write(folder, table, ["red", "blue"], "dots", ".", "drawn in a test", "CC0-1.0")
    return folder


@pytest.fixture(scope="module")
def whole(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training that nothing disturbed."""
    out = tmp_path_factory.mktemp("models") / "whole"
    train.run(step(), data, out)
    return out


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


class Killed(Exception):
    """Stands for whatever ends a process."""


def kill_at(monkeypatch: pytest.MonkeyPatch, at: int) -> list[int]:
    """Raise before step ``at`` is taken; the list fills with the steps that were taken."""
    taken: list[int] = []
    advance = Training.advance

    def counted(self: Training, *arguments: Any) -> None:
        if self.step == at:
            raise Killed
        taken.append(self.step)
        advance(self, *arguments)

    monkeypatch.setattr(Training, "advance", counted)
    return taken


# --- the recipe ------------------------------------------------------------------------------------------------------


def test_the_small_vit_is_the_one_of_the_recipe() -> None:
    shape = {"image_size": 64, "patch_size": 8, "width": 128, "depth": 6, "heads": 2}
    with torch.random.fork_rng():
        torch.manual_seed(3)
        ours = backbone.build(train.architecture(recipe(architecture=shape), 4, 10))
        torch.manual_seed(3)
        obvious = VisionTransformer(
            img_size=64,
            patch_size=8,
            embed_dim=128,
            depth=6,
            num_heads=2,
            num_classes=10,
            reg_tokens=4,
            class_token=True,
            no_embed_class=True,
            init_values=None,
            weight_init="jax",
        )
    assert ours.state_dict().keys() == obvious.state_dict().keys()
    assert all(
        torch.equal(a, b) for a, b in zip(ours.state_dict().values(), obvious.state_dict().values(), strict=True)
    )


def test_the_rate_warms_up_linearly_to_its_peak_and_falls_along_a_cosine() -> None:
    rates = [train.schedule(i, 100, recipe(lr=1.0)) for i in range(100)]
    assert rates[:20] == pytest.approx([(i + 1) / 20 for i in range(20)])
    assert rates[20:] == pytest.approx([(1 + math.cos(math.pi * i / 80)) / 2 for i in range(80)])
    assert [train.schedule(i, 1, recipe(lr=1.0)) for i in range(1)] == [1.0]


def test_every_image_is_turned_by_its_own_symmetry() -> None:
    images = torch.arange(16 * 3 * 25).view(16, 3, 5, 5)
    draw = np.arange(16)[::-1] % 8
    turned = train.dihedral(images, draw)
    for image, element, ours in zip(images.numpy(), draw, turned.numpy(), strict=True):
        obvious = np.stack([np.rot90(channel, element % 4) for channel in image])
        assert np.array_equal(ours, obvious[:, :, ::-1] if element >= 4 else obvious)
    everyone = train.dihedral(images[:1].expand(8, -1, -1, -1), np.arange(8))
    assert len({image.numpy().tobytes() for image in everyone}) == 8


def test_a_step_is_that_of_adamw_written_out() -> None:
    """Cross-entropy with smoothing, clipping to norm .1, bias-corrected moments, decay of matrices only; fp32."""
    cfg = step(precision="fp32", clip_norm=0.1, registers=2)
    training = Training(cfg, 2, "key")
    slow = backbone.build(train.architecture(cfg.recipe, 2, 2)).train()
    slow.load_state_dict(training.module.state_dict())
    moments = {name: (torch.zeros_like(p), torch.zeros_like(p)) for name, p in slow.named_parameters()}
    random = torch.Generator().manual_seed(0)
    losses = []
    for i in range(4):
        images, labels = torch.randn(8, 3, 32, 32, generator=random), torch.randint(2, (8,), generator=random)
        training.advance(images, labels, STEPS)
        logarithms = slow(images).log_softmax(1)
        target = 0.95 * F.one_hot(labels, 2) + 0.05 / 2
        loss = -(target * logarithms).sum(1).mean()
        losses.append(float(loss.detach()))
        gradients = torch.autograd.grad(loss, list(slow.parameters()))
        norm = torch.stack([g.square().sum() for g in gradients]).sum().sqrt()
        assert norm > 0.1
        rate = train.schedule(i, STEPS, cfg.recipe)
        with torch.no_grad():
            for (name, p), g in zip(slow.named_parameters(), gradients, strict=True):
                g = g * 0.1 / norm
                first, second = moments[name]
                first.mul_(0.9).add_(0.1 * g)
                second.mul_(0.99).add_(0.01 * g * g)
                matrix = p.ndim >= 2 and name not in ("cls_token", "reg_token", "pos_embed")
                p.mul_(1 - rate * (0.05 if matrix else 0.0))
                p.sub_(rate * (first / (1 - 0.9 ** (i + 1))) / ((second / (1 - 0.99 ** (i + 1))).sqrt() + 1e-8))
    assert training.losses == pytest.approx(losses, abs=1e-5)
    for (name, ours), p in zip(training.module.named_parameters(), slow.parameters(), strict=True):
        torch.testing.assert_close(ours, p, rtol=1e-4, atol=2e-5, msg=lambda text, name=name: f"{name}: {text}")


def test_the_forward_pass_is_bf16_and_the_weights_stay_fp32(monkeypatch: pytest.MonkeyPatch) -> None:
    images, labels = torch.randn(8, 3, 32, 32), torch.arange(8) % 2
    seen: dict[str, set[torch.dtype]] = {}
    for precision in ("bf16", "fp32"):
        training = Training(step(precision=precision), 2, "key")
        dtypes = seen.setdefault(precision, set())
        training.module.blocks[0].mlp.fc1.register_forward_hook(lambda m, i, output, to=dtypes: to.add(output.dtype))  # type: ignore[index, union-attr]
        training.advance(images, labels, STEPS)
        assert {p.dtype for p in training.module.parameters()} == {torch.float32}
    assert seen == {"bf16": {torch.bfloat16}, "fp32": {torch.float32}}


def test_accuracy_counts_the_images_that_score_highest_at_their_label() -> None:
    module = backbone.build(train.architecture(recipe(), 0, 2)).train()
    images = torch.randint(256, (11, 3, 32, 32), dtype=torch.uint8)
    preprocess = Preprocess(32, 32, "bicubic", (0.5,) * 3, (0.5,) * 3)
    labels = torch.arange(11) % 2
    with torch.no_grad():
        right = [
            int(module(preprocess.normalise(image)[None])[0].argmax() == label)
            for image, label in zip(images, labels, strict=True)
        ]
    assert train.accuracy(module, images, labels, preprocess, batch=4) == pytest.approx(np.mean(right))
    assert module.training


# --- the step --------------------------------------------------------------------------------------------------------


def test_what_a_training_leaves(whole: Path, data: Path) -> None:
    assert sorted(p.name for p in whole.iterdir()) == [".lock", *MADE]
    card = read_json(whole / "model.json")
    assert card["kind"] == "trained"
    assert card["training"]["steps"] == STEPS
    assert card["training"]["manifest"] == read_json(data / "dataset.json")["sha256"]
    curve = pd.read_csv(whole / "training.csv")
    assert list(curve.columns) == ["step", "lr", "loss"]
    assert curve["step"].tolist() == list(range(STEPS))
    assert curve["lr"].tolist() == [train.schedule(i, STEPS, recipe()) for i in range(STEPS)]
    loaded = backbone.load(whole)
    assert (loaded.layout.cls, loaded.layout.registers, loaded.layout.grid) == (1, 1, (4, 4))
    test = [i for i in range(IMAGES, IMAGES + 10)]
    inputs = torch.stack([loaded.preprocess(Image.open(data / f"{i}.png")) for i in test])
    right = loaded.module(inputs).argmax(1) == torch.tensor(test) % 2
    assert card["training"]["test_top1"] == pytest.approx(float(right.float().mean()))


def test_it_learns_colours(data: Path, tmp_path: Path) -> None:
    train.run(step(epochs=12), data, tmp_path)
    losses = pd.read_csv(tmp_path / "training.csv")["loss"]
    assert losses[:3].mean() > 0.5
    assert losses[-3:].mean() < 0.3
    assert read_json(tmp_path / "model.json")["training"]["test_top1"] == 1.0


def test_same_seed_same_bytes_whatever_number_of_threads_was_set(whole: Path, data: Path, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    train.run(step(), data, tmp_path)
    assert torch.get_num_threads() == train.THREADS
    assert contents(tmp_path) == contents(whole)


@pytest.mark.parametrize("change", [{"seed": 1}, {"name": "other"}, {"lr": 1e-3}, {"registers": 2}])
def test_another_seed_name_or_recipe_gives_another_model(
    whole: Path, data: Path, tmp_path: Path, change: dict[str, Any]
) -> None:
    train.run(step(**change), data, tmp_path)
    ours, theirs = contents(tmp_path), contents(whole)
    assert all(ours[name] != theirs[name] for name in MADE)


def test_an_epoch_uses_no_image_twice_and_each_epoch_has_its_own_order(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[bytes] = []
    original = train.dihedral

    def spy(images: Tensor, draw: np.ndarray) -> Tensor:
        seen.extend(image.numpy().tobytes() for image in images)
        return original(images, draw)

    monkeypatch.setattr(train, "dihedral", spy)
    train.run(step(), data, tmp_path)
    epochs = [seen[i : i + 24] for i in range(0, 72, 24)]
    assert [len(set(epoch)) for epoch in epochs] == [24, 24, 24]
    assert len({tuple(epoch) for epoch in epochs}) == 3
    assert len(set(seen)) > 24  # who sits out changes


# --- killed and resumed ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("at", [0, 3, 4, 7, 8])
def test_killed_before_a_step_and_run_again_gives_the_same_bytes(
    whole: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    with monkeypatch.context() as patch:
        kill_at(patch, at)
        with pytest.raises(Killed):
            train.run(step(), data, tmp_path)
    assert not (tmp_path / "model.json").exists()
    taken = kill_at(monkeypatch, -1)
    train.run(step(), data, tmp_path)
    assert taken == list(range(at - at % 4, STEPS))  # from the last checkpoint, not from nothing
    assert contents(tmp_path) == contents(whole)
    assert not (tmp_path / "checkpoint.pt").exists()


def test_killed_again_and_again(whole: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for at in (5, 6, 8):
        with monkeypatch.context() as patch:
            kill_at(patch, at)
            with pytest.raises(Killed):
                train.run(step(), data, tmp_path)
    train.run(step(), data, tmp_path)
    assert contents(tmp_path) == contents(whole)


def test_fp32_resumes_bit_for_bit_too(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train.run(step(precision="fp32"), data, tmp_path / "whole")
    with monkeypatch.context() as patch:
        kill_at(patch, 6)
        with pytest.raises(Killed):
            train.run(step(precision="fp32"), data, tmp_path / "killed")
    train.run(step(precision="fp32"), data, tmp_path / "killed")
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")


def test_a_checkpoint_of_other_params_is_not_resumed(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        kill_at(patch, 6)
        with pytest.raises(Killed):
            train.run(step(lr=1e-3), data, tmp_path / "changed")
    assert (tmp_path / "changed" / "checkpoint.pt").exists()
    taken = kill_at(monkeypatch, -1)
    train.run(step(lr=3e-3), data, tmp_path / "changed")
    assert taken == list(range(STEPS))
    train.run(step(lr=3e-3), data, tmp_path / "fresh")
    assert contents(tmp_path / "changed") == contents(tmp_path / "fresh")


SIGKILLED = """
import os, signal, sys
from pathlib import Path
import torch
from vit_registers.backbones import train
from vit_registers.steps import TrainStep

def die():
    os.kill(os.getpid(), signal.SIGKILL)

how, data, out, cfg = sys.argv[1:]
if how == "in a step":
    advance = train.Training.advance
    def dying(self, *arguments):
        if self.step == 6:
            die()
        advance(self, *arguments)
    train.Training.advance = dying
else:
    save = torch.save
    def half(content, path):
        save(content, path)
        if content["step"] == 8:
            os.truncate(path, os.path.getsize(path) // 2)
            die()
    torch.save = half
train.run(TrainStep.model_validate_json(cfg), Path(data), Path(out))
"""


@pytest.mark.parametrize(("how", "first"), [("in a step", 4), ("in the second checkpoint", 4)])
def test_sigkill_loses_what_came_after_the_last_checkpoint_and_nothing_else(
    whole: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str, first: int
) -> None:
    arguments = [sys.executable, "-c", SIGKILLED, how, str(data), str(tmp_path), step().model_dump_json()]
    ended = subprocess.run(arguments, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    assert (tmp_path / "checkpoint.pt").exists()
    assert not (tmp_path / "model.json").exists()
    taken = kill_at(monkeypatch, -1)
    train.run(step(), data, tmp_path)
    assert taken == list(range(first, STEPS))
    assert contents(tmp_path) == contents(whole)


def test_a_model_that_is_made_is_left_and_a_damaged_one_is_made_again(
    whole: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = kill_at(monkeypatch, -1)
    train.run(step(), data, tmp_path)
    train.run(step(), data, tmp_path)
    assert taken == list(range(STEPS))
    weights = bytearray((tmp_path / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (tmp_path / "model.safetensors").write_bytes(weights)
    train.run(step(), data, tmp_path)
    assert contents(tmp_path) == contents(whole)
    train.run(step(lr=1e-3), data, tmp_path)
    assert len(taken) == 3 * STEPS
    assert load_file(tmp_path / "model.safetensors").keys() == load_file(whole / "model.safetensors").keys()


# --- refusals --------------------------------------------------------------------------------------------------------


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"batch_size": 29}, r"batch_size is 29, but 'dots' has 28 training images; lower it"),
    ({"architecture": {**RECIPE["architecture"], "heads": 3}}, "width is 32; expected a multiple of heads, 3"),
    ({"architecture": {**RECIPE["architecture"], "patch_size": 5}}, "32x32 pixels in patches of 5x5"),
    ({"lr": 1e30, "clip_norm": 1e30, "precision": "fp32"}, r"models\.tiny: the loss is nan at step \d+; lower"),
]


@pytest.mark.parametrize(("change", "message"), REFUSED)
def test_what_cannot_be_trained_is_refused_in_one_line(
    data: Path, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message) as caught:
        train.run(step(**change), data, tmp_path)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "model.json").exists()
