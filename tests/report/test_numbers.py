import re
from pathlib import Path

import pytest

from helpers.studies import Measured, load, only, results, study_of
from vit_registers.params.study import Params
from vit_registers.report import numbers, text
from vit_registers.report.facts import facts

PLANTED = only(
    {
        "runs": [
            {"dataset": "shapes", "models": ["vit-r0"], "interventions": ["append-4", "ttr-4"]},
            {"dataset": "shapes", "models": ["tagged"], "interventions": ["append-4"]},
            {"dataset": "shapes", "models": ["planted"], "interventions": ["append-4", "ttr-4", "cleared"]},
        ],
        "comparisons": [{"question": "do registers repair?", "a": "planted/ttr-4", "b": "tagged/append-4"}],
    }
)


def _measured() -> Measured:
    """The planted model has artifacts, and test-time registers undo what they do to CorLoc."""
    made = Measured()
    for model, found in {"vit-r0": 0, "tagged": 0, "planted": 1}.items():
        where = {"dataset": "shapes", "model": model, "intervention": "baseline"}
        made.add("artifacts_found", found, **where)
        made.add("detected_artifact_share", 0.0346 * found + 0.0001, **where)
        if found:
            made.add("images_affected", 0.7, **where)
            made.add("neuron_precision", 1.0, **where)
            made.add("neuron_recall", 0.75, **where)
    for condition, corloc in {"baseline": 0.367, "append-4": 0.363, "ttr-4": 0.649, "cleared": 0.633}.items():
        where = {"dataset": "shapes", "model": "planted", "intervention": condition}
        made.add("corloc", corloc, head="lost", **where)
        made.add("corloc", 0.1, head="dino_seg", **where)
        made.add("top1", 0.95, feature="cls", head="refitted", seed=0, **where)
        made.add("top1", 0.94, feature="cls", head="refitted", **where)
    control = {"dataset": "shapes", "model": "tagged", "intervention": "append-4"}
    made.add("corloc", 0.646, head="lost", **control)
    against = {"reference_model": "tagged", "reference_intervention": "append-4"}
    where = {"dataset": "shapes", "model": "planted", "intervention": "ttr-4"}
    made.add("corloc", 0.003, head="lost", **where, **against)
    made.add("top1", -0.006, feature="cls", head="refitted", **where, **against)
    return made


def test_the_abstract_states_the_measured_numbers() -> None:
    params = load("embedded", PLANTED)
    said = numbers.findings(params, study_of(params, _measured()))
    for sentence in (
        r"In 1 model without planted register neurons, no artifacts were found (the largest share of artifact patches "
        r"is $0.01$\,\% [$-0.99$, $1.01$]).",
        r"In Planted, $3.47$\,\% [$2.47$, $4.47$] of the patches are artifacts, in $70.0$\,\% [$69.0$, $71.0$] of "
        r"the images; detection returns the planted neurons with precision $100.0$\,\% [$99.0$, $101.0$] and "
        r"recall $75.0$\,\%",
        r"CorLoc of Planted is $36.7$\,\% [$35.7$, $37.7$] without intervention and $64.9$\,\% [$63.9$, $65.9$] with "
        r"4 test-time registers, compared with $64.6$\,\% [$63.6$, $65.6$] in the control (Tagged, 4 zero tokens); the "
        r"paired difference is $+0.3$ [$-0.7$, $+1.3$] points.",
        r"With neurons cleared and no token appended it is $63.3$\,\% [$62.3$, $64.3$].",
        r"Top-1 accuracy of a linear probe on its {[}CLS{]} token differs from the control by $-0.6$",
    ):
        assert sentence.replace("{[}", "[").replace("{]}", "]") in said.replace("{[}", "[").replace("{]}", "]")
    assert not re.search(r"\s[,;.]|  ", said)


def test_a_study_without_artifacts_says_so() -> None:
    params = load("embedded", PLANTED)
    said = numbers.findings(params, study_of(params))
    assert "No artifacts were found in the planted model Planted." in said
    assert said.endswith("Test-time registers were not applicable: no model has artifacts.")
    natural = only({"runs": [{"dataset": "shapes", "models": ["vit-r0"], "interventions": []}]})
    params = load("embedded", natural)
    assert numbers.findings(params, study_of(params)) == (
        "In 1 model without planted register neurons, no artifacts were found."
    )


def test_artifacts_of_the_embedding_are_said_to_be_made_by_no_neuron() -> None:
    run = {"dataset": "shapes", "models": ["vit-r0"], "interventions": ["ttr-4"]}
    params, made = load("embedded", only({"runs": [run]})), Measured()
    where = {"dataset": "shapes", "model": "vit-r0", "intervention": "baseline"}
    for metric, value in {"artifacts_found": 1.0, "detected_artifact_share": 0.03, "embedded_artifacts": 0.75}.items():
        made.add(metric, value, **where)
    said = numbers.findings(params, study_of(params, made))
    assert "artifacts were found in 1 (ViT without registers)" in said
    assert (
        r"; of these, $75.0$\,\% [$74.0$, $76.0$] stand out in the patch embedding already, so that no neuron" in said
    )
    assert "not applicable" not in said  # it has artifacts, though no boxes tell what registers do to them


def test_macros_and_conditions(tmp_path: Path) -> None:
    params = load("embedded", PLANTED)
    measured = _measured()
    written = numbers.text(params, study_of(params, measured), results(params, tmp_path, measured))
    made = dict(re.findall(r"\\newcommand{\\(\w+)}{(.*)}$", written, flags=re.MULTILINE))
    assert made["ModelCount"] == "3 models"
    assert made["ConditionCount"] == "7"  # what has a value: not vit-r0 under any intervention
    assert made["DataText"] == r"the generated data set \texttt{shapes} (4{,}000 train and 2{,}000 test images)"
    assert "\\newif\\ifplanted\\plantedtrue\n" in written
    assert "\\newif\\ifreleased\\releasedfalse\n" in written


@pytest.mark.slow
def test_the_same_text_every_time_for_every_study(params: Params, tmp_path: Path) -> None:
    at = results(params, tmp_path)
    names = ("numbers", "methods", "results", "versions")
    text.run(params, at)
    first = {name: (at.report / f"{name}.tex").read_text() for name in names}
    text.run(params, at)
    assert first == {name: (at.report / f"{name}.tex").read_text() for name in names}
    conditions = {name for name, holds in facts(params).items() if isinstance(holds, bool)}
    assert set(re.findall(r"\\newif\\if(\w+)", first["numbers"])) == conditions


@pytest.mark.parametrize("count", [1, 2])
def test_models_on_several_data_sets_count_as_pairs(count: int) -> None:
    runs = [{"dataset": name, "models": ["vit-r0"], "interventions": []} for name in ("shapes", "shapes-grey")[:count]]
    params = load("embedded", only({"runs": runs}))
    said = numbers.findings(params, study_of(params))
    assert ("In 1 model without" if count == 1 else "In 2 pairs of model and data set without") in said
