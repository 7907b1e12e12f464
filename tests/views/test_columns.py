"""Rows of tables by condition."""

from helpers.studies import Measured, load, study_of
from vit_registers.views.columns import CONDITION, KEYS, MODEL, by_condition
from vit_registers.views.table import Column, Table

LOST = {"feature": "k", "head": "lost"}


def test_models_on_which_nothing_of_a_table_was_measured_have_no_row_and_reasons_have_one() -> None:
    params, made = load("embedded"), Measured()
    for model, name in (("vit-r0", "baseline"), ("vit-r0", "skip-dropped"), ("planted", "baseline")):
        made.add("corloc", 0.5, dataset="shapes", model=model, intervention=name, **LOST)
    made.add("norm_max", 1.0, dataset="shapes", model="tagged", intervention="baseline", layer=0)
    made.absent("corloc", "no artifacts found", dataset="shapes", model="vit-r0", intervention="ttr-4", **LOST)
    columns = [MODEL, CONDITION, Column("corloc", "CorLoc", "corloc", {"head": "lost"})]
    table = by_condition(study_of(params, made), Table(columns, KEYS))
    shown = [(row["model"], row["condition"]) for row in table.rows]
    assert shown == [("vit-r0", "baseline"), ("vit-r0", "ttr-4"), ("vit-r0", "skip-dropped"), ("planted", "baseline")]
    assert table.rules == {3}
