"""Tables and prose of what single tokens know."""

from pathlib import Path

import pytest

from helpers.measuring import study_of
from helpers.studies import Measured
from vit_registers.experiments import single_tokens
from vit_registers.experiments.single_tokens import tables
from vit_registers.experiments.single_tokens.params import SingleTokens
from vit_registers.report.templates import latex, plain

HERE = Path(single_tokens.__file__).parent
SETTINGS = SingleTokens(
    images=1000,
    high_percentile=98.0,
    seeds=[0, 1, 2],
    hidden=1536,
    lr=1e-3,
    weight_decay=0.01,
    epochs=5,
    batch_size=256,
)
DIFFERENCE = {"group": "outlier", "reference_group": "normal"}


@pytest.fixture(scope="module")
def made():
    """A planted model with artifacts, and one without registers, artifacts and neighbours."""
    measured = Measured()
    for model, artifacts in (("planted", 1.0), ("vit-r0", 0.0)):
        at = {"dataset": "shapes", "model": model, "intervention": "baseline"}
        measured.add("outliers_are_artifacts", artifacts, **at)
        local = list(tables.LOCAL) if artifacts else list(tables.LOCAL)[1:]
        for i, metric in enumerate(local):
            measured.add(metric, 0.2 + i, group="outlier", **at)
            measured.add(metric, 0.5 + i, group="normal", **at)
            measured.add(metric, -0.3, 90, p=0.001, **DIFFERENCE, **at)
        for i, group in enumerate(["cls", "outlier", "normal"] + ["registers"] * bool(artifacts)):
            measured.add("token_class_top1", 0.9 - i / 10, 80, group=group, **at)
            measured.add("token_class_top1", 0.1, 80, group=group, seed=0, **at)
            measured.add("token_class_top1_sd", i / 100, 80, group=group, **at)
        measured.add("token_class_top1", 0.1, 80, p=0.25, **DIFFERENCE, **at)
    return study_of([measured.frame()], ["planted", "vit-r0"])


def test_outlier_stand_beside_normal_patches_with_their_difference(made):
    table = tables.local_information(made)
    frame = table.frame()
    assert frame["model"].tolist() == ["planted"] * 5 + ["vit-r0"] * 4  # neighbours were not kept of the other one
    assert frame["measure"].tolist()[:5] == list(tables.LOCAL.values())
    assert frame["outliers"].tolist() == ["artifacts"] * 5 + ["top norms"] * 4
    assert frame["outlier"].tolist()[:5] == pytest.approx([0.2, 1.2, 2.2, 3.2, 4.2])
    assert frame["normal"].tolist()[:5] == pytest.approx([0.5, 1.5, 2.5, 3.5, 4.5])
    assert frame["difference"].tolist() == [-0.3] * 9
    assert frame["difference_n"].tolist() == [90] * 9
    assert frame["difference_p"].tolist() == [0.001] * 9
    assert r"position, top-1 (\%) & artifacts & $150.0$" in table.latex()


def test_the_class_is_told_from_one_token_of_each_kind(made):
    table = tables.token_classification(made)
    frame = table.frame().set_index("model")
    planted, kinds = frame.loc["planted"], ("cls", "outlier", "normal", "registers")
    assert planted[[f"top1_{kind}" for kind in kinds]].tolist() == pytest.approx([0.9, 0.8, 0.7, 0.6])
    assert planted[[f"top1_{kind}_sd" for kind in kinds]].tolist() == [0.0, 0.01, 0.02, 0.03]
    assert (planted["difference"], planted["difference_p"]) == (0.1, 0.25)
    assert frame["top1_registers"].isna().tolist() == [False, True]
    assert "sd of draws" not in table.latex()


def test_the_methods_state_every_value_that_ran():
    text = " ".join(latex(HERE / "methods.tex.j2", settings=SETTINGS).split())
    for said in (
        "above the 98th percentile of all patch norms",
        "Of 1{,}000 images one half trains",
        "an MLP (1{,}536 hidden channels)",
        "AdamW, learning rate $0.001$, weight decay $0.01$, 5 epochs in batches of 256",
        "over 3 draws of tokens",
    ):
        assert said in text, said


@pytest.mark.parametrize("planted", [True, False])
def test_the_prose_and_captions_name_what_is_shown(planted):
    text = latex(HERE / "results.tex.j2", planted=planted)
    assert ("Planted artifacts stand" in text) == planted
    for table in single_tokens.EXPERIMENT.tables:
        assert rf"\ref{{tab:{table.name}}}" in text
        caption = plain(table.caption, settings=SETTINGS, dense_images="the first 9 images", estimates="Brackets.")
        assert "{" not in caption
    assert "mean over 3 draws" in caption
