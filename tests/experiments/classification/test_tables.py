"""The table and the prose of classification."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from helpers.measuring import study_of
from helpers.prose import said
from helpers.studies import Measured
from vit_registers.experiments import classification
from vit_registers.experiments.classification import tables
from vit_registers.experiments.classification.params import Classification, Knn, LinearEvaluation, Probe
from vit_registers.report.templates import latex, plain

REASON = "no artifacts found: 0.00% of the patches exceed 51.0"
HEADS = {
    "top1_cls": (0.9, {"feature": "cls", "head": "refitted"}),
    "top1_patch_mean": (0.8, {"feature": "patch_mean", "head": "refitted"}),
    "top1_cls+patch_mean": (0.95, {"feature": "cls+patch_mean", "head": "refitted"}),
    "frozen_cls": (0.7, {"feature": "cls", "head": "frozen"}),
    "knn_cls": (0.6, {"feature": "cls", "head": "knn"}),
}
PROBE = Probe(
    features=["cls", "appended"], seeds=[0, 1], lr=1e-3, final_lr=1e-4, weight_decay=0.05, epochs=7, batch_size=32,
    clip_norm=1.0, validation_share=0.2,
)  # fmt: skip
KNN = Knn(k=20, temperature=0.07)
HERE = Path(classification.__file__).parent


@pytest.fixture(scope="module")
def made():
    """A model as it is, one condition of which the frozen head alone was scored, and one that does not apply."""
    measured = Measured()
    at = {"dataset": "shapes", "model": "m", "intervention": "baseline"}
    for value, axes in HEADS.values():
        measured.add("top1", value, 2000, **axes, **at)
        measured.add("top1", 0.01, 2000, seed=0, **axes, **at)
    for i, metric in enumerate(("top3", "macro_f1", "macro_precision", "macro_recall", "auc")):
        measured.add(metric, 0.5 + i / 100, 2000, feature="cls", head="refitted", **at)
    chosen = {"blocks": 4, "with_mean_patch": True, "lr": 0.01}
    measured.add("top1", 0.97, 2000, head="linear_evaluation", **chosen, **at)
    only = {**at, "intervention": "append-4"}
    measured.add("top1", 0.65, 2000, feature="cls", head="frozen", **only)
    for head in ("refitted", "knn"):
        measured.add("top1", None, 0, note="only test images were passed", feature="cls", head=head, **only)
    measured.add("top1", None, 0, note=REASON, **{**at, "intervention": "ttr-4"})
    return study_of([measured.frame()], ["m"], interventions=["append-4", "ttr-4"])


def test_every_head_stands_in_its_column(made):
    table = tables.probe(made)
    frame = table.frame().set_index("condition")
    line = frame.loc["baseline"]
    for column, (value, _) in HEADS.items():
        assert line[column] == value
        assert line[f"{column}_low"] == pytest.approx(value - 0.01)
    assert line["linear_evaluation"] == 0.97
    columns = ["top3_cls", "macro_f1_cls", "macro_precision_cls", "macro_recall_cls", "auc_cls"]
    assert line[columns].tolist() == pytest.approx([0.5, 0.51, 0.52, 0.53, 0.54])
    assert frame["top1_appended"].isna().all()
    assert "Macro" not in table.latex()
    assert "$90.0$ [$89.0$, $91.0$]" in table.latex()


def test_conditions_without_a_number_say_why(made):
    frame = tables.probe(made).frame().set_index("condition")
    assert frame.loc["append-4", "frozen_cls"] == 0.65
    assert frame.loc["append-4", ["top1_cls", "knn_cls"]].isna().all()
    assert frame["note"].fillna("").tolist() == ["", "only test images were passed", REASON]
    assert "no artifacts found" in tables.probe(made).latex()


def methods(linear_evaluation, frozen_only=()):
    settings = Classification(probe=PROBE, linear_evaluation=linear_evaluation, knn=KNN)
    params = SimpleNamespace(extraction=SimpleNamespace(frozen_only=list(frozen_only)))
    return " ".join(latex(HERE / "methods.tex.j2", settings=settings, params=params).split())


def test_the_methods_state_every_value_that_ran():
    text = methods(LinearEvaluation(blocks=[1, 4], learning_rates=[1e-5, 0.1], epochs=11, batch_size=128), ["append-4"])
    for sentence in (
        "One linear layer on [CLS] and the appended token after the final norm",
        "learning rate $0.001$ by a cosine to $0.0001$, weight decay $0.05$, 7 epochs in batches of 32",
        r"clipped at norm $1$; the epoch with the lowest loss on a stratified 20\,\% of the training split",
        "averages over 2 seeds",
        "[CLS] of the last 1 and 4 blocks, each with and without the mean patch",
        r"learning rates $1 \times 10^{-5}$, $0.1$ (times the batch over 256)",
        "11 epochs in batches of 128",
        r"Of \texttt{append-4} only test images were passed: the frozen head alone is scored there.",
        "$k = 20$ by cosine, weighted with temperature $0.07$",
    ):
        assert sentence in text, sentence


def test_the_methods_leave_out_what_did_not_run():
    text = methods(None)
    assert "epoch by epoch" not in text
    assert "Linear evaluation" not in text
    assert "only test images" not in text


def test_the_caption_and_the_prose_name_what_is_shown():
    (table,) = classification.EXPERIMENT.tables
    settings = Classification(probe=PROBE, linear_evaluation=None, knn=KNN)
    assert plain(table.caption, settings=settings, estimates="E.").startswith("Linear probe (average over 2 seeds)")
    assert r"Table~\ref{tab:probe}" in said("classification", study_of([Measured().frame()], ["vit"]))
