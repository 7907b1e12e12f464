"""What the report says of what detection found."""

from pathlib import Path

import pandas as pd

from vit_registers.experiments import register_neurons
from vit_registers.experiments.register_neurons import tables
from vit_registers.report.templates import latex
from vit_registers.views.study import Study

HERE = Path(register_neurons.__file__).parent


def test_results_say_what_was_found(study):
    text = " ".join(latex(HERE / "results.tex.j2", study=study, natural=True).split())
    assert "In 1 model without planting, no artifacts were found; the largest share of artifact patches is" in text
    assert r"is $0.00$ [$0.00$, $0.00$]\,\%." in text
    assert (
        r"In Planted {[}CLS{]}, $3.40$ [$3.06$, $3.74$]\,\% of the patches are artifacts, "
        r"in $80.0$ [$70.0$, $90.0$]\,\% of the images; "
        r"detection finds the planted neurons with precision $100.0$ [$10.0$, $100.0$]\,\% and recall "
        r"$100.0$ [$20.0$, $100.0$]\,\%."
    ) in text
    assert r"Table~\ref{tab:natural_models}" in text


def test_results_of_a_study_in_which_natural_models_have_artifacts(study):
    plan = study.plan.model_copy(update={"kinds": {"vit-r0": "planted", "planted": "timm"}})
    study.plan = plan
    text = " ".join(latex(HERE / "results.tex.j2", study=study, natural=True).split())
    assert "In 1 model without planting, artifacts were found in 1: Planted {[}CLS{]}." in text
    assert "precision" not in text
    assert "In the planted model ViT without registers no artifacts were found." in text


def test_a_percentile_is_never_said_to_have_found_artifacts(study):
    rows = study.rows
    of = (rows["model"] == "vit-r0") & rows["metric"].isin(["artifacts_found", "detected_artifact_share"])
    rows.loc[of, "value"] = pd.NA
    rows.loc[of, "note"] = "high-norm patches by definition"
    text = " ".join(latex(HERE / "results.tex.j2", study=Study(study.plan, rows), natural=True).split())
    assert "Artifacts were not looked for in ViT without registers: the patches above a percentile" in text
    assert "without planting" not in text
    frame = tables.natural_models(Study(study.plan, rows)).frame()
    assert frame["verdict"].tolist() == ["not looked for"]
    shown = tables.detection(Study(study.plan, rows)).frame()
    assert shown["note"].iloc[0] == "not looked for"
