"""Table, doses, figure and prose of needed registers: which conditions, in which order, against which ceiling."""

import pytest

from helpers.measuring import study_of
from helpers.prose import said
from helpers.studies import Measured
from vit_registers.experiments.needed_registers import doses, figures, tables
from vit_registers.interventions.kinds.append import Append
from vit_registers.interventions.kinds.test_time_registers import TestTimeRegisters
from vit_registers.params.study import Run
from vit_registers.views.study import Condition, Study

DONE = {
    "append-1": Append(tokens=1),
    "append-4": Append(tokens=4),
    "moved-2": TestTimeRegisters(tokens=1, top_k=2),
    "moved-6": TestTimeRegisters(tokens=1, top_k=6),
    "ttr-4": TestTimeRegisters(tokens=4),
    "ttr-1": TestTimeRegisters(tokens=1),
    "half": TestTimeRegisters(tokens=1, scale=0.5),
    "empty-4": TestTimeRegisters(tokens=4, scale=0.0),
    "random": TestTimeRegisters(tokens=1, neurons="random"),
    "cleared": TestTimeRegisters(tokens=0),
}
TOP1 = {"baseline": 0.8, "cleared": 0.2, "ttr-1": 0.89, "ttr-4": 0.9, "moved-2": 0.7, "moved-6": 0.85}
BEFORE = Condition("shapes", "planted")


@pytest.fixture
def study():
    measured = Measured()
    for model, conditions in (("base", ["baseline"]), ("planted", ["baseline", *DONE])):
        for condition in conditions:
            at = {"dataset": "shapes", "model": model, "intervention": condition}
            measured.add("own_head_top1", 0.91 if model == "base" else TOP1.get(condition, 0.3), head="own", **at)
            measured.add("corloc", 0.4, head="lost", **at)
            if model == "planted":
                for group, value in (("artifacts", 0.1), ("patches", 0.9)):
                    measured.add("patch_cosine", value, group=group, **at)
    at = {"dataset": "shapes", "model": "planted", "intervention": "cleared"}
    measured.add("own_head_top1", -0.71, head="own", reference_model="base", reference_intervention="baseline", **at)
    made = study_of(
        [measured.frame()],
        ["base", "planted"],
        runs=[
            Run(dataset="shapes", models=["base"], interventions=[]),
            Run(dataset="shapes", models=["planted"], interventions=list(DONE)),
        ],
        conditions={"baseline": "baseline"} | {name: name for name in DONE},
        comparisons=[("planted/cleared", "base/baseline")],
        bases={"planted": "base"},
        kinds={"base": "tagged", "planted": "planted"},
    )
    return Study(made.plan.model_copy(update={"interventions": DONE}), made.rows)


@pytest.mark.slow
def test_the_table_begins_with_the_ceiling_and_has_every_condition(study):
    frame = tables.needed_registers(study).frame()
    assert list(zip(frame["model"], frame["condition"], strict=True)) == [
        ("base", "baseline"),
        ("planted", "baseline"),
        *(("planted", name) for name in DONE),
    ]
    by_condition = frame[frame.model == "planted"].set_index("condition")
    assert by_condition.loc["cleared", "own_head_top1"] == pytest.approx(0.2)
    assert by_condition.loc["cleared", "own_head_change"] == pytest.approx(-0.71)
    assert by_condition["own_head_change"].notna().sum() == 1
    assert by_condition.loc["ttr-1", "cosine_artifacts"] == pytest.approx(0.1)


def test_each_curve_varies_one_thing(study):
    found = {
        name: [(dose.amount, dose.condition.name) for dose in curve]
        for name, curve in doses.curves(study, BEFORE).items()
    }
    assert found == {
        doses.NEURONS: [(0, "append-1"), (2, "moved-2"), (6, "moved-6"), (doses.ALL, "ttr-1")],
        doses.TOKENS: [(1, "ttr-1"), (4, "ttr-4")],
        doses.FACTOR: [(0.5, "half"), (1, "ttr-1")],
    }
    assert study.cleared(BEFORE) == Condition("shapes", "planted", "cleared")


def test_the_figure_draws_what_was_measured(study):
    figure = figures.dose_response(study, None)
    top = figure.axes[0]
    assert top.lines[0].get_ydata().tolist() == [0.3, 0.7, 0.85, 0.89]
    bottom = figure.axes[len(figures.VARIED)]
    assert [label.get_text() for label in bottom.get_xticklabels()] == ["0", "2", "6", "all"]
    levels = {line.get_linestyle(): line.get_ydata()[0] for line in top.lines[1:3]}
    assert levels == {"--": pytest.approx(0.91), ":": pytest.approx(0.2)}


def test_a_study_without_planted_models_says_so():
    nothing = study_of([Measured().frame()], ["vit"])
    assert tables.needed_registers(nothing).rows == []
    assert figures.dose_response(nothing, None).texts[0].get_text().startswith("no planted model")


def test_results_say_what_clearing_costs_and_what_registers_keep(study):
    text = said("needed_registers", study)
    assert text.startswith(
        "Only in ViT planted do artifacts hold what the model needs: clearing the neurons costs its own head the "
        "class, and test-time registers keep it."
    )
    assert r"$80.0$\,\% [$79.0$, $81.0$] of the test images as it is, of $20.0$\,\%" in text
    assert r"$90.0$\,\%" in text  # with the most tokens, as no comparison names another number
    assert text.count("[$") == 3
    assert said("needed_registers", study, "shortfalls") == ""


def test_a_model_whose_artifacts_are_its_own_stands_below_the_planted_ones_without_a_ceiling():
    measured = Measured()
    for condition, top1 in (("baseline", 0.9), ("cleared", 0.25)):
        at = {"dataset": "shapes", "model": "own", "intervention": condition}
        measured.add("own_head_top1", top1, head="own", **at)
    measured.add("artifacts_found", 1.0, dataset="shapes", model="own", intervention="baseline")
    study = study_of(
        [measured.frame()],
        ["own"],
        runs=[Run(dataset="shapes", models=["own"], interventions=["cleared"])],
        conditions={"baseline": "baseline", "cleared": "cleared"},
        kinds={"own": "trained"},
    )
    study = Study(study.plan.model_copy(update={"interventions": {"cleared": DONE["cleared"]}}), study.rows)
    frame = tables.needed_registers(study).frame()
    assert frame["condition"].tolist() == ["baseline", "cleared"]
    assert frame["own_head_top1"].tolist() == pytest.approx([0.9, 0.25])
    text = said("needed_registers", study)
    assert text.startswith("Only in ViT own do artifacts hold what the model needs")
    assert r"$90.0$\,\% [$89.0$, $91.0$] of the test images as it is, of $25.0$\,\%" in text
