"""What the report says of token statistics."""

import itertools
from pathlib import Path
from types import SimpleNamespace

import pytest

from vit_registers.experiments import token_statistics
from vit_registers.report.templates import latex, plain

HERE = Path(token_statistics.__file__).parent
FACTS = ("natural", "resized", "planted", "trained", "generated", "moved")


@pytest.mark.parametrize("holds", list(itertools.product([True, False], repeat=len(FACTS))))
def test_results_cite_what_is_printed_and_nothing_else(holds):
    facts = dict(zip(FACTS, holds, strict=True))
    text = latex(HERE / "results.tex.j2", study=SimpleNamespace(with_artifacts=[1]), **facts)
    experiment = token_statistics.EXPERIMENT
    for kind, views in (("tab", experiment.tables), ("fig", experiment.figures)):
        for view in views:
            printed = view.when is None or facts[view.when]
            assert (rf"\ref{{{kind}:{view.name}}}" in text) == printed, view.name
    assert ("The planted neurons read the place" in text) == (facts["resized"] and facts["planted"])
    assert ("With one object on each image" in text) == (facts["trained"] and facts["generated"])


def test_captions_can_be_filled_in():
    facts = {"dense_images": "the first 9 images", "estimates": "Brackets.", "resized": True, "moved": True}
    for view in (*token_statistics.EXPERIMENT.tables, *token_statistics.EXPERIMENT.figures):
        caption = plain(view.caption, trained=True, **facts)
        assert "{" not in caption
        assert "  " not in caption
