"""What the report says of token statistics."""

import itertools
from pathlib import Path
from types import SimpleNamespace

import pytest

from helpers.prose import said
from helpers.studies import Measured, load, only, study_of
from vit_registers.experiments import token_statistics
from vit_registers.report.templates import latex, plain

HERE = Path(token_statistics.__file__).parent
FACTS = ("natural", "resized", "planted", "trained", "generated", "moved")


@pytest.mark.parametrize("holds", list(itertools.product([True, False], repeat=len(FACTS))))
def test_the_appendix_cites_what_is_printed_and_nothing_else(holds):
    facts = dict(zip(FACTS, holds, strict=True))
    text = latex(HERE / "appendix.tex.j2", study=SimpleNamespace(with_artifacts=[1]), **facts)
    experiment = token_statistics.EXPERIMENT
    for kind, views in (("tab", experiment.tables), ("fig", experiment.figures)):
        for view in views:
            printed = view.place == "appendix" and (view.when is None or facts[view.when])
            assert (rf"\ref{{{kind}:{view.name}}}" in text) == printed, view.name
    assert ("The planted neurons read the place" in text) == (facts["resized"] and facts["planted"])
    assert ("With one object on each image" in text) == (facts["trained"] and facts["generated"])


def test_results_open_with_how_far_artifacts_stand_out():
    made = Measured()
    for model, ratio in (("planted", 10.0), ("vit-r0", 1.3)):
        where = {"dataset": "shapes", "model": model, "intervention": "baseline"}
        made.add("artifacts_found", float(model == "planted"), **where)
        made.add("norm_ratio_peak", ratio, **where)
    runs = [{"dataset": "shapes", "models": ["vit-r0", "planted"], "interventions": []}]
    study = study_of(load("embedded", only({"runs": runs})), made)
    text = said("token_statistics", study)
    assert text.startswith(
        "Artifacts stand out by their norm: in Planted the largest of an image is $10.0$ [$9.99$, $10.0$] times the "
        "median, in models without artifacts at most $1.30$ [$1.29$, $1.31$] times (ViT without registers)."
    )
    study = study_of(load("embedded", only({"runs": runs})))
    assert said("token_statistics", study).startswith("No norms were measured.")


def test_captions_can_be_filled_in():
    facts = {
        "dense_images": "the first 9 images",
        "estimates": "Brackets.",
        "resized": True,
        "moved": True,
        "pictures": "Images.",
    }
    for view in (*token_statistics.EXPERIMENT.tables, *token_statistics.EXPERIMENT.figures):
        caption = plain(view.caption, trained=True, **facts)
        assert "{" not in caption
        assert "  " not in caption
