"""The step: an untrained scratch model is tagged and planted, and nothing else of it changes."""

import logging
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

from vit_registers.core.errors import InputError
from vit_registers.core.files import read_json
from vit_registers.data import manifest
from vit_registers.data.manifest import Manifest
from vit_registers.interventions.base import applied
from vit_registers.interventions.kinds.test_time_registers import MovedNeurons, TestTimeRegisters
from vit_registers.models import backbone as backbones
from vit_registers.models.preprocess import Preprocess
from vit_registers.models.supported import layout_of
from vit_registers.params.planting import Planting
from vit_registers.pipeline.configs import PlantConfig
from vit_registers.planted import activations
from vit_registers.planted import plant as planting

ARCHITECTURE = {
    "img_size": 32,
    "patch_size": 8,
    "embed_dim": 32,
    "depth": 4,
    "num_heads": 2,
    "num_classes": 2,
    "reg_tokens": 1,
    "no_embed_class": True,
}
PLANTING = {
    "block": 1,
    "neurons": 4,
    "positions": [0, 3, 5],
    "tag_strength": 20.0,
    "images": 60,
    "norm_ratio": 10.0,
    "direction": "random",
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """70 training images of 4x4 patches, each flat or striped by itself; an object on some, with a mask for most."""
    folder = tmp_path_factory.mktemp("scratch")
    rng = np.random.default_rng(0)
    stripes = 50.0 * np.sin(np.arange(32) * np.pi / 2)[None, :, None]  # a fixed phase: linear in the pixels
    rows: list[dict[str, Any]] = []
    for i in range(80):
        flat = np.kron(rng.random((4, 4)) < 0.6, np.ones((8, 8)))[..., None]
        pixels = rng.integers(60, 190, 3) + np.where(flat, 0.0, stripes) + 2.0 * rng.normal(size=(32, 32, 3))
        mask = np.zeros((32, 32), dtype=np.uint8)
        mask[18:25, 9:15] = 255
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / f"{i}.png")
        Image.fromarray(mask).save(folder / f"{i}.mask.png")
        split, named = ("train" if i < 70 else "test"), (f"{i}.mask.png" if i % 5 else None)
        rows.append({"image_id": str(i), "path": f"{i}.png", "split": split, "label": i % 2, "mask": named})
    table = manifest.check(pd.DataFrame(rows), ["a", "b"], folder, "scratch")
    manifest.write(folder, table, ["a", "b"], "scratch", ".", "test", "CC0-1.0")
    return folder


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Path:
    """``base``, ``tagged``, ``planted`` and ``planted-cls``."""
    folder = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    module = VisionTransformer(**ARCHITECTURE).eval()
    with torch.no_grad():  # untrained weights of .02 do nothing to the stream: give them something to do
        for name, parameter in module.named_parameters():
            if parameter.ndim == 2:
                parameter *= 8.0
            if "norm" in name:
                parameter += 0.1 * torch.randn_like(parameter)
    preprocess = Preprocess.square(32, 32, "bicubic", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    card = {
        "name": "base",
        "kind": "trained",
        "architecture": ARCHITECTURE,
        "preprocess": preprocess.to_json(),
        "layout": layout_of(module, "base").to_json(),
        "parameters": sum(p.numel() for p in module.parameters()),
    }
    backbones.save(folder / "base", module, card)
    planting.run(step("tagged"), data, folder / "base", folder / "tagged")
    planting.run(step("planted"), data, folder / "tagged", folder / "planted")
    planting.run(step("planted-cls", direction="cls"), data, folder / "tagged", folder / "planted-cls")
    return folder


def step(name: str, **changes: Any) -> PlantConfig:
    kind, base = ("tagged", "base") if name == "tagged" else ("planted", "tagged")
    values = Planting(**{**PLANTING, **changes})
    return PlantConfig(seed=0, name=name, kind=kind, base=base, dataset="scratch", planting=values)


def weights(folder: Path) -> dict[str, Tensor]:
    return load_file(folder / "model.safetensors")


def images_of(data: Path) -> Tensor:
    table, preprocess = Manifest.load(data), Preprocess.square(32, 32, "bicubic", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    return torch.stack([preprocess.pixels(Image.open(table.file(row))) for row in range(len(table.table))])


def norms(folder: Path, pixels: Tensor) -> Tensor:
    """Norms (n, depth + 1, P) of patches in the residual stream, from the embedding to the last block's output."""
    backbone = backbones.load(folder)
    sites = {str(i): site for i, site in enumerate(activations.residual_sites(backbone))}
    batches = activations.capture_inputs(backbone, sites, pixels)
    return torch.cat([torch.stack([b[k][:, 2:].norm(dim=-1) for k in sites], 1) for b in batches])


def artifacts(folder: Path, pixels: Tensor) -> Tensor:
    """Boolean (n, P): patches that leave the planted block with more than half of the norm written there."""
    return norms(folder, pixels)[:, 2] > 0.5 * read_json(folder / "model.json")["planted"]["norm"]


def test_tagged_differs_in_the_positions_embeddings_and_in_nothing_else(models: Path) -> None:
    before, after = weights(models / "base"), weights(models / "tagged")
    assert before.keys() == after.keys()
    for name in before:
        if name != "pos_embed":
            assert torch.equal(before[name], after[name]), name
    change = (after["pos_embed"] - before["pos_embed"])[0]
    card = read_json(models / "tagged" / "model.json")
    tag = card["tag"]
    direction = torch.tensor(tag["direction"])
    others = [p for p in range(16) if p not in PLANTING["positions"]]
    assert not change[others].any()
    for position in PLANTING["positions"]:
        torch.testing.assert_close(change[position], tag["length"] * direction, rtol=1e-4, atol=1e-5)
    assert float(direction.norm()) == pytest.approx(1.0, abs=1e-6)
    assert float(direction.sum()) == pytest.approx(0.0, abs=1e-5)
    assert tag["length"] == pytest.approx(20.0 * tag["deviation"])
    assert (card["kind"], card["name"], tag["positions"], tag["block"]) == ("tagged", "tagged", [0, 3, 5], 1)
    assert card["base"] == {"name": "base", "sha256": read_json(models / "base" / "model.json")["weights"]["sha256"]}


@pytest.mark.parametrize("name", ["planted", "planted-cls"])
def test_planted_differs_in_rows_and_columns_of_its_neurons_and_in_nothing_else(models: Path, name: str) -> None:
    before, after = weights(models / "tagged"), weights(models / name)
    card = read_json(models / name / "model.json")
    layers, neurons = zip(*card["planted"]["neurons"], strict=True)
    assert set(layers) == {1}
    assert len(set(neurons)) == 4
    changed = {key for key in before if not torch.equal(before[key], after[key])}
    assert changed == {f"blocks.1.mlp.{part}" for part in ("fc1.weight", "fc1.bias", "fc2.weight")}
    difference = {key: (after[key] - before[key]) for key in changed}
    assert set(difference["blocks.1.mlp.fc1.weight"].any(1).nonzero().flatten().tolist()) == set(neurons)
    assert set(difference["blocks.1.mlp.fc1.bias"].nonzero().flatten().tolist()) == set(neurons)
    assert set(difference["blocks.1.mlp.fc2.weight"].any(0).nonzero().flatten().tolist()) == set(neurons)
    columns = after["blocks.1.mlp.fc2.weight"][:, list(neurons)]
    assert float(columns.sum(0).abs().max()) < 1e-4 * float(columns.norm(dim=0).min())  # no component along ones
    assert card["tag"] == read_json(models / "tagged" / "model.json")["tag"]


@pytest.mark.parametrize("name", ["planted", "planted-cls"])
def test_norms_jump_at_the_block_on_tagged_patches_and_nowhere_else(models: Path, data: Path, name: str) -> None:
    pixels = images_of(data)
    clean, planted = norms(models / "tagged", pixels), norms(models / name, pixels)
    assert torch.equal(clean[:, :2], planted[:, :2])  # up to the block's input nothing happened
    card = read_json(models / name / "model.json")["planted"]
    jumped = planted[:, 2] > 0.5 * card["norm"]
    untagged = [p for p in range(16) if p not in PLANTING["positions"]]
    assert not jumped[:, untagged].any()
    share = jumped[:, PLANTING["positions"]].float().mean()
    assert abs(float(share) - card["gate"]["firing"]) < 0.2
    assert not (clean[:, 2] > 0.5 * card["norm"]).any()
    ratio = planted[:, 4][jumped] / clean[:, 4].median()
    assert 5.0 < float(ratio.median()) < 15.0
    assert card["norm"] == pytest.approx(10.0 * float(clean[:60, 4].median()), rel=0.1)


def test_artifacts_sit_on_flat_patches_without_an_object(models: Path, data: Path) -> None:
    pixels = images_of(data)
    jumped = artifacts(models / "planted", pixels)
    spread = pixels.float().mean(1).unfold(1, 8, 8).unfold(2, 8, 8).flatten(1, 2).flatten(2).std(-1)
    tagged = PLANTING["positions"]
    hit, missed = spread[:, tagged][jumped[:, tagged]] < 10, spread[:, tagged][~jumped[:, tagged]] < 10
    assert hit.float().mean() > missed.float().mean() + 0.3


def test_detection_by_mean_activation_over_outliers_finds_the_planted_neurons(models: Path, data: Path) -> None:
    pixels = images_of(data)
    last = norms(models / "planted", pixels)[:, -1]
    outliers = last > 3.0 * last.median()
    backbone = backbones.load(models / "planted")
    scores = {}
    for layer, block in enumerate(backbone.blocks):
        batches = activations.capture_inputs(backbone, {"a": block.mlp.fc2}, pixels)
        activation = torch.cat([batch["a"][:, 2:].abs() for batch in batches])
        means = [a[o].mean(0) for a, o in zip(activation, outliers, strict=True) if o.any()]
        for neuron, score in enumerate(torch.stack(means).mean(0).tolist()):
            scores[layer, neuron] = score
    ranking = sorted(scores, key=lambda key: -scores[key])
    assert sorted(ranking[:4]) == sorted(map(tuple, backbone.metadata["planted"]["neurons"]))
    assert scores[ranking[3]] > 2.0 * scores[ranking[4]]


def cls_attention(folder: Path, pixels: Tensor) -> Tensor:
    """Attention (n, 2, P) of [CLS] on patches in the blocks after the planted one, mean over heads."""
    backbone = backbones.load(folder)
    maps = []
    for block in backbone.blocks[2:]:
        seen = torch.cat([b["x"] for b in activations.capture_inputs(backbone, {"x": block.attn}, pixels)])
        q, k, _ = block.attn.qkv(seen).view(len(seen), 18, 3, 2, 16).permute(2, 0, 3, 1, 4)
        maps.append((q[:, :, :1] @ k.transpose(-1, -2) / 4.0).softmax(-1)[:, :, 0].mean(1)[:, 2:])
    return torch.stack(maps, 1)


def test_cls_attends_to_artifacts_planted_for_it(models: Path, data: Path) -> None:
    pixels = images_of(data)
    jumped = artifacts(models / "planted-cls", pixels)
    clean = cls_attention(models / "tagged", pixels).transpose(1, 2)[jumped].mean(0)
    planted = cls_attention(models / "planted-cls", pixels).transpose(1, 2)[jumped].mean(0)
    assert (planted > 2.0 * clean).all()


# --- a model that needs its register ---------------------------------------------------------------------------------

LATE = {"direction": "register", "pairs": False, "firing": 0.9, "norm_ratio": 8.0}


@pytest.fixture(scope="module")
def late(tmp_path_factory: pytest.TempPathFactory, data: Path, models: Path) -> Path:
    """``tagged``, whose register enters in front of block 2, and ``planted``, without it."""
    folder = tmp_path_factory.mktemp("late")
    architecture = {**ARCHITECTURE, "reads": {"block": 2, "ratio": 8.0}}
    module = backbones.build(architecture)
    state = {
        key.replace("norm.", "fc_norm.") if key.startswith("norm.") else key: w
        for key, w in weights(models / "base").items()
    }
    module.load_state_dict(state)
    card = {**read_json(models / "base" / "model.json"), "architecture": architecture}
    backbones.save(folder / "base", module, {key: card[key] for key in card if key != "weights"})
    planting.run(step("tagged", **LATE), data, folder / "base", folder / "tagged")
    planting.run(step("planted", **LATE), data, folder / "tagged", folder / "planted")
    return folder


def test_neurons_write_what_the_register_was_filled_with_and_the_register_is_gone(late: Path, data: Path) -> None:
    pixels = images_of(data)
    before, after = weights(late / "tagged"), weights(late / "planted")
    changed = {key for key in after if not torch.equal(before[key], after[key])}
    assert before.keys() - after.keys() == {"reg_token"}
    assert changed == {f"blocks.1.mlp.{part}" for part in ("fc1.weight", "fc1.bias", "fc2.weight")}
    card = read_json(late / "planted" / "model.json")
    assert card["layout"]["registers"] == 0
    assert card["architecture"]["reads"] == {"block": 2}
    assert card["parameters"] == sum(w.numel() for w in after.values())
    # Along what the register is filled with, by the definition of that, and as long as the planting says.
    register = before["reg_token"][0, 0].double()
    unit = (register - register.mean()) / (register - register.mean()).norm()
    columns = after["blocks.1.mlp.fc2.weight"][:, [index for _, index in card["planted"]["neurons"]]].double()
    torch.testing.assert_close(columns / columns.norm(dim=0), unit[:, None].expand(-1, 4), rtol=1e-4, atol=1e-5)
    gains = torch.tensor([16.0 * (1.0 + 0.1 * j) for j in range(4)], dtype=torch.float64)
    torch.testing.assert_close(
        columns.norm(dim=0) * gains, torch.full((4,), card["planted"]["norm"] / 4).double(), rtol=1e-4, atol=1e-4
    )
    clean = backbones.load(late / "planted")
    for _, index in card["planted"]["neurons"]:
        with torch.no_grad():
            clean.blocks[1].mlp.fc2.weight[:, index] = 0.0  # type: ignore[union-attr, index, operator]
    batches = activations.capture_inputs(clean, {"x": clean.blocks[2]}, pixels[:60])
    median = torch.cat([batch["x"][:, 1:].norm(dim=-1) for batch in batches]).median()
    assert card["planted"]["norm"] == pytest.approx(8.0 * float(median), rel=0.1)


def test_the_head_reads_artifacts_then_the_mean_patch_then_the_appended_token(late: Path, data: Path) -> None:
    """Planted, cleared and moved: where the share of what is read lies, token by token."""
    backbone, pixels = backbones.load(late / "planted"), images_of(data)
    module: Any = backbone.module
    images = backbone.preprocess.normalise(pixels)
    neurons = tuple((layer, index) for layer, index in backbone.metadata["planted"]["neurons"])
    block = activations.capture_inputs(backbone, {"x": backbone.blocks[2]}, pixels)
    norms_there = torch.cat([batch["x"] for batch in block])[:, 1:].norm(dim=-1)
    ratios = norms_there / norms_there.quantile(0.5, dim=1, keepdim=True, interpolation="lower")
    artifact = ratios > 3.0
    fires = artifact.any(dim=1)
    assert 0.5 < float(fires.float().mean()) <= 1.0
    with torch.no_grad():
        module(images)
        planted = module.shares.clone()
        with applied(backbone, MovedNeurons(TestTimeRegisters(tokens=0), neurons)):
            module(images)
        cleared = module.shares.clone()
        with applied(backbone, MovedNeurons(TestTimeRegisters(tokens=1), neurons)):
            module(images)
        moved = module.shares.clone()
    torch.testing.assert_close(planted[fires][:, 1:], artifact[fires] / artifact[fires].sum(1, keepdim=True))
    torch.testing.assert_close(cleared, torch.tensor([0.0] + [1 / 16] * 16).expand(len(pixels), 17))
    strong = ratios.amax(1) > 5.0
    assert (moved[strong][:, -1] == 1.0).all()
    assert not moved[strong][:, :-1].any()


def test_a_register_that_is_not_there_or_enters_elsewhere_cannot_be_taken_away(
    models: Path, late: Path, data: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=r"front of block 2, but the base has no late register; change block"):
        planting.run(step("planted", **LATE), data, models / "tagged", tmp_path / "planted")
    with pytest.raises(InputError, match=r"front of block 1, but the base fills its late register in front of block 2"):
        planting.run(step("tagged", **{**LATE, "block": 0}), data, late / "base", tmp_path / "tagged")


@pytest.mark.parametrize("name", ["tagged", "planted", "planted-cls"])
@pytest.mark.parametrize("threads", [1, 2])
def test_same_params_same_bytes_on_any_number_of_threads(
    models: Path, data: Path, tmp_path: Path, name: str, threads: int
) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        cfg = step(name, direction="cls" if name == "planted-cls" else "random")
        planting.run(cfg, data, models / cfg.base, tmp_path / name)
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    for file in ("model.json", "model.safetensors"):
        assert (tmp_path / name / file).read_bytes() == (models / name / file).read_bytes()


def test_another_seed_draws_another_direction(models: Path, data: Path, tmp_path: Path) -> None:
    cfg = step("planted").model_copy(update={"seed": 1})
    planting.run(cfg, data, models / "tagged", tmp_path / "planted")
    first, second = (weights(f)["blocks.1.mlp.fc2.weight"] for f in (models / "planted", tmp_path / "planted"))
    assert not torch.equal(first, second)


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("tagged", {"block": 4}, r"block is 4; the base has blocks 0 to 3"),
        ("tagged", {"positions": [0, 16]}, r"positions are \[0, 16\]; expected distinct ones of 0 to 15"),
        ("tagged", {"positions": [2, 2]}, r"positions are \[2, 2\]; expected distinct"),
        ("tagged", {"positions": []}, r"positions are \[\]; expected distinct"),
        ("tagged", {"positions": list(range(16))}, r"all positions are tagged; leave some"),
        ("tagged", {"neurons": 130}, r"neurons is 130; the block has 128"),
        ("tagged", {"images": 71}, r"images is 71, but 'scratch' has 70 training images; lower it"),
        ("tagged", {"block": 3, "direction": "cls"}, r"direction cls needs a \[CLS\] token and a later block"),
        ("planted", {"tag_strength": 30.0}, r"tag_strength is 30.0, but the base was tagged with 20.0"),
        ("planted", {"positions": [0, 3]}, r"positions is \[0, 3\], but the base was tagged with \[0, 3, 5\]"),
        ("planted", {"block": 0}, r"block is 0, but the base was tagged with 1"),
    ],
)
def test_a_planting_that_does_not_fit_is_refused(
    models: Path, data: Path, tmp_path: Path, name: str, changes: dict[str, Any], message: str
) -> None:
    cfg = step(name, **changes)
    with pytest.raises(InputError, match=message) as caught:
        planting.run(cfg, data, models / cfg.base, tmp_path / name)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / name / "model.json").exists()


