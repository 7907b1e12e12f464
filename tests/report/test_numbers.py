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
        made.add("corloc", corloc, head="lost", dataset="shapes", model="planted", intervention=condition)
    made.add("corloc", 0.646, head="lost", dataset="shapes", model="tagged", intervention="append-4")
    against = {"reference_model": "tagged", "reference_intervention": "append-4"}
    where = {"dataset": "shapes", "model": "planted", "intervention": "ttr-4"}
    made.add("corloc", 0.003, head="lost", **where, **against)
    return made


def test_the_abstract_states_the_measured_numbers() -> None:
    params = load("embedded", PLANTED)
    said = text.findings(params, study_of(params, _measured()))
    for sentence in (
        r"on 3 models and the generated data set \texttt{shapes}, under 7 combinations of model and condition.",
        "Detection finds artifacts in 1 of 1 planted model and exactly the planted neurons in 0.",
        "Without planting, no artifacts were found in 1 model.",
        r"In Planted, 4 test-time registers take CorLoc from $36.7$\,\% to $64.9$\,\% (control: $64.6$\,\%); clearing",
    ):
        assert sentence in said
    assert not re.search(r"\s[,;.]|  ", said)


def test_a_study_without_artifacts_says_so() -> None:
    params = load("embedded", PLANTED)
    said = text.findings(params, study_of(params))
    assert "Detection finds artifacts in 0 of 1 planted model." in said
    assert "Test-time registers were not applicable: no model has artifacts." in said
    natural = only({"runs": [{"dataset": "shapes", "models": ["vit-r0"], "interventions": []}]})
    params = load("embedded", natural)
    said = text.findings(params, study_of(params))
    assert "Without planting, no artifacts were found in 1 model." in said
    assert "Test-time" not in said


def test_artifacts_of_the_embedding_are_said_to_be_made_by_no_neuron() -> None:
    run = {"dataset": "shapes", "models": ["vit-r0"], "interventions": ["ttr-4"]}
    params, made = load("embedded", only({"runs": [run]})), Measured()
    where = {"dataset": "shapes", "model": "vit-r0", "intervention": "baseline"}
    for metric, value in {"artifacts_found": 1.0, "detected_artifact_share": 0.03, "embedded_artifacts": 0.75}.items():
        made.add(metric, value, **where)
    said = text.findings(params, study_of(params, made))
    assert (
        "Artifacts arose without planting in 1 of 1 model, in 1 of them in the patch embedding, by no neuron." in said
    )


def test_macros_and_conditions(tmp_path: Path) -> None:
    params = load("embedded", PLANTED)
    written = numbers.text(params, study_of(params, _measured()), "An abstract.")
    made = dict(re.findall(r"\\newcommand{\\(\w+)}{(.*)}$", written, flags=re.MULTILINE))
    assert made == {"StudyTitle": "The embedded study", "Abstract": "An abstract."}
    assert "\\newif\\ifplanted\\plantedtrue\n" in written
    assert "\\newif\\ifreleased\\releasedfalse\n" in written


def test_the_methods_in_brief_count_data_models_and_conditions(tmp_path: Path) -> None:
    params = load("embedded", PLANTED)
    said = text.summary(params, study_of(params, _measured()), results(params, tmp_path, _measured()))
    for sentence in (
        r"The data are the generated data set \texttt{shapes} (4{,}000 train and 2{,}000 test images). 3 models were",
        "of the models, 1 was trained by the pipeline and 2 were made from others.",
        "under 3 interventions.",
        "exceeds 3 times the median patch norm at the output of the block that decides",
        r"Brackets hold the 95 \% interval",
    ):
        assert sentence in said


@pytest.mark.slow
def test_the_same_text_every_time_for_every_study(params: Params, tmp_path: Path) -> None:
    at = results(params, tmp_path)
    text.run(params, at)
    first = {path.name: path.read_text() for path in at.report_texts}
    text.run(params, at)
    assert first == {path.name: path.read_text() for path in at.report_texts}
    conditions = {name for name, holds in facts(params).items() if isinstance(holds, bool)}
    assert set(re.findall(r"\\newif\\if(\w+)", first["numbers.tex"])) == conditions
    assert len(re.findall(r"\\(?:long)?resulttable{", first["results.tex"])) <= 5  # whatever the study
    assert len(re.findall(r"\\resultfigure{", first["results.tex"])) <= 6


@pytest.mark.parametrize("count", [1, 2])
def test_models_on_several_data_sets_count_as_pairs(count: int) -> None:
    runs = [{"dataset": name, "models": ["vit-r0"], "interventions": []} for name in ("shapes", "shapes-grey")[:count]]
    params = load("embedded", only({"runs": runs}))
    said = text.findings(params, study_of(params))
    assert ("on 1 model and" if count == 1 else "on 2 pairs of model and data set and") in said


def test_of_many_data_sets_the_first_are_named() -> None:
    names = [f"d{i}" for i in range(6)]
    change = only({"runs": [{"dataset": name, "models": ["untrained"], "interventions": []} for name in names]})
    change["datasets"] = {name: {"kind": "folder", "path": "/data"} for name in names}
    params = load("embedded", change)
    assert numbers.data_sets(params) == r"the data sets \texttt{d0}, \texttt{d1}, \texttt{d2} and 3 more"
