"""Tables and prose of test-time registers: which conditions, which controls, and the numbers that were measured."""

import pandas as pd
import pytest

from helpers.measuring import study_of
from helpers.prose import said
from helpers.studies import Measured
from vit_registers.experiments import test_time_registers
from vit_registers.experiments.test_time_registers import tables
from vit_registers.interventions.kinds.append import Append
from vit_registers.interventions.kinds.test_time_registers import TestTimeRegisters
from vit_registers.params.study import Comparison, Run
from vit_registers.report.templates import plain
from vit_registers.views.study import Study

REASON = "no artifacts found: 0.00% of the patches exceed 51.0"
DONE = {
    "append-1": Append(tokens=1),
    "append-4": Append(tokens=4),
    "ttr-4": TestTimeRegisters(tokens=4),
    "ttr-1": TestTimeRegisters(tokens=1),
    "random-4": TestTimeRegisters(tokens=4, neurons="random"),
    "cleared": TestTimeRegisters(tokens=0),
}
RUNS = {
    "plain": ["append-4", "ttr-4"],
    "tagged": ["append-1", "append-4"],
    "planted": ["append-4", "ttr-4", "ttr-1", "random-4", "cleared"],
}
# CorLoc; top-1 of the refitted head is 0.3 more, of the frozen one 0.25.
VALUES = {
    "planted": {"baseline": 0.2, "append-4": 0.21, "ttr-4": 0.41, "ttr-1": 0.4, "random-4": 0.22, "cleared": 0.39},
    "tagged": {"baseline": 0.42, "append-1": 0.43, "append-4": 0.44},
    "plain": {"baseline": 0.5, "append-4": 0.51},
}
COMPARED = {
    ("planted", "ttr-4"): ("tagged", "append-4"),
    ("planted", "ttr-1"): ("tagged", "append-1"),
    ("planted", "cleared"): ("tagged", "baseline"),
}
PROBE = {"feature": "cls", "head": "refitted"}


def measured_of(models):
    """Rows as the measures declare them: norms by block, CorLoc, classification, and differences from the controls."""
    measured = Measured()
    for model in models:
        for condition in ["baseline", *RUNS[model]]:
            at = {"dataset": "shapes", "model": model, "intervention": condition}
            value = VALUES[model].get(condition)
            if value is None:
                for metric in ("norm_median", "corloc", "top1"):
                    measured.add(metric, None, 0, note=REASON, **at)
                continue
            for layer in (0, 1):
                measured.add("norm_median", 4.0 + layer, layer=layer, **at)
                measured.add("norm_p99", 40.0 + layer, layer=layer, **at)
                measured.add("norm_max", 400.0 * value + layer, layer=layer, **at)
                measured.add("artifact_share", 0.03 * layer, layer=layer, **at)
                for target, share in (("patches", value), ("artifacts", value / 2)):
                    measured.add("attention", share, group="cls", target=target, layer=layer, **at)
            measured.add("corloc", value, head="lost", **at)
            measured.add("corloc", 0.01, head="dino_seg", **at)
            measured.add("top1", value + 0.3, **PROBE, **at)
            measured.add("top1", value + 0.1, seed=0, **PROBE, **at)
            measured.add("top1", value + 0.25, feature="cls", head="frozen", **at)
            measured.add("top1", value + 0.15, feature="cls", head="knn", **at)
        if "random-4" in RUNS[model]:
            at = {"dataset": "shapes", "model": model, "intervention": "random-4"}
            measured.add("drawn_activation", 0.98, **at)
            measured.add("drawn_output_norm", 0.006, **at)
    pairs = [*COMPARED.items(), (("planted", "ttr-4"), ("planted", "append-4"))]
    pairs += [(("planted", "random-4"), ("planted", "append-4"))]
    for (model, condition), (other, reference) in (pair for pair in pairs if pair[0][0] in models):
        at = {"dataset": "shapes", "model": model, "intervention": condition}
        against = {"reference_model": other, "reference_intervention": reference}
        change = VALUES[model][condition] - VALUES[other][reference]
        measured.add("corloc", change, head="lost", p=0.0004, **at, **against)
        measured.add("top1", change, p=0.25, **PROBE, **at, **against)
        measured.add("top1", change / 2, p=0.5, feature="cls", head="frozen", **at, **against)
    return measured


