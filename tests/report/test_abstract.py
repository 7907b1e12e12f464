"""The abstract: what its words count, and which findings it takes."""

import pytest

from helpers.studies import Measured, load, only, study_of
from vit_registers.params.study import Params
from vit_registers.pipeline import experiment
from vit_registers.report import abstract, text

SCOPE = {"models": "2 models", "data": "the data set one", "conditions": "3 combinations", "released": True}
MANY = {"runs": [{"dataset": "shapes", "models": [f"m{i}" for i in range(30)], "interventions": ["append-4", "ttr-4"]}]}


@pytest.mark.parametrize(
    ("said", "count"),
    [
        ("two words", 2),
        (r"$35.7$\,\% of \emph{all} patches", 5),
        (r"{[}CLS{]} at~once", 3),
        (r"\texttt{shapes} and [$1.0$, $2.0$]", 4),
        ("", 0),
    ],
)
def test_words_are_those_that_are_printed(said: str, count: int) -> None:
    assert abstract.words(said) == count


def test_sentences_stand_apart_and_have_no_stray_spaces() -> None:
    assert abstract.sentences("\nOne\n , two .\n\n\n Three.\n") == ["One, two.", "Three."]


def test_first_sentences_of_all_subjects_go_before_second_ones_and_too_long_ones_are_left_out() -> None:
    room = abstract.WORDS - abstract.words(abstract.written([], **SCOPE))
    first, second = " ".join(["one"] * (room - 3)), "of second weight"
    said = abstract.written([[first, second], ["much too long " * 60, "three more words"]], **SCOPE)
    assert first in said
    assert second in said
    assert "too long" not in said
    assert "three more words" not in said
    assert abstract.words(said) == abstract.WORDS
    both = abstract.written([["a b"], ["c d", "e f"]], **SCOPE)
    assert "a b c d e f" in both


def _with_artifacts(params: Params) -> Measured:
    """Every model of a study has artifacts and is repaired, which makes the most of sentences."""
    made = Measured()
    for dataset, model in params.pairs():
        at = {"dataset": dataset, "model": model}
        base = {**at, "intervention": "baseline"}
        for metric in ("artifacts_found", "detected_artifact_share", "images_affected", "embedded_artifacts"):
            made.add(metric, 1.0, **base)
        for condition in params.conditions(dataset, model):
            value = {"baseline": 0.2, "cleared": 0.1}.get(condition, 0.5)
            for metric, axes in (("corloc", {"head": "lost"}), ("own_head_top1", {"head": "own"})):
                made.add(metric, value, **at, **axes, intervention=condition)
    return made


@pytest.mark.parametrize("name", ["embedded", "smoke", "extended"])
@pytest.mark.parametrize("artifacts", [True, False])
def test_no_study_has_an_abstract_of_more_than_two_hundred_words(name: str, artifacts: bool) -> None:
    params = load(name)
    said = text.findings(params, study_of(params, _with_artifacts(params) if artifacts else None))
    assert 50 < abstract.words(said) <= abstract.WORDS == 200
    assert said.endswith("is no evidence about released models.")
    assert "  " not in said


def test_the_abstract_of_a_study_of_many_models_stays_short() -> None:
    models = {f"m{i}": {"kind": "timm", "name": "vit_small_patch16_224"} for i in range(30)}
    params = load("embedded", only(MANY) | {"models": models})
    said = text.findings(params, study_of(params, _with_artifacts(params)))
    assert abstract.words(said) <= abstract.WORDS
    assert "30 models" in said
    assert "no evidence about released models" not in said


def test_sentences_of_the_abstract_are_no_longer_than_half_of_it() -> None:
    """One that never fits would never be read."""
    params = load("embedded")
    study = study_of(params, _with_artifacts(params))
    for found in experiment.found().values():
        for sentence in abstract.sentences(text.said(params, study, found, "abstract")):
            assert abstract.words(sentence) < 60, sentence
