import copy
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from helpers.studies import ROOT, load, only, study_of
from vit_registers.params.study import Params
from vit_registers.pipeline import experiment
from vit_registers.report import text
from vit_registers.report.bibliography import papers

KNOWN = {paper.key for paper in papers(ROOT / "report" / "references.bib")}
FRAME = (ROOT / "report" / "report.tex").read_text() + (ROOT / "report" / "errata.tex").read_text()
VIEWS = {"tab": experiment.tables(), "fig": experiment.figures()}


@pytest.mark.slow
def test_methods_and_results_of_every_study(params: Params) -> None:
    """Nothing is undefined, every paper is known, and every reference is to something that this report has."""
    study = study_of(params)
    methods, results = text.methods(params, study), text.results(params, study)
    further, short = text.appendix(params, study), text.shortfalls(params, study)
    written = methods + results + further + short
    cited = re.findall(r"\\cite[pt]?{([^}]+)}", written)
    assert {key for keys in cited for key in keys.split(",")} <= KNOWN
    shown = {view.name for name in params.experiment_names for view in text.views(params, experiment.found()[name])}
    for kind, name in re.findall(r"\\ref{(tab|fig):(\w+)}", written):
        assert name in VIEWS[kind], f"{kind}:{name} is a label of nothing"
        assert name in shown, f"{kind}:{name} is not in this report; guard it by `'{name}' in shown`, or use \\see..."
    headings = re.findall(r"\\paragraph{([^}]*)}", methods)
    assert len(headings) == len(set(headings)), "two experiments, or one and the general part, tell the same"
    for word in ("None", "True", "False", "<<", "<%", "undefined"):
        assert not re.search(rf"(?<!\w){word}(?!\w)", written), word
    for name in params.experiment_names:
        for view in text.views(params, experiment.found()[name]):
            section, label = (results, "sec") if view.place == "body" else (further, "app")
            assert rf"\label{{{label}:{name}}}" in section
            kind = "figure" if isinstance(view, experiment.Figure) else "table"
            assert len(re.findall(rf"result{kind}{{{view.name}}}", results + further)) == 1
    told = set(re.findall(r"\\label{sec:(\w+)}", results))  # those of which nothing is to be said have no section
    labels = {label for label in re.findall(r"\\label{(app:\w+)}", further) if label.removeprefix("app:") in told}
    assert set(re.findall(r"\\ref{(app:\w+)}", results)) == labels


def test_the_body_has_few_tables_and_figures_and_none_that_goes_on_over_pages() -> None:
    """Views are declared for it where their size has a bound, whatever the study."""
    body = [view for views in VIEWS.values() for _, view in views.values() if view.place == "body"]
    assert 0 < len(body) <= 10
    for view in body:
        assert not view.long, view.name
        if isinstance(view, experiment.Table):
            assert view.most is not None or view.name == "claims_by_paper", view.name  # a row a paper


def test_the_frame_refers_to_tables_and_figures_that_an_experiment_declares() -> None:
    params = load("embedded")
    shown = {view.name for name in params.experiment_names for view in text.views(params, experiment.found()[name])}
    assert set(re.findall(r"\\seetable{(\w+)}", FRAME)) <= set(VIEWS["tab"]) & shown
    assert set(re.findall(r"\\seefigure{(\w+)}", FRAME)) <= set(VIEWS["fig"]) & shown


def test_every_view_of_an_experiment_stands_in_its_section_with_its_caption() -> None:
    params = load("embedded")
    results = text.appendix(params, study_of(params))
    section = results[results.index(r"\label{app:object_discovery}") :].split(r"\subsection")[0]
    assert r"\longresulttable{lost_corloc}{\footnotesize}{CorLoc of LOST" in section
    assert r"\resultfigure{lost_steps}{LOST on gallery images" in section
    assert "lost_grid" not in section  # in the CSV only


def test_an_experiment_that_is_off_is_not_in_the_report() -> None:
    on = load("embedded")
    off = on.model_copy(update={"experiments": on.experiments.model_copy(update={"object_discovery": None})})
    study = study_of(off)
    assert "LOST" not in text.methods(off, study)
    assert "lost_corloc" not in text.results(off, study) + text.appendix(off, study)


def _leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    if isinstance(value, dict):
        for key, child in value.items():
            yield from _leaves(child, (*path, key))
    else:
        yield path, value