def study(models=("plain", "tagged", "planted")):
    compared = [("/".join(a), "/".join(b)) for a, b in COMPARED.items() if {a[0], b[0]} <= set(models)]
    made = study_of(
        [measured_of(models).frame()],
        models,
        comparisons=compared,
        runs=[Run(dataset="shapes", models=[model], interventions=RUNS[model]) for model in models],
        conditions={"baseline": "baseline"} | {name: done.label() for name, done in DONE.items()},
    )
    return Study(made.plan.model_copy(update={"interventions": DONE}), made.rows)


@pytest.fixture(scope="module")
def made():
    return study()


def test_every_condition_of_models_with_artifacts_and_the_controls(made):
    frame = tables.test_time_registers(made).frame()
    shown = list(zip(frame["model"], frame["condition"], strict=True))
    # As it is, then cleared, which params have last; then as params have them.
    own = [("planted", c) for c in ("baseline", "cleared", "append-4", "ttr-4", "ttr-1", "random-4")]
    assert shown == [*own, ("tagged", "baseline"), ("tagged", "append-1"), ("tagged", "append-4")]
    assert [label for label in frame["model_label"] if label] == ["ViT planted", "ViT tagged"]


def test_every_condition_names_its_control(made):
    frame = tables.test_time_registers(made).frame().set_index(["model", "condition"])["control"].fillna("")
    assert frame["planted"].to_dict() == {
        "baseline": "",
        "cleared": "ViT tagged",
        "append-4": "",
        "ttr-4": "ViT tagged, 4 zero tokens",
        "ttr-1": "ViT tagged, 1 zero token",
        "random-4": "4 zero tokens",
    }
    assert (frame["tagged"] == "").all()


def test_numbers_are_those_of_the_last_block_lost_and_the_refitted_head(made):
    frame = tables.test_time_registers(made).frame()
    for line in frame.to_dict("records"):
        value = VALUES[line["model"]][line["condition"]]
        assert line["norm_median"] == 5.0
        assert line["norm_p99"] == 41.0
        assert line["norm_max"] == pytest.approx(400 * value + 1)
        assert line["artifact_share"] == pytest.approx(0.03)
        assert line["cls_to_artifacts"] == pytest.approx(value / 2)
        assert (line["corloc"], line["corloc_n"]) == (value, 100)
        assert line["top1_cls"] == pytest.approx(value + 0.3)
        assert line["top1_cls_low"] == pytest.approx(value + 0.29)
        assert line["top1_cls_frozen"] == pytest.approx(value + 0.25)


def test_other_neurons_stand_beside_their_control_and_their_likeness(made):
    (line,) = tables.neuron_controls(made).frame().to_dict("records")
    assert (line["condition"], line["control"]) == ("random-4", "4 zero tokens")
    assert (line["drawn_activation"], line["drawn_output_norm"]) == (0.98, 0.006)
    change = VALUES["planted"]["random-4"] - VALUES["planted"]["append-4"]
    assert line["corloc_difference"] == pytest.approx(change)
    assert (line["top1_cls_frozen"], line["top1_difference"]) == pytest.approx((0.47, change / 2))
    assert "0.006" in tables.neuron_controls(made).latex()


def test_each_number_of_registers_stands_beside_its_control(made):
    frame = tables.register_sweep(made).frame()
    assert frame["condition"].tolist() == ["cleared", "ttr-1", "ttr-4"]
    assert frame["tokens"].tolist() == [0, 1, 4]
    assert frame["control"].tolist() == ["ViT tagged", "ViT tagged, 1 zero token", "ViT tagged, 4 zero tokens"]
    for line, control in zip(frame.to_dict("records"), ("baseline", "append-1", "append-4"), strict=True):
        change = VALUES["planted"][line["condition"]] - VALUES["tagged"][control]
        assert line["corloc_difference"] == pytest.approx(change)
        assert line["corloc_difference_p"] == 0.0004
        assert line["top1_difference"] == pytest.approx(change)
        assert line["top1_difference_p"] == 0.25


def test_classification_as_kukade2025_reports_it_has_the_control_in_the_same_model(made):
    table = tables.test_time_classification(made)
    frame = table.frame()
    assert frame[["model", "tokens"]].to_numpy().tolist() == [["plain", 4], ["planted", 4]]
    planted = frame.set_index("model").loc["planted"]
    columns = ["plain", "cleared", "appended", "moved", "frozen"]
    assert planted[columns].tolist() == pytest.approx([0.5, 0.69, 0.51, 0.71, 0.66])
    assert pd.isna(frame.set_index("model").loc["plain", "cleared"])
    assert planted["change"] == pytest.approx(0.2)
    assert pd.isna(frame.set_index("model").loc["plain", "moved"])
    assert frame["note"].fillna("").tolist() == [REASON, ""]
    assert "no artifacts found" in table.latex()
    assert "$+20.0$" in table.latex()


