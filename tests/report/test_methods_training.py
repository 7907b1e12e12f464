import json
from pathlib import Path

import pytest

from vit_registers import params
from vit_registers.report import methods_training

ROOT = Path(__file__).parents[2]
STUDY = params.load(ROOT / "params.yaml", [ROOT / "params/bach2025.yaml"])
RECIPE = STUDY.recipes["deit3-small"]
# What changes no result, and what the text says of every recipe in other words.
UNSTATED = {"kind", "workers", "checkpoint_steps", "keep_every"}


# caron2021 as its paper has it, for ViT-S/16 at 224 pixels.
DINO = params.DinoRecipe.model_validate_json("""{
  "kind": "dino", "architecture": {"name": "vit_small_patch16_224", "image_size": 224, "arguments": {"patch_size": 16}},
  "epochs": 100, "batch_size": 64, "shards": 16, "lr": 2e-3, "betas": [0.9, 0.999], "weight_decay": 0.04,
  "precision": "bf16", "checkpoint_steps": 1000, "watched_images": 500, "watched_maps": 2,
  "drop_path": 0.1, "warmup_epochs": 10, "final_lr": 1e-6, "final_weight_decay": 0.4, "clip_norm": 3.0,
  "student_temperature": 0.1,
  "teacher": {"momentum": 0.996, "warmup_temperature": 0.04, "temperature": 0.07, "warmup_epochs": 30,
              "centre_momentum": 0.9},
  "projection": {"hidden": 2048, "bottleneck": 256, "prototypes": 65536, "frozen_epochs": 1},
  "crops": {"global_scale": [0.4, 1.0], "local_crops": 8, "local_size": 96, "local_scale": [0.05, 0.4]},
  "colours": {"jitter": [0.4, 0.4, 0.2, 0.1], "jitter_share": 0.8, "grey_share": 0.2, "blur_radius": [0.1, 2.0],
              "blur_shares": [1.0, 0.1, 0.5], "solarise_share": 0.2},
  "workers": 10}""")


def _leaves(value, path=()):
    if isinstance(value, dict | list | tuple):
        for key, child in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _leaves(child, (*path, key))
    else:
        yield path, value


def _other(path, value):
    if path == ("positions", "offset"):
        return 0.2
    if isinstance(value, bool | str):
        return {"fp32": "bf16", "bf16": "fp32", "parameter": "whole"}.get(value, f"{value}1") if isinstance(
            value, str) else not value  # fmt: skip
    return value + 2 if isinstance(value, int) else value * 0.9


@pytest.mark.parametrize("path", [p for p, _ in _leaves(DINO.model_dump(mode="json")) if p[0] not in UNSTATED], ids=str)
def test_the_recipe_of_dino_is_stated_value_by_value(path):
    content = DINO.model_dump(mode="json")
    place = content
    for part in path[:-1]:
        place = place[part]
    place[path[-1]] = _other(path, place[path[-1]])
    if path == ("positions", "antialias"):
        content["positions"]["offset"] = 0.0  # never both
    changed = params.DinoRecipe.model_validate_json(json.dumps(content))
    assert methods_training.text_of(changed, ["cifar"]) != methods_training.text_of(DINO, ["cifar"])


def test_dino_in_words():
    text = methods_training.text_of(DINO, ["cifar"])
    for part in (
        r"timm's \texttt{vit\_small\_patch16\_224}, patch\_size 16 on images of $224 \times 224$, without a head",
        r"without labels by self-distillation \citep{caron2021}",
        r"10 epochs of linear warm-up from zero, then a cosine to $1 \times 10^{-6}$",
        r"weight decay from $0.04$ along a cosine to $0.4$, on all but biases and norms",
        "65536 prototypes of length one",
        r"the student also 8 crops of 5\,\% to 40\,\% at $96 \times 96$ pixels",
        "resampled bicubically without antialiasing and with $0.1$ added",
        "with probability $1$, $0.1$ and $0.5$ (first and second global crop, local crops)",
        "16 times 64 images",
    ):
        assert part in text
    content = DINO.model_dump()
    alone = params.DinoRecipe.model_validate({**content, "crops": {**content["crops"], "local_crops": 0}})
    assert "the student also" not in methods_training.text_of(alone, ["cifar"])
    model = STUDY.models["vit-r4"]
    assert methods_training.one_trained("vit-r4", model, DINO) == r"\texttt{vit-r4} (4 registers)"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, "none of them for registers. Training on"),
        ({}, "a random flip or quarter turn of every image"),
        ({"layer_scale": 1e-5}, r"for registers, LayerScale from $1 \times 10^{-5}$. Training on"),
        ({"drop_path": 0.1}, "for registers, stochastic depth $0.1$. Training on"),
        ({"augmentation": "mirror"}, "every image mirrored with probability one half."),
        ({"augmentation": "crop"}, "every image padded with black by an eighth of its side, cropped at random and"),
        ({"augmentation": "none"}, "images as they are."),
    ],
)
def test_options_of_the_small_recipe_are_stated(change, expected):
    content = STUDY.recipes["small"].model_dump()
    for name, value in change.items():
        (content["architecture"] if name in content["architecture"] else content)[name] = value
    assert expected in methods_training.text_of(params.SmallRecipe.model_validate(content), ["shapes"])


@pytest.mark.parametrize("name", sorted(set(RECIPE.model_dump()) - UNSTATED))
def test_the_recipe_of_deit3_is_stated_value_by_value(name):
    content = RECIPE.model_dump()
    value = content[name]
    other = {
        dict: lambda: {**value, "image_size": 384},
        tuple: lambda: (0.8, 0.99),
        str: lambda: "fp32",
    }.get(type(value), lambda: value + 2 if isinstance(value, int) else value / 2)()
    changed = params.Deit3Recipe.model_validate({**content, name: other})
    assert methods_training.text_of(changed, ["imagenet"]) != methods_training.text_of(RECIPE, ["imagenet"])


def test_the_published_run_in_words():
    text = methods_training.text_of(RECIPE, ["imagenet"])
    for part in (
        "LAMB",
        r"$0.004$",
        "5 epochs of linear warm-up",
        "binary cross-entropy",
        "ThreeAugment",
        "4 times 256",
    ):
        assert part in text
    assert "Mixup $0.8$ and CutMix $1$" in text


def test_a_model_of_another_size_says_so():
    recipe, model = STUDY.recipes["small"], STUDY.models["vit-tiny"]
    assert "4 blocks of width 64 with 1 head" in methods_training.one_trained("vit-tiny", model, recipe)
    plain = methods_training.one_trained("vit-r4", STUDY.models["vit-r4"], recipe)
    assert plain == r"\texttt{vit-r4} (4 registers)"