# Kept for experiments, whose own methods say so, or for figures.
KEPT = {
    *(
        "projections",
        "projections_size",
        "cls_blocks",
        "patch_layers",
        "specials_layers",
        "cls_parts",
        "attention_heads",
    ),
    *("attention_columns", "attention_maps", "neighbours", "frozen_only"),
    *("workers", "ahead", "shards"),  # how a job goes, and not what it gives
    "sparsity_tokens",  # of a filter that is off
}
OTHERS = {
    "batch_size": 8,
    "precision": "bf16",
    "dense_split": "val",
    "split": "test",
    "outlier_layer": -1,
    "highest_layer": -1,
    "score": "contribution",
    "threshold_rule": "absolute",
    "sparsity": "signed",
    "confidence": 0.9,
}
EMBEDDED = load("embedded", {"extraction": {"frozen_only": []}}).model_dump(mode="json")  # else no split is free
for each in EMBEDDED["study"]["runs"]:
    each["heads"] = "refitted"
STATED = [
    path
    for section in ("extraction", "detection", "statistics", "seed")
    for path, _ in _leaves(EMBEDDED[section], (section,))
    if not KEPT & set(path)
]


@pytest.mark.parametrize("path", STATED, ids=".".join)
def test_the_general_methods_state_every_value_that_ran(path: tuple[str, ...]) -> None:
    content = copy.deepcopy(EMBEDDED)
    place = content
    for key in path[:-1]:
        place = place[key]
    value = place[path[-1]]
    place[path[-1]] = OTHERS[path[-1]] if path[-1] in OTHERS else value + 1 if isinstance(value, int) else value / 2
    changed = Params.model_validate_json(json.dumps(content))
    study = study_of(changed)
    assert text.methods(changed, study) != text.methods(Params.model_validate_json(json.dumps(EMBEDDED)), study)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            {"threshold_rule": "ratio", "threshold": 3.0, "outlier_layer": -1},
            "exceeds 3 times the median patch norm at the last block, which",
        ),
        ({}, "exceeds 3 times the median patch norm at the output of the block that decides, which"),
        ({}, "The block that decides is the last one with at least half as many outlier patches as the block with the"),
        ({"threshold_rule": "absolute", "threshold": 150.0, "outlier_layer": -1}, "exceeds 150 at the last block. If"),
        (
            {"threshold_rule": "percentile", "threshold": 98.0, "outlier_layer": -1},
            "A patch is called a high-norm patch if the L2 norm of its raw block output exceeds the 98th percentile of "
            "all patch norms at the last block. This defines high-norm patches:",
        ),
        ({}, r"on the first 600 images of the \texttt{train} split, on which no norm, attention or CorLoc is"),
        ({"split": "test"}, "on the first 600 images of the \\texttt{test} split."),
        ({"score": "contribution"}, "here times the norm of the output column"),
        ({"highest_layer": "arising"}, "up to and including the first block whose output has artifacts, so that"),
        ({"sparsity": "signed", "sparsity_tokens": "all"}, "not sparse over all tokens of an image are left out"),
        ({"threshold_rule": "bimodal", "threshold": 2.0}, "if Ashman's $D$ between the modes is at least 2. If"),
        ({"outlier_layer": -2}, "median patch norm at block 2 from the end"),
        ({"highest_layer": 17}, "up to and including block 17,"),
        ({"sparsity": "absolute"}, "judged by the magnitude of the activation"),
    ],
)
def test_detection_in_words(change: dict[str, Any], sentence: str) -> None:
    params = load("embedded", {"detection": change, "experiments": {"detection_limits": None}})
    assert sentence in text.methods(params, study_of(params))


def test_models_with_a_threshold_of_their_own() -> None:
    params = load("embedded", {"detection_overrides": {"planted": {"threshold": 4.0, "top_k": 7}}})
    said = text.methods(params, study_of(params))
    assert (
        r"For \texttt{planted} the threshold is 4 times the median patch norm at the output of the block that" in said
    )
    assert "and the first 7 are taken." in said


def test_models_that_are_only_trained_are_named() -> None:
    runs = [{"dataset": "shapes", "models": ["vit-r0"], "interventions": []}]
    params = load("embedded", only({"runs": runs, "trainings": ["vit-r4", "vit-r0"]}))
    said = text.methods(params, study_of(params))
    assert r"\texttt{vit-r4} was monitored during training and not measured further." in said
    assert r"\texttt{vit-r4} (4 registers)" in said
    assert r"Models were measured without intervention (\texttt{baseline})." in said


def test_every_intervention_is_an_item_with_its_sentence() -> None:
    params = load("embedded")
    said = text.methods(params, study_of(params))
    for name in {name for run in params.study.runs for name in run.interventions}:
        assert rf"\item \texttt{{{name}}}: {params.interventions[name].sentence(params)}." in said
