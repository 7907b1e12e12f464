"""What the report says of what detection found."""

from pathlib import Path

from vit_registers.experiments import register_neurons
from vit_registers.report.templates import latex

HERE = Path(register_neurons.__file__).parent


def test_results_say_what_was_found(study):
    text = " ".join(latex(HERE / "results.tex.j2", study=study, natural=True).split())
    assert "In 1 model without planting, no artifacts were found; the largest share of artifact patches is" in text
    assert r"is $0.00$ [$0.00$, $0.00$]\,\%." in text
    assert (
        r"In Planted {[}CLS{]}, $3.40$ [$3.06$, $3.74$]\,\% of the patches are artifacts, "
        r"in $80.0$ [$70.0$, $90.0$]\,\% of the images; "
        r"detection finds the planted neurons with precision $100.0$\,\% and recall $100.0$\,\%."
    ) in text
    assert r"Table~\ref{tab:natural_models}" in text


def test_results_of_a_study_in_which_natural_models_have_artifacts(study):
    plan = study.plan.model_copy(update={"kinds": {"vit-r0": "planted", "planted": "timm"}})
    study.plan = plan
    text = " ".join(latex(HERE / "results.tex.j2", study=study, natural=True).split())
    assert "In 1 model without planting, artifacts were found in 1: Planted {[}CLS{]}." in text
    assert "precision" not in text
    assert "In the planted model ViT without registers no artifacts were found." in text
