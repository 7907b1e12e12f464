"""Tables and prose of what single tokens know."""

from pathlib import Path

import pytest

from helpers.measuring import study_of
from helpers.prose import said
from helpers.studies import Measured
from vit_registers.experiments import single_tokens
from vit_registers.experiments.single_tokens import tables
from vit_registers.experiments.single_tokens.params import SingleTokens
from vit_registers.pipeline.experiment import Figure
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
NORMAL = {"group": "outlier", "reference_group": "normal"}
MATCHED = {"group": "outlier", "reference_group": "matched"}
HIGHEST = {"group": "highest", "reference_group": "other"}


@pytest.fixture(scope="module")
def made():
    """A planted model with artifacts, and one without registers, artifacts, neighbours and a model it was made from."""
    measured = Measured()
    for model, artifacts in (("planted", 1.0), ("vit-r0", 0.0)):
        at = {"dataset": "shapes", "model": model, "intervention": "baseline"}
        measured.add("outliers_are_artifacts", artifacts, **at)
        for i, metric in enumerate(tables.LOCAL):
            if metric == "neighbour_cosine":
                if artifacts:
                    measured.add(metric, 0.2, group="outlier", **at)
                    measured.add(metric, 0.5, group="normal", **at)
                    measured.add(metric, -0.3, 90, p=0.001, **NORMAL, **at)
                continue
            for k, probe in enumerate(("pooled", "own")):
                measured.add(metric, 0.2 + i + 10 * k, group="outlier", probe=probe, **at)
                measured.add(metric, 0.5 + i + 10 * k, group="normal", probe=probe, **at)
                measured.add(metric, -0.3 - k, 90, p=0.001, probe=probe, **NORMAL, **at)
                if artifacts:
                    measured.add(metric, 0.1 + i + 10 * k, group="matched", probe=probe, **at)
                    measured.add(metric, 0.1 + k, 80, p=0.002, probe=probe, **MATCHED, **at)
        groups = ["cls", "highest", "other", "outlier", "normal"] + ["registers"] * bool(artifacts)
        for i, group in enumerate(groups):
            measured.add("token_class_top1", 0.9 - i / 10, 80, group=group, **at)
            measured.add("token_class_top1", 0.1, 80, group=group, seed=0, **at)
            if group not in ("cls", "highest"):
                measured.add("token_class_top1_sd", i / 100, 80, group=group, **at)
        measured.add("token_class_top1", 0.1, 80, p=0.25, **NORMAL, **at)
        measured.add("token_class_top1", 0.2, 90, p=0.5, **HIGHEST, **at)
    return study_of([measured.frame()], ["planted", "vit-r0"])


@pytest.mark.slow
def test_outlier_stand_beside_normal_patches_with_their_differences(made):
    table = tables.local_information(made)
    frame, probed = table.frame(), len(tables.LOCAL) - 1
    assert frame["model"].tolist() == ["planted"] * (2 * probed + 1) + ["vit-r0"] * 2 * probed  # no neighbours kept
    assert frame["outliers"].tolist() == ["artifacts"] * (2 * probed + 1) + ["top norms"] * 2 * probed
    planted = frame[frame["model"] == "planted"]
    assert planted["measure"].tolist()[::2][1:] == list(tables.LOCAL.values())[1:]
    by_probe = dict(iter(planted.groupby("probe")))
    assert by_probe["pooled"]["outlier"].tolist() == pytest.approx([0.2 + i for i in range(1, probed + 1)])
    assert by_probe["pooled"]["normal"].tolist() == pytest.approx([0.5 + i for i in range(1, probed + 1)])
    assert by_probe["own"]["outlier"].tolist() == pytest.approx([10.2 + i for i in range(1, probed + 1)])
    assert by_probe["own"]["matched"].tolist() == pytest.approx([10.1 + i for i in range(1, probed + 1)])
    assert by_probe["pooled"]["difference"].tolist() == [-0.3] * probed
    assert by_probe["own"]["difference"].tolist() == [-1.3] * probed
    assert by_probe["own"]["matched_difference"].tolist() == [1.1] * probed
    assert by_probe["own"]["matched_difference_n"].tolist() == [80] * probed
    neighbours = planted.iloc[0]  # no probe reads them
    assert neighbours[["outlier", "normal", "difference"]].tolist() == [0.2, 0.5, -0.3]
    assert neighbours[["probe", "matched", "matched_difference"]].isna().all()
    assert frame[frame["model"] == "vit-r0"][["matched", "matched_difference"]].isna().all(axis=None)
    assert r"position, top-1 (\%) & pooled & $150.0$" in table.latex()


def test_the_class_is_told_from_one_token_of_each_kind(made):
    table = tables.token_classification(made)
    frame = table.frame().set_index("model")
    planted, kinds = frame.loc["planted"], ("cls", "highest", "other", "outlier", "normal", "registers")
    assert planted[[f"top1_{kind}" for kind in kinds]].tolist() == pytest.approx([0.9, 0.8, 0.7, 0.6, 0.5, 0.4])
    assert planted[[f"top1_{kind}_sd" for kind in kinds[2:]]].tolist() == [0.02, 0.03, 0.04, 0.05]
    assert (planted["difference"], planted["difference_p"]) == (0.1, 0.25)
    assert (planted["highest_difference"], planted["highest_difference_p"]) == (0.2, 0.5)
    assert frame["top1_registers"].isna().tolist() == [False, True]
    assert "sd of draws" not in table.latex()


def test_the_methods_state_every_value_that_ran():
    text = " ".join(latex(HERE / "methods.tex.j2", settings=SETTINGS).split())
    for sentence in (
        "above the 98th percentile of all patch norms",
        "tested on 1{,}000 test images",
        "an MLP (1{,}536 hidden channels",
        "AdamW, learning rate $0.001$ falling to zero by a cosine, weight decay $0.01$, 5 epochs in batches of 256",
        "over 3 draws of tokens",
    ):
        assert sentence in text, sentence


@pytest.mark.parametrize("planted", [True, False])
def test_the_prose_and_captions_name_what_is_shown(planted):
    text = said("single_tokens", study_of([Measured().frame()], ["vit"]), planted=planted)
    assert text.startswith("No model with artifacts was asked")
    assert ("planted ones stand at fixed positions" in text) == planted
    for view in (*single_tokens.EXPERIMENT.figures, *single_tokens.EXPERIMENT.tables):
        assert isinstance(view, Figure) or rf":{view.name}}}" in text
        caption = plain(view.caption, settings=SETTINGS, dense_images="the first 9 images", estimates="Brackets.")
        assert "{" not in caption
    assert "mean over 3 draws" in caption
