"""Tables of what detection found."""

import pandas as pd

from vit_registers.experiments.register_neurons import tables
from vit_registers.views.study import Study


def test_detection(study):
    table = tables.detection(study)
    frame = table.frame()
    assert frame[["dataset", "model"]].to_numpy().tolist() == [
        ["shapes", "vit-r0"],
        ["shapes", "planted"],
        ["grey", "planted"],
    ]
    planted = frame.iloc[1]
    assert planted[["precision", "recall", "first_layer", "next_ratio", "threshold"]].tolist() == [
        1.0,
        1.0,
        1,
        4.5,
        12.0,
    ]
    assert planted[["artifact_share", "artifact_share_low", "artifact_share_n"]].tolist() == [0.034, 0.9 * 0.034, 60]
    natural = frame.iloc[0]
    assert natural["artifact_share"] == 0.0
    assert pd.isna(natural["precision"])
    assert natural["note"] == "no artifacts found"
    tex = table.latex()
    assert tex.count("no artifacts found") == 1
    assert "Planted {[}CLS{]} on grey" in tex
    assert "$3.40$ [$3.06$, $3.74$]" in tex


def test_neurons_are_listed_by_rank_with_their_ranks_elsewhere(study):
    table = tables.neurons(study)
    frame = table.frame()
    assert set(frame["model"]) == {"planted"}
    assert frame["rank"].tolist() == [1, 2, 3, 4, 5, 6]
    assert frame["block"].tolist() == [1, 0, 2, 1, 0, 0]
    assert frame["neuron"].tolist() == [5, 5, 7, 1, 0, 1]
    assert frame["score"].tolist() == [10.0 - i for i in range(6)]
    assert frame["frequency"].tolist() == [1 / (i + 1) for i in range(6)]
    assert frame["planted"].tolist() == ["yes"] * 3 + ["no"] * 3
    assert frame["elsewhere"].tolist() == ["grey: 2", "grey: 4", "grey: 1", "grey: --", "grey: --", "grey: --"]
    assert "Planted {[}CLS{]} & $1$ & 1 & 5 & $10.0$ & $100.0$ & yes & grey: 2" in table.latex()


def test_overlap_pairs_data_sets(study):
    table = tables.neuron_overlap(study)
    frame = table.frame()
    assert frame[["model", "found_on", "against", "overlap"]].to_numpy().tolist() == [
        ["planted", "shapes", "grey", 2 / 3]
    ]
    assert "overlap_p" not in frame
    assert "$66.7$" in table.latex()
    alone = Study(study.plan, study.rows[study.rows["dataset"] == "shapes"])
    assert "one data set per model" in tables.neuron_overlap(alone).latex()


def test_natural_models_are_those_that_nothing_was_planted_in(study):
    table = tables.natural_models(study)
    assert table.frame()[["model", "threshold", "artifact_share", "verdict"]].to_numpy().tolist() == [
        ["vit-r0", 12.0, 0.0, "no artifacts found"]
    ]
    assert "$0.00$ [$0.00$, $0.00$]" in table.latex()
