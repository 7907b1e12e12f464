"""The grid of token ablations: which conditions, what each is compared with, and the map of changes."""

import numpy as np
import pytest

from helpers.measuring import study_of
from helpers.studies import Measured
from vit_registers.experiments.token_ablation import figures, tables
from vit_registers.interventions.kinds.ablate import Ablate
from vit_registers.interventions.kinds.append import Append
from vit_registers.views import style
from vit_registers.views.study import Study

DONE = {
    "append-1": Append(tokens=1),
    "zero-cls": Ablate(tokens="cls", by="zero"),
    "zero-registers": Ablate(tokens="registers", by="zero"),
}
AXES = {
    "top1": {"feature": "cls", "head": "frozen"},
    "recall_at_1": {"feature": "cls"},
    "correspondence": {},
    "corloc": {"head": "lost"},
}


@pytest.fixture
def study():
    """zero-cls costs 50 points of the probe and 40 of retrieval; zero-registers 10 of CorLoc and 5 of correspondence;
    others are not there. Of correspondence there are rows by what patches show as well.
    """
    measured = Measured()
    for condition in ("baseline", *DONE):
        at = {"dataset": "shapes", "model": "vit", "intervention": condition}
        head = "refitted" if condition == "baseline" else "frozen"
        measured.add("top1", 0.4 if condition == "zero-cls" else 0.9, feature="cls", head=head, **at)
        measured.add("recall_at_1", 0.3 if condition == "zero-cls" else 0.7, feature="cls", **at)
        measured.add("correspondence", 0.15 if condition == "zero-registers" else 0.2, **at)
        measured.add("correspondence", 0.4, group="object", **at)
        measured.add("corloc", 0.5 if condition == "zero-registers" else 0.6, head="lost", **at)
    for condition, metric, value in (
        ("zero-cls", "top1", -0.5),
        ("zero-cls", "recall_at_1", -0.4),
        ("zero-registers", "corloc", -0.1),
        ("zero-registers", "correspondence", -0.05),
    ):
        at = {"dataset": "shapes", "model": "vit", "intervention": condition}
        measured.add(metric, value, reference_model="vit", reference_intervention="baseline", **AXES[metric], **at)
    made = study_of([measured.frame()], ["vit"], interventions=list(DONE))
    return Study(made.plan.model_copy(update={"interventions": DONE}), made.rows)


def test_the_table_has_the_model_as_it_is_and_its_ablations_with_their_changes(study):
    frame = tables.token_ablation(study).frame().set_index("condition")
    assert frame.index.tolist() == ["baseline", "zero-cls", "zero-registers"]
    assert frame["top1"].tolist() == pytest.approx([0.9, 0.4, 0.9])
    assert frame["recall"].tolist() == pytest.approx([0.7, 0.3, 0.7])
    assert frame["top1_change"].fillna(9).tolist() == pytest.approx([9, -0.5, 9])
    assert frame["recall_change"].fillna(9).tolist() == pytest.approx([9, -0.4, 9])
    assert frame["corloc_change"].fillna(9).tolist() == pytest.approx([9, 9, -0.1])
    assert frame["correspondence"].tolist() == pytest.approx([0.2, 0.2, 0.15])
    assert frame["correspondence_change"].fillna(9).tolist() == pytest.approx([9, 9, -0.05])
    assert frame["miou"].isna().all()


def test_values_are_printed_alone_and_changes_with_their_intervals(study):
    table = tables.token_ablation(study)
    assert {"top1_low", "top1_change_low"} <= set(table.frame().columns)
    line = next(line for line in table.latex().splitlines() if "zero-cls" in line)
    assert "$40.0$ &" in line
    assert "$-50.0$ [$-51.0$, $-49.0$]" in line


def test_the_map_shows_changes_in_points_and_nothing_where_there_is_none(study):
    with style.styled():
        figure = figures.token_ablation(study, None)
    (panel,) = figure.axes
    shown = panel.images[0].get_array()
    assert np.ma.getmaskarray(shown).tolist() == [
        [False, False, True, True, True],
        [True, True, False, True, False],
    ]
    assert shown[0, 0] == pytest.approx(-50.0)
    assert [text.get_text() for text in panel.texts] == ["-50.0", "-40.0", "-5.0", "-10.0"]
    assert [label.get_text() for label in panel.get_yticklabels()] == ["zero-cls", "zero-registers"]


def test_a_study_that_replaces_no_tokens_says_so():
    nothing = study_of([Measured().frame()], ["vit"])
    assert tables.token_ablation(nothing).rows == []
    assert "no tokens were replaced" in figures.token_ablation(nothing, None).texts[0].get_text()
