"""What every kind of model source says of itself, and that a kind is there by its file being there."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from vit_registers.params.bases import ModelSource
from vit_registers.params.kinds import kinds
from vit_registers.params.reading import overlay, parse, read_yaml

ROOT = Path(__file__).parents[2]
SOURCES = kinds("vit_registers.models.sources", ModelSource)

# One model of every kind over those of params.yaml, what it is called, and what the methods text says of it.
EXAMPLES = {
    "timm": (
        "{kind: timm, name: vit_tiny_patch16_224, weights: random, image_size: [32, 64]}",
        "mine",
        (
            r"\texttt{mine} (timm's \texttt{vit\_tiny\_patch16\_224}, random weights, at $32 \times 64$ pixels with "
            "learned position embeddings resampled bicubically with antialiasing)"
        ),
    ),
    "file": (
        "{kind: file, path: weights.pth, name: vit_tiny_patch16_224}",
        "mine",
        r"\texttt{mine} (timm's \texttt{vit\_tiny\_patch16\_224} with the weights of \texttt{weights.pth})",
    ),
    "openclip": (
        "{kind: openclip, name: ViT-B-16, pretrained: openai}",
        "mine",
        r"\texttt{mine} (OpenCLIP's \texttt{ViT-B-16}, \texttt{openai})",
    ),
    "trained": (
        "{kind: trained, dataset: shapes, recipe: small, registers: 3, architecture: {width: 64, heads: 1}}",
        "ViT 64 wide, 3 registers",
        r"\texttt{mine} (3 registers, 6 blocks of width 64 with 1 head)",
    ),
    "untrained": (
        "{kind: untrained, image_size: 64, patch_size: 8, width: 128, depth: 6, heads: 2, registers: 4}",
        "Untrained ViT, 4 registers",
        r"\texttt{mine} (a ViT with random weights, 6 blocks of width 128 with 2 heads, 4 registers, patches of",
    ),
    "pixels": (
        "{kind: pixels, image_size: 64, patch_size: 16}",
        "Raw pixels",
        r"\texttt{mine} (the normalised pixels of each patch of $16 \times 16$ in place of its token)",
    ),
    "tagged": (
        "{kind: tagged, base: vit-r4, planting: background}",
        "Mine",
        r"\texttt{mine} is \texttt{vit-r4} with the tag alone",
    ),
    "planted": (
        "{kind: planted, base: tagged, planting: background}",
        "Mine",
        r"\texttt{mine} is \texttt{tagged} with 4 register neurons written in closed form into the MLP of block 2",
    ),
    "resized": (
        "{kind: resized, base: vit-r4, image_size: [48, 32], positions: {antialias: false}}",
        "ViT with 4 registers at 48x32 px, plain",
        r"\texttt{mine} is \texttt{vit-r4} at $48 \times 32$ pixels with learned position embeddings resampled",
    ),
}


def study(model, name="mine"):
    change = {"models": {name: yaml.safe_load(model)}, "study": {"trainings": []}}
    return parse(overlay(read_yaml(ROOT / "params.yaml"), change))


def test_there_is_an_example_of_every_kind():
    assert EXAMPLES.keys() == SOURCES.keys()


@pytest.mark.parametrize("kind", EXAMPLES)
def test_every_kind_is_called_and_described_by_its_own_values(kind):
    model, label, sentence = EXAMPLES[kind]
    params = study(model)
    source = params.models["mine"]
    assert type(source) is SOURCES[kind]
    assert source.label("mine", params) == label
    assert source.sentence("mine", params).startswith(sentence)
    assert source.step in ("fetch", "train", "plant", "resize")
    assert source.made
    assert source.made_from in (None, *params.models)
    assert set(source.paths()) <= set(type(source).model_fields)


def test_models_are_made_from_the_base_that_they_name_and_others_from_none():
    named = {kind: study(model).models["mine"].made_from for kind, (model, *_) in EXAMPLES.items()}
    assert {kind: base for kind, base in named.items() if base} == {
        "tagged": "vit-r4",
        "planted": "tagged",
        "resized": "vit-r4",
    }


@pytest.mark.parametrize(
    ("name", "label"),
    [("planted-cls", "Planted [CLS]"), ("planted_again", "Planted again"), ("cls-first", "[CLS] first")],
)
def test_a_planted_model_is_called_its_key_in_words(name, label):
    params = study(EXAMPLES["planted"][0], name)
    assert params.models[name].label(name, params) == label


@pytest.mark.parametrize(
    ("model", "labels"),
    [("vit-r4", ["vit-r0", "vit-r4"]), ("vit-r1", ["ViT without registers", "ViT with 4 registers"])],
    ids=["a model of the study", "one that no run has"],
)
def test_trainings_of_a_study_by_several_recipes_are_called_their_keys(model, labels):
    change = {
        "recipes": {"other": read_yaml(ROOT / "params.yaml")["recipes"]["small"]},
        "models": {model: {"recipe": "other"}},
    }
    params = parse(overlay(read_yaml(ROOT / "params.yaml"), change))
    assert {"vit-r0", "vit-r4"} < set(params.models_used())
    assert "vit-r1" not in params.models_used()
    assert [params.models[name].label(name, params) for name in ("vit-r0", "vit-r4")] == labels


@pytest.mark.parametrize(
    ("direction", "words"),
    [
        ("random", "and write a random direction of zero mean of 10 times"),
        ("cls", "queries of later blocks and leaves the content of [CLS] as it is of 10 times"),
        ("cls-raw", "queries of later blocks, whatever the values carry into [CLS] of 10 times"),
    ],
)
def test_what_planted_neurons_write_is_stated(direction, words):
    change = {"plantings": {"background": {"direction": direction}}}
    params = parse(overlay(read_yaml(ROOT / "params.yaml"), change))
    assert words in params.models["planted"].sentence("planted", params)


TOY = '''
from typing import ClassVar, Literal

from vit_registers.params.bases import ModelSource


class ToyModel(ModelSource):
    """A model that is its own."""

    step: ClassVar[str] = "fetch"
    made: ClassVar[str] = "a toy"

    kind: Literal["toy"]
    colour: str

    def sentence(self, name, params):
        return f"{name} is a {self.colour} toy"
'''
ASK = """
import pathlib, sys
from vit_registers.params.reading import overlay, parse, read_yaml
toy = {"models": {"mine": {"kind": "toy", "colour": "red"}}}
params = parse(overlay(read_yaml(sys.argv[1]), toy))
print(params.models["mine"].sentence("mine", params))
"""


@pytest.mark.slow
def test_a_kind_is_there_once_its_file_is(tmp_path):
    shutil.copytree(ROOT / "src/vit_registers", tmp_path / "vit_registers")
    (tmp_path / "vit_registers/models/sources/toy.py").write_text(TOY)
    command = [sys.executable, "-c", ASK, str(ROOT / "params.yaml")]
    found = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": str(tmp_path)}, cwd=tmp_path, capture_output=True, text=True
    )
    assert found.stdout == "mine is a red toy\n", found.stderr[-2000:]


def test_no_kind_of_source_or_recipe_loads_torch():
    ask = "import sys, vit_registers.params.study; print(sorted({'torch', 'timm', 'open_clip'} & set(sys.modules)))"
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    found = subprocess.run([sys.executable, "-c", ask], env=environment, capture_output=True, text=True)
    assert found.stdout == "[]\n", found.stderr[-2000:]
