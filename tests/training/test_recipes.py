"""What every kind of recipe says of itself, value by value, and that a kind is there by its file being there."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from vit_registers.core.errors import InputError
from vit_registers.params.bases import Recipe
from vit_registers.params.kinds import kinds
from vit_registers.params.reading import load, overlay, parse, read_yaml
from vit_registers.training.recipes.deit3 import Deit3Recipe
from vit_registers.training.recipes.dino import DinoRecipe
from vit_registers.training.recipes.late_register import LateRegisterRecipe
from vit_registers.training.recipes.small import SmallRecipe

ROOT = Path(__file__).parents[2]
STUDY = load([ROOT / "params.yaml", ROOT / "params/bach2025.yaml"])
SMALL, DEIT3 = STUDY.recipes["small"], STUDY.recipes["deit3-small"]
UNSTATED = {"kind", "workers", "checkpoint_steps", "keep_every"}  # they change no result

# caron2021 as its paper has it, for ViT-S/16 at 224 pixels.
DINO = DinoRecipe.model_validate_json("""{
  "kind": "dino", "architecture": {"name": "vit_small_patch16_224", "image_size": 224, "arguments": {"patch_size": 16}},
  "epochs": 100, "batch_size": 64, "micro_batches": 16, "lr": 2e-3, "betas": [0.9, 0.999], "weight_decay": 0.04,
  "precision": "bf16", "checkpoint_steps": 1000, "monitored_images": 500, "monitored_maps": 2,
  "drop_path": 0.1, "warmup_epochs": 10, "final_lr": 1e-6, "final_weight_decay": 0.4, "clip_norm": 3.0,
  "student_temperature": 0.1,
  "teacher": {"momentum": 0.996, "warmup_temperature": 0.04, "temperature": 0.07, "warmup_epochs": 30,
              "centre_momentum": 0.9},
  "projection": {"hidden": 2048, "bottleneck": 256, "prototypes": 65536, "frozen_epochs": 1},
  "crops": {"global_scale": [0.4, 1.0], "local_crops": 8, "local_size": 96, "local_scale": [0.05, 0.4]},
  "colours": {"jitter": [0.4, 0.4, 0.2, 0.1], "jitter_share": 0.8, "grey_share": 0.2, "blur_radius": [0.1, 2.0],
              "blur_shares": [1.0, 0.1, 0.5], "solarise_share": 0.2},
  "workers": 10}""")
LATE = STUDY.recipes["late-register"]
RECIPES = {"small": SMALL, "late_register": LATE, "deit3": DEIT3, "dino": DINO}

# Of every value of a recipe another one, and the words that then state it.
COMMON = {
    "epochs": (123, "Training takes 123 epochs in steps of"),
    "batch_size": (46, "46 images, in"),
    "micro_batches": (3, "in steps of 3 times"),
    "lr": (3e-7, r"learning rate $3 \times 10^{-7}$ after"),
    "betas.0": (0.8, r"$\beta = (0.8, "),
    "betas.1": (0.98, r", 0.98)$"),
    "precision": ("fp32", "images, in 32-bit precision."),
    "monitored_images": (321, "kept of the first 321 test images"),
    "monitored_maps": (7, "whole maps of the first 7 of these."),
}
NAMED = {
    "architecture.name": ("deit_x", r"They are timm's \texttt{deit\_x}"),
    "architecture.image_size": (384, r"on images of $384 \times 384$"),
}
STATED = {
    "small": COMMON
    | {
        "weight_decay": (0.07, "weight decay $0.07$ on matrices only"),
        "architecture.image_size": (96, r"on images of $96 \times 96$"),
        "architecture.patch_size": (4, r"patches of $4 \times 4$ pixels"),
        "architecture.width": (320, "6 blocks of width 320 with 2 heads"),
        "architecture.depth": (9, "9 blocks of width 128 with 2 heads"),
        "architecture.heads": (1, "6 blocks of width 128 with 1 head;"),
        "architecture.reads": ("mean_patch", "no [CLS], a head that normalises and reads the mean patch, and"),
        "architecture.weights": ("deit", "for registers, initial weights drawn from a normal of deviation $0.02$. Tr"),
        "architecture.layer_scale": (1e-5, r"after Xavier, LayerScale from $1 \times 10^{-5}$. Training on"),
        "architecture.drop_path": (0.1, "after Xavier, stochastic depth $0.1$. Training on"),
        "augmentation": ("mirror", "; every image mirrored with probability one half."),
        "warmup_share": (0.25, r"linear warm-up over 25\,\% of the steps"),
        "label_smoothing": (0.3, "label smoothing $0.3$"),
        "clip_norm": (2.5, "clipped at norm $2.5$"),
    },
    "deit3": COMMON
    | NAMED
    | {
        "weight_decay": (0.07, "weight decay $0.07$ on matrices only"),
        "warmup_epochs": (9, "after 9 epochs of linear warm-up"),
        "warmup_lr": (2e-9, r"warm-up from $2 \times 10^{-9}$"),
        "final_lr": (5e-8, r"a cosine to $5 \times 10^{-8}$"),
        "clip_norm": (2.5, "clipped at norm $2.5$"),
        "layer_scale": (3e-5, r"LayerScale from $3 \times 10^{-5}$"),
        "drop_path": (0.15, "stochastic depth $0.15$."),
        "mixup": (0.7, "Mixup $0.7$ and"),
        "cutmix": (0.6, "CutMix $0.6$."),
        "color_jitter": (0.35, "colour jitter $0.35$"),
        "repeats": (5, "each image 5 times in an epoch"),
    },
    "dino": COMMON
    | NAMED
    | {
        "architecture.arguments.patch_size": (8, "patch\\_size 8"),
        "weight_decay": (0.05, "weight decay from $0.05$ along a cosine"),
        "final_weight_decay": (0.5, "along a cosine to $0.5$, on all but"),
        "drop_path": (0.15, "stochastic depth $0.15$."),
        "warmup_epochs": (9, "after 9 epochs of linear warm-up from zero"),
        "final_lr": (5e-8, r"a cosine to $5 \times 10^{-8}$, step by step"),
        "clip_norm": (2.5, "clipped at norm $2.5$"),
        "clip": ("whole", "gradients of all parameters together clipped"),
        "decay_tokens": (False, "on all but biases, norms, [CLS], registers and position embeddings"),
        "student_temperature": (0.2, "$0.2$ of the student"),
        "teacher.momentum": (0.99, "teacher goes from $0.99$ along"),
        "teacher.warmup_temperature": (0.03, "linearly from $0.03$"),
        "teacher.temperature": (0.06, "of the teacher $0.06$"),
        "teacher.warmup_epochs": (20, "over the first 20 epochs"),
        "teacher.centre_momentum": (0.95, "running mean of momentum $0.95$"),
        "projection.hidden": (1024, "two hidden layers of 1024"),
        "projection.bottleneck": (128, "a bottleneck of 128 channels"),
        "projection.prototypes": (4096, "4096 prototypes of length one"),
        "projection.unit_prototypes": (False, "prototypes whose lengths are learnt"),
        "projection.frozen_epochs": (2, "as they were drawn for 2 epochs"),
        "crops.global_scale.0": (0.3, r"two crops of 30\,\% to 100\,\%"),
        "crops.global_scale.1": (0.9, r"two crops of 40\,\% to 90\,\%"),
        "crops.local_crops": (6, "the student also 6 crops of"),
        "crops.local_size": (64, r"at $64 \times 64$ pixels"),
        "crops.local_scale.0": (0.1, r"8 crops of 10\,\% to 40\,\%"),
        "crops.local_scale.1": (0.3, r"8 crops of 5\,\% to 30\,\%"),
        "colours.jitter.0": (0.5, "by up to $0.5$, $0.4$, $0.2$ and $0.1$"),
        "colours.jitter.1": (0.5, "by up to $0.4$, $0.5$, $0.2$ and $0.1$"),
        "colours.jitter.2": (0.5, "by up to $0.4$, $0.4$, $0.5$ and $0.1$"),
        "colours.jitter.3": (0.05, "by up to $0.4$, $0.4$, $0.2$ and $0.05$"),
        "colours.jitter_share": (0.7, "$0.1$ with probability $0.7$"),
        "colours.grey_share": (0.3, "it is grey with probability $0.3$"),
        "colours.blur_radius.0": (0.2, "a radius of $0.2$ to $2$ pixels"),
        "colours.blur_radius.1": (3.0, "a radius of $0.1$ to $3$ pixels"),
        "colours.blur_shares.0": (0.9, "with probability $0.9$, $0.1$ and $0.5$ (first"),
        "colours.blur_shares.1": (0.3, "with probability $1$, $0.3$ and $0.5$ (first"),
        "colours.blur_shares.2": (0.4, "with probability $1$, $0.1$ and $0.4$ (first"),
        "colours.solarise_share": (0.3, "solarised with probability $0.3$."),
        "positions.antialias": (True, "resampled bicubically with antialiasing."),
        "positions.offset": (0.2, "without antialiasing and with $0.2$ added"),
    },
}

STATED["late_register"] = STATED["small"] | {
    "enters": (3, "outliers in front of block 3 (blocks count"),
    "norm_ratio": (7.5, "of zero mean and 7.5 times the median patch norm"),
    "chance_weight": (0.25, "added, $0.25$ times, the mean cross-entropy"),
}


def leaves(value, path=""):
    """Paths of single values, parts joined by points."""
    if isinstance(value, dict | list) and value:
        for key, child in value.items() if isinstance(value, dict) else enumerate(value):
            yield from leaves(child, f"{path}.{key}" if path else str(key))
    else:
        yield path


def changed(recipe, path, value):
    """``recipe`` with another value at ``path``."""
    content = recipe.model_dump(mode="json")
    place, *parts = content, *path.split(".")
    for part in parts[:-1]:
        place = place[int(part) if isinstance(place, list) else part]
    place[int(parts[-1]) if isinstance(place, list) else parts[-1]] = value
    if path == "positions.antialias":
        content["positions"]["offset"] = 0.0  # never both
    return type(recipe).model_validate_json(json.dumps(content))


def test_every_kind_is_known_here():
    found = kinds("vit_registers.training.recipes", Recipe)
    assert {kind: type(recipe) for kind, recipe in RECIPES.items()} == found
    assert set(found.values()) == {SmallRecipe, LateRegisterRecipe, Deit3Recipe, DinoRecipe}


@pytest.mark.parametrize("kind", RECIPES)
def test_every_value_of_a_recipe_is_stated(kind):
    """With another value the sentence holds that, as it is printed; before it did not."""
    recipe, stated = RECIPES[kind], STATED[kind]
    before = recipe.sentence("DATA")
    every = {path for path in leaves(recipe.model_dump(mode="json")) if path not in UNSTATED}
    assert every - stated.keys() <= {"architecture.arguments"}  # where there are none
    for path, (value, words) in stated.items():
        text = changed(recipe, path, value).sentence("DATA")
        assert words in text, path
        assert words not in before, path
        assert "Training on DATA" in text


@pytest.mark.parametrize("kind", RECIPES)
def test_the_architecture_of_a_recipe_is_stated(kind):
    assert RECIPES[kind].architecture_sentence() in RECIPES[kind].sentence("DATA")


@pytest.mark.parametrize(
    ("augmentation", "words"),
    [
        ("dihedral", "a random flip or quarter turn of every image."),
        ("crop", "every image padded with black by an eighth of its side, cropped at random and mirrored"),
        ("none", "images as they are."),
    ],
)
def test_augmentations_of_the_small_recipe_in_words(augmentation, words):
    assert words in changed(SMALL, "augmentation", augmentation).sentence("DATA")


def test_dino_in_words():
    text = DINO.sentence("DATA")
    for part in (
        r"timm's \texttt{vit\_small\_patch16\_224}, patch\_size 16 on images of $224 \times 224$, without a head",
        r"without labels by self-distillation \citep{caron2021}",
        "on all but biases and norms;",
        "gradients of each parameter by itself clipped",
        "65536 prototypes of length one",
        "resampled bicubically without antialiasing and with $0.1$ added",
        "16 times 64 images, in bfloat16 autocast with 32-bit weights.",
    ):
        assert part in text
    assert "the student also" not in changed(DINO, "crops.local_crops", 0).sentence("DATA")


def test_the_published_run_in_words():
    text = DEIT3.sentence("DATA")
    for part in (
        "LAMB, learning rate $0.004$ after 5 epochs of linear warm-up",
        "binary cross-entropy",
        "ThreeAugment",
        "Mixup $0.8$ and CutMix $1$",
        "4 times 256",
    ):
        assert part in text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"models": {"vit-late": {"registers": 4}}}, "registers is 4; a recipe of kind late_register trains one"),
        ({"models": {"vit-late": {"architecture": {"depth": 2}}}}, "recipe: enters is 2, but blocks are 0 to 1"),
        (
            {"recipes": {"late-register": {"architecture": {"reads": "mean_patch"}}}},
            "recipe: reads is mean_patch, but its head reads outlier tokens; drop it",
        ),
    ],
)
def test_a_late_register_is_one_and_enters_between_blocks(change, message):
    content = overlay(read_yaml(ROOT / "params.yaml"), change)
    with pytest.raises(InputError, match=f"models.vit-late.{message}"):
        parse(content)


def test_a_recipe_with_words_for_its_models_leaves_the_names_of_others():
    study = load([ROOT / "params.yaml"])
    named = {name: study.models[name].label(name, study) for name in ("vit-r0", "vit-r4", "vit-late")}
    assert named == {
        "vit-r0": "ViT without registers",
        "vit-r4": "ViT with 4 registers",
        "vit-late": "ViT with a late register",
    }


def test_another_size_is_laid_over_the_small_recipe_alone():
    tiny = SMALL.with_architecture({"width": 64, "heads": 1})
    assert tiny.architecture_sentence() == "6 blocks of width 64 with 1 head"
    assert tiny.model_copy(update={"architecture": SMALL.architecture}) == SMALL
    assert DEIT3.with_architecture({}) == DEIT3
    for recipe in (DEIT3, DINO):
        with pytest.raises(ValueError, match="is laid over recipes of kind small; give another recipe"):
            recipe.with_architecture({"width": 64})


TOY = '''
from typing import Literal

from vit_registers.params.bases import Recipe


class ToyRecipe(Recipe):
    """A recipe that trains nothing."""

    kind: Literal["toy"]
    colour: str

    def own_sentence(self, datasets):
        return f"Models on {datasets} are {self.colour}."

    def architecture_sentence(self):
        return "no blocks"

    def nothing(self, *given):
        return None

    architecture_arguments = build = batches = objective = learning_rate = nothing
'''
ASK = """
import sys
from vit_registers.params.reading import overlay, parse, read_yaml
content = read_yaml(sys.argv[1])
common = {key: value for key, value in content["recipes"]["small"].items() if key in {
    "epochs", "batch_size", "lr", "betas", "weight_decay", "precision", "checkpoint_steps", "monitored_images",
    "monitored_maps"}}
params = parse(overlay(content, {"recipes": {"mine": {**common, "kind": "toy", "colour": "red"}}}))
print(params.recipes["mine"].sentence("data"))
"""


@pytest.mark.slow
def test_a_kind_is_there_once_its_file_is(tmp_path):
    shutil.copytree(ROOT / "src/vit_registers", tmp_path / "vit_registers")
    (tmp_path / "vit_registers/training/recipes/toy.py").write_text(TOY)
    command = [sys.executable, "-c", ASK, str(ROOT / "params.yaml")]
    found = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": str(tmp_path)}, cwd=tmp_path, capture_output=True, text=True
    )
    assert found.stdout.startswith("Models on data are red. Training takes 7 epochs"), found.stderr[-2000:]


def test_a_recipe_of_no_kind_is_refused_with_those_that_there_are():
    content = read_yaml(ROOT / "params.yaml")
    content["recipes"]["small"]["kind"] = "dinov2"
    with pytest.raises(InputError, match=r"recipes\.small: .*'deit3', 'dino', 'late_register', 'small'"):
        parse(content)