@pytest.mark.parametrize(
    ("draw", "said"),
    [
        (tables.test_time_registers, "no artifacts found"),
        (tables.register_sweep, "no artifacts found"),
        (tables.neuron_controls, "this study moves no other neurons than those found"),
        (tables.test_time_classification, "no model of this study has both zero tokens and test-time registers"),
    ],
)
def test_a_study_without_artifacts_says_so(draw, said):
    assert draw(study(("tagged",))).latex() == f"\\emph{{{said}}}\n"


NAME = "test_time_registers"


def test_the_prose_opens_with_what_was_restored_and_has_the_numbers_of_one_model(made):
    text = said(NAME, made)
    assert text.startswith(
        "Test-time registers do not bring CorLoc back to that of the control in ViT planted. "
        r"In ViT planted it is $20.0$\,\% [$19.0$, $21.0$] as it is and $41.0$\,\% [$40.0$, $42.0$] with "
        r"4 test-time registers, against $44.0$\,\% [$43.0$, $45.0$] in the control (ViT tagged, 4 zero tokens)."
    )
    assert text.count("[$") == 3
    assert "Clearing" not in text  # it repairs less than all


def test_what_does_not_hold_is_what_the_differences_say(made):
    text = said(NAME, made, "shortfalls")
    assert "With test-time registers CorLoc of ViT planted stays below the control" in text
    assert "Controls that repair" not in text
    assert "Repair without a register" not in text


def test_a_control_that_repairs_and_a_repair_by_clearing_are_named(made):
    rows = made.rows.copy()
    against = rows["reference_model"].notna() & (rows["metric"] == "corloc") & (rows["model"] == "planted")
    for condition in ("cleared", "ttr-4", "random-4"):
        changes = against & (rows["intervention"] == condition)
        rows.loc[changes, ["value", "low", "high"]] = [0.0, -0.01, 0.01]
    of_random = against & (rows["intervention"] == "random-4")
    rows.loc[of_random, "reference_model"] = "tagged"  # and not the model itself with as many zero tokens
    asked = [Comparison(question="?", a=f"planted/{name}", b="tagged/append-4") for name in ("ttr-4", "random-4")]
    asked.append(Comparison(question="?", a="planted/cleared", b="tagged/baseline"))
    changed = Study(made.plan.model_copy(update={"comparisons": asked}), rows)
    text = said(NAME, changed, "shortfalls")
    assert "CorLoc comes back when the neurons are cleared" in text
    assert "CorLoc is not shown to stay below the control under ViT planted, random neurons, 4 tokens" in text
    assert "Repair that is not complete" not in text
    assert said(NAME, changed).startswith(
        "Test-time registers bring CorLoc back to that of the control in ViT planted."
    )
    assert said(NAME, changed, "abstract", moved=True).endswith("clearing the neurons alone does as much.")


def test_without_artifacts_the_prose_names_no_number():
    text = said(NAME, study(("plain",)))
    assert text.startswith("Test-time registers had nothing to move: no artifacts found. Table")
    assert "CorLoc" not in text
    assert said(NAME, study(("plain",)), "shortfalls") == ""
    assert said(NAME, study(("plain",)), "abstract", moved=True).startswith("Test-time registers were not applicable")


def test_the_table_of_the_body_has_four_rows_a_model(made):
    frame = tables.repairs(made).frame()
    assert list(zip(frame["model"], frame["condition"], strict=True)) == [
        ("planted", "baseline"),
        ("planted", "cleared"),
        ("planted", "ttr-4"),
        ("tagged", "append-4"),
    ]
    assert frame["condition_label"].tolist()[-1] == "control: ViT tagged, 4 zero tokens"
    assert frame["corloc"].tolist() == pytest.approx([0.2, 0.39, 0.41, 0.44])


def test_captions_can_be_filled_in():
    for table in test_time_registers.EXPERIMENT.tables:
        caption = plain(table.caption, dense_images="the first 9 images", estimates="Brackets.")
        assert "{" not in caption
        assert "  " not in caption
