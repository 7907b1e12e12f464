import re
from pathlib import Path

import jinja2
import pytest

from helpers.studies import ROOT, load, only
from vit_registers.params.study import Params
from vit_registers.pipeline import experiment
from vit_registers.pipeline.experiment import Found, Table, View
from vit_registers.report.bibliography import papers
from vit_registers.report.facts import caption, facts, latex_caption

REFERENCES = ROOT / "report" / "references.bib"
NATURAL = {"runs": [{"dataset": "shapes", "models": ["vit-r0", "vit-r4"], "interventions": ["append-4"]}]}


def _views(params: Params) -> list[tuple[Found, View]]:
    on = [found for name, found in experiment.found().items() if name in params.experiment_names]
    return [(found, view) for found in on for view in (*found.experiment.tables, *found.experiment.figures)]


def test_every_caption_can_be_read_in_every_study(params: Params) -> None:
    keys = {paper.key for paper in papers(REFERENCES) if paper.key.endswith(paper.year)}
    for found, view in _views(params):
        text = caption(params, found, view, REFERENCES)
        assert text.endswith("."), f"{view.name}: a caption is a sentence"
        assert not re.search(r"[\\{}]|<<|>>|~|\bNone\b|\bTrue\b|\bFalse\b", text), f"{view.name}: {text}"
        assert not keys & set(re.findall(r"\w+", text)), f"{view.name}: a key of a paper is left"
        latex = latex_caption(params, found, view, REFERENCES)
        assert latex.isascii(), f"{view.name}: pdflatex may lack {set(latex) - set(map(chr, range(128)))}"
        assert latex.count("{") == latex.count("}")


def test_a_name_that_is_no_fact_is_an_error() -> None:
    params = load("embedded")
    found = next(iter(experiment.found().values()))
    with pytest.raises(jinja2.UndefinedError, match="nonsense"):
        caption(params, found, Table(name="t", draw="m:f", caption="{{ nonsense }}"), REFERENCES)


def test_a_caption_as_plain_text_and_as_latex() -> None:
    params = load("embedded")
    found = experiment.found()["object_discovery"]
    view = Table(
        name="t", draw="m:f", caption="{{ settings.lost.k }} of 100 % on\n  {{ dense_images }}, as simeoni2021 has it."
    )
    k = params.settings("object_discovery").lost.k
    assert caption(params, found, view, REFERENCES) == (
        f"{k} of 100 % on the first 1,000 images of the test split, as Simeoni et al. (2021) has it."
    )
    assert latex_caption(params, found, view, REFERENCES) == (
        rf"{k} of 100 \% on the first 1,000 images of the test split, as \citet{{simeoni2021}} has it."
    )


def test_facts_of_the_embedded_study_and_of_one_without_planted_models() -> None:
    embedded, natural = facts(load("embedded")), facts(load("embedded", only(NATURAL)))
    assert {name for name, holds in embedded.items() if holds is True} == {
        *("planted", "resized", "trained", "natural", "generated", "compared", "moved"),
    }
    assert {name for name, holds in natural.items() if holds is True} == {"trained", "natural", "generated"}
    assert natural["models"] == "2 models"
    assert natural["datasets"] == ["shapes"]


def test_models_from_elsewhere_make_a_study_one_of_released_models() -> None:
    change = only({"runs": [{"dataset": "shapes", "models": ["elsewhere"], "interventions": []}]})
    change["models"] = {"elsewhere": {"kind": "timm", "name": "vit_small_patch16_224"}}
    assert facts(load("embedded", change))["released"]


def test_conditions_have_names_that_tex_can_read(params: Params) -> None:
    assert all(name.isalpha() for name, holds in facts(params).items() if isinstance(holds, bool))


def test_the_html_report_shows_the_caption_that_the_workflow_passes() -> None:
    folder = ROOT / "workflow" / "report"
    assert sorted(path.name for path in folder.iterdir()) == ["report.rst", "study.rst", "view.rst"]
    assert "{{ snakemake.params.caption }}" in Path(folder / "view.rst").read_text()
