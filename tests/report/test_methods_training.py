from pathlib import Path

import pytest

from vit_registers import params
from vit_registers.report import methods_training

ROOT = Path(__file__).parents[2]
STUDY = params.load(ROOT / "params.yaml", [ROOT / "params/bach2025.yaml"])
RECIPE = STUDY.recipes["deit3-small"]
# What changes no result, and what the text says of every recipe in other words.
UNSTATED = {"kind", "workers", "checkpoint_steps", "keep_every"}


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
