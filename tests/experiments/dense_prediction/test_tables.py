"""The table of dense prediction."""

from helpers.measuring import rows_of, study_of
from vit_registers.experiments.dense_prediction.tables import dense_prediction


def test_frozen_heads_stand_beside_refitted_ones():
    rows = rows_of("dense_prediction", dataset="shapes", model="m")
    for condition, loss in (("baseline", 0.0), ("append-1", 0.1)):
        for head in ("refitted", "frozen"):
            by = loss * (2 if head == "frozen" else 1)
            for metric, value in (("miou", 0.5 - by), ("pixel_accuracy", 0.8 - by), ("rmse", 0.2 + by)):
                rows.add(metric, value, 50, low=value - 0.01, high=value + 0.01, intervention=condition, head=head)
    for head in ("refitted", "frozen"):
        rows.absent(["miou", "pixel_accuracy", "rmse"], "no artifacts found: 0.0 %", intervention="ttr-1", head=head)
    table = dense_prediction(study_of([rows], ["m"], interventions=["append-1", "ttr-1"]))
    frame, tex = table.frame().set_index("condition"), table.latex()
    assert frame.loc["append-1", ["miou_refitted", "miou_frozen"]].tolist() == [0.4, 0.3]
    assert frame.loc["append-1", ["rmse_refitted", "rmse_frozen"]].tolist() == [0.2 + 0.1, 0.2 + 0.2]
    assert frame["pixel_accuracy_frozen"].notna().tolist() == [True, True, False]
    assert frame.loc["ttr-1", "note"] == "no artifacts found: 0.0 %"
    assert "Segmentation, mIoU (\\%)" in tex
    assert "Pixel accuracy" not in tex
    assert "$40.0$ [$39.0$, $41.0$]" in tex
    assert tex.count("no artifacts found") == 1


def test_metres_have_columns_of_their_own_where_a_data_set_is_measured_in_metres():
    rows = rows_of("dense_prediction", dataset="shapes", model="m")
    for head in ("refitted", "frozen"):
        rows.add("rmse_metres", 0.4, 50, low=0.3, high=0.5, intervention="baseline", head=head)
        rows.absent(["miou", "pixel_accuracy"], "the data set has no masks", intervention="baseline", head=head)
    table = dense_prediction(study_of([rows], ["m"], interventions=[]))
    assert table.frame()["rmse_metres_refitted"].tolist() == [0.4]
    assert "Depth, RMSE (m)" in table.latex()
    assert "rmse_refitted" not in table.frame().columns
