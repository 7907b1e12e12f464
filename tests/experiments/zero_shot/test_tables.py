"""The table and the prose of zero-shot classification."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from helpers.measuring import study_of
from helpers.studies import Measured
from vit_registers.experiments import zero_shot
from vit_registers.experiments.zero_shot import tables
from vit_registers.experiments.zero_shot.params import ZeroShot
from vit_registers.report.templates import latex
from vit_registers.views import chosen

HERE = Path(zero_shot.__file__).parent


def study(*models):
    measured = Measured()
    for model in models:
        for condition, value in (("baseline", 0.7), ("append-1", 0.6)):
            at = {"dataset": "shapes", "model": model, "intervention": condition}
            measured.add("zero_shot_top1", value, 2000, **at)
            measured.add("zero_shot_top3", value + 0.2, 2000, **at)
        measured.add("zero_shot_top1", None, 0, note="no artifacts found: none", **{**at, "intervention": "ttr-1"})
    return study_of([measured.frame()], ["vit-r0", "clip"], interventions=["append-1", "ttr-1"])


def test_models_with_a_text_tower_under_every_condition():
    table = tables.zero_shot(study("clip"))
    frame = table.frame()
    expected = [["clip", "baseline"], ["clip", "append-1"], ["clip", "ttr-1"]]
    assert frame[["model", "condition"]].to_numpy().tolist() == expected
    assert frame["zero_shot"].tolist()[:2] == [0.7, 0.6]
    assert frame["zero_shot_top3"].tolist()[:2] == pytest.approx([0.9, 0.8])
    assert "$70.0$ [$69.0$, $71.0$]" in table.latex()
    assert "no artifacts found" in table.latex()


def test_a_study_without_a_text_tower_says_so():
    assert tables.zero_shot(study()).latex() == "\\emph{no model of this study has a text tower}\n"


def prose(name, tower, templates="openai"):
    models = {"clip": SimpleNamespace(has_text_tower=tower), "vit": SimpleNamespace(has_text_tower=False)}
    params = SimpleNamespace(models=models, pairs=lambda name: [("d", "vit"), ("d", "clip"), ("e", "clip")])
    known = {"study": study(), "chosen": chosen}
    text = latex(HERE / f"{name}.tex.j2", params=params, settings=ZeroShot(templates=templates), **known)
    return " ".join(text.split())


@pytest.mark.parametrize(
    ("templates", "said"),
    [
        ("openai", "which is the mean over OpenAI's prompts for ImageNet with its name"),
        ("simple", "which is the mean over OpenCLIP's short list of prompts with its name"),
        (["a {}"], r"which is the mean over the prompt ``a \{\}'' with its name"),
        (["a {}", "the {}", "{}"], r"the prompts ``a \{\}'', ``the \{\}'' and ``\{\}'' with its name"),
    ],
)
def test_the_methods_state_the_prompts(templates, said):
    text = prose("methods", True, templates)
    assert said in text
    assert text.count(r"\paragraph") == 1


def test_without_a_text_tower_nothing_is_said_but_that():
    assert prose("methods", False) == ""
    assert prose("results", False) == ""