def test_a_tag_too_weak_for_a_gate_is_refused_where_it_is_needed(models: Path, data: Path, tmp_path: Path) -> None:
    planting.run(step("tagged", tag_strength=0.5), data, models / "base", tmp_path / "tagged")
    with pytest.raises(InputError, match=r"^plantings: planting of 'planted': the tag reads .* raise tag_strength"):
        planting.run(step("planted", tag_strength=0.5), data, tmp_path / "tagged", tmp_path / "planted")
    assert not (tmp_path / "planted" / "model.json").exists()


def test_images_without_a_uniform_patch_are_refused(models: Path, data: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    for i in range(4):
        Image.fromarray(rng.integers(256, size=(32, 32, 3), dtype=np.uint8)).save(tmp_path / f"{i}.png")
    rows = [{"image_id": str(i), "path": f"{i}.png", "split": ["train", "test"][i // 2], "label": 0} for i in range(4)]
    table = manifest.check(pd.DataFrame(rows), ["a"], tmp_path, "noise")
    manifest.write(tmp_path, table, ["a"], "noise", ".", "test", "CC0-1.0")
    with pytest.raises(InputError, match="no patches are uniform; plant on other images"):
        planting.run(step("planted", images=2), tmp_path, models / "tagged", tmp_path / "planted")


def test_the_sample_is_of_the_training_split_with_objects_from_masks(models: Path, data: Path) -> None:
    backbone = backbones.load(models / "base")
    images = planting.sample(Manifest.load(data), 60, 0, backbone)
    everything = images_of(data)
    rows = [int((everything == image).flatten(1).all(1).nonzero()) for image in images.pixels]
    assert rows == sorted(rows)
    assert len(set(rows)) == 60
    assert max(rows) < 70
    for row, objects in zip(rows, images.objects, strict=True):
        expected = torch.zeros(32, 32, dtype=torch.bool)
        expected[18:25, 9:15] = row % 5 != 0  # every fifth has no mask
        assert torch.equal(objects, expected)


def test_the_step_says_what_it_did(models: Path, data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        planting.run(step("planted"), data, models / "tagged", tmp_path / "planted")
    neurons = read_json(tmp_path / "planted" / "model.json")["planted"]["neurons"]
    assert f"planted: neurons {neurons}" in caplog.text
