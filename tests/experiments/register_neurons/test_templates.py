"""What the report says of detection."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from vit_registers.experiments import register_neurons
from vit_registers.params.passes import Detection
from vit_registers.report.templates import latex

HERE = Path(register_neurons.__file__).parent
SETTINGS = {
    "threshold_rule": "ratio",
    "threshold": 3.0,
    "outlier_layer": -2,
    "highest_layer": -1,
    "top_k": 4,
    "images": 1200,
    "minimum_share": 0.001,
    "sparsity": "off",
    "bootstrap": 100,
}


def said(**changes):
    """The methods paragraph under some settings."""
    own = Detection(**{**SETTINGS, "threshold_rule": "absolute", "threshold": 150.0, "top_k": 2})
    params = SimpleNamespace(
        detection=Detection(**{**SETTINGS, **changes}),
        detection_overrides={"big_model": {}},
        detection_of={"big_model": own}.__getitem__,
        study=SimpleNamespace(detections=[SimpleNamespace(dataset="grey", models=["a", "b"])]),
    )
    return latex(HERE / "methods.tex.j2", params=params)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({}, "exceeds 3 times the median patch norm at block 2 from the end, over all images together; fewer than"),
        ({"threshold_rule": "absolute"}, r"exceeds 3 at block 2 from the end; fewer than 0.1\,\% of the patches"),
        ({"threshold_rule": "percentile", "threshold": 97.5}, "exceeds the 97.5th percentile of all patch norms at"),
        ({"threshold_rule": "bimodal"}, "the valley between two modes of the log patch norms at block 2"),
        ({"outlier_layer": 0}, "median patch norm at block 0, over"),
        ({"sparsity": "signed"}, "that are not sparse over tokens, counted with sign, are left out."),
        ({"sparsity": "absolute"}, "that are not sparse over tokens, counted by size, are left out."),
        ({"images": 77}, "77 images are ranked over, up to the last block, and the first 4 are taken."),
        ({"top_k": 9}, "Stability is the mean overlap of the first 9 over 100 resamples"),
        ({"bootstrap": 5}, "over 5 resamples of the images."),
    ],
)
def test_every_setting_is_said(changes, sentence):
    text = said(**changes)
    assert sentence in text
    assert "1{,}200 images" in text or "images" in changes
    assert text.count("sparse") == ("sparsity" in changes)


def test_further_data_sets_and_settings_of_single_models_are_said():
    text = said()
    assert r"For \texttt{a} and \texttt{b} neurons are looked for on \texttt{grey} as well" in text
    assert r"For \texttt{big\_model} the threshold is 150 at block 2 from the end and the first 2 neurons" in text


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
