"""What the report says of what detection found."""

import pandas as pd

from helpers.prose import said
from vit_registers.experiments.register_neurons import tables
from vit_registers.experiments.register_neurons.told import told
from vit_registers.views.study import Condition, Study

NAME = "register_neurons"


def test_results_open_with_what_was_found_and_have_three_numbers(study):
    text = said(NAME, study)
    assert text.startswith(
        "Detection finds artifacts in 1 of 1 planted model and returns exactly the planted neurons in 1 of these; "
        "of 1 model without planting, none have artifacts. In Planted {[}CLS{]}, $3.40$"
    )
    assert r"of the patches are artifacts, in $80.0$\,\% [$70.0$, $90.0$] of the images." in text
    assert text.count("[$") == 2
    assert r"Table~\ref{tab:artifacts}" in text


def test_results_of_a_study_in_which_natural_models_have_artifacts(study):
    study.plan = study.plan.model_copy(update={"kinds": {"vit-r0": "planted", "planted": "timm"}})
    text = said(NAME, study)
    assert "Detection finds artifacts in 0 of 1 planted model; of 1 model without planting, 1 has artifacts." in text
    assert "precision" not in text
    short = said(NAME, study, "shortfalls")
    assert "No artifacts were found in ViT without registers, although register neurons were planted." in short
    assert "arose by themselves" not in short


def test_what_does_not_hold_of_natural_models_and_of_neurons_that_are_not_those_planted(study):
    rows = study.rows.copy()
    rows.loc[(rows["model"] == "planted") & (rows["metric"] == "neuron_recall"), "value"] = 0.5
    text = said(NAME, Study(study.plan, rows), "shortfalls")
    assert "Not one of 1 model without planting has any" in text
    assert r"planted neurons of Planted {[}CLS{]}; the lowest recall is $50.0$" in text
    assert "Planted and not found" not in text
    assert said(NAME, study, "shortfalls").count("item") == 1  # where all come back, the first alone


def test_who_is_told_of(study):
    planted, natural = Condition("shapes", "planted"), Condition("shapes", "vit-r0")
    chosen = told(study)
    assert chosen["exact"] == chosen["affected"] == chosen["planted_models"] == [planted]
    assert chosen["natural_models"] == [natural]
    assert chosen["missed"] == chosen["inexact"] == chosen["arisen"] == chosen["embedded"] == chosen["defined"] == []


def test_the_abstract_has_a_sentence_for_planted_and_one_for_other_models(study):
    assert said(NAME, study, "abstract") == (
        "Detection finds artifacts in 1 of 1 planted model and exactly the planted neurons in 1. "
        "Without planting, no artifacts were found in 1 model."
    )


def test_the_table_of_the_body_has_models_with_artifacts_first(study):
    frame = tables.artifacts(study).frame()
    assert frame["model"].tolist() == ["planted", "vit-r0"]
    assert frame["verdict"].tolist() == ["artifacts found", "no artifacts found"]
    assert "[" not in tables.artifacts(study).latex().replace("{[}CLS{]}", "")


def test_a_percentile_is_never_said_to_have_found_artifacts(study):
    rows = study.rows
    of = (rows["model"] == "vit-r0") & rows["metric"].isin(["artifacts_found", "detected_artifact_share"])
    rows.loc[of, "value"] = pd.NA
    rows.loc[of, "note"] = "high-norm patches by definition"
    text = said(NAME, Study(study.plan, rows))
    assert "Artifacts were not looked for in ViT without registers: the patches above a percentile" in text
    assert "without planting" not in text
    frame = tables.natural_models(Study(study.plan, rows)).frame()
    assert frame["verdict"].tolist() == ["not looked for"]
    shown = tables.detection(Study(study.plan, rows)).frame()
    assert shown["note"].iloc[0] == "not looked for"
