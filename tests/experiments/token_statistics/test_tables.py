"""Tables of token statistics hold the rows that were measured."""

import pandas as pd
import pytest

from vit_registers.experiments.token_statistics import tables
from vit_registers.views.study import select

NATURAL = ("vit-r0", "vit-r2")


def row(study, model, metric, reference_group=None, **axes):
    axes = {"reference_group": reference_group, **axes}
    rows = select(study.rows, model=model, intervention="baseline", metric=metric, **axes)
    return rows.loc[rows["layer"].idxmax() if rows["layer"].notna().any() else rows.index[0]]


def assert_cell(line, column, measured):
    for part in ("", "_low", "_high", "_n"):
        name = f"{column}{part}"
        expected = measured[part.removeprefix("_") or "value"]
        assert line[name] == expected or (pd.isna(line[name]) and pd.isna(expected)), name


def test_positions_stand_with_intervals_for_models_with_artifacts_and_such_at_another_size(views):
    study = views().study
    table = tables.positions(study)
    frame = table.frame().set_index("model")
    assert frame.index.tolist() == ["planted", "planted-48"]
    line = frame.loc["planted"]
    for column, metric in (
        ("artifact_share", "detected_artifact_share"),
        ("artifact_rate_max", "artifact_rate_max"),
        ("artifacts_on_border", "artifacts_on_border"),
    ):
        assert_cell(line, column, row(study, "planted", metric))
    most = row(study, "planted", "artifact_rate_max")
    assert line["place"] == f"row {most['grid_row']}, column {most['grid_column']}"
    assert line["border_positions"] == 1.0
    gone = frame.loc["planted-48"]
    assert gone["place"] == ""
    assert pd.isna(gone["artifact_rate_max"])
    assert gone["note"] == "no patch exceeds the threshold"
    assert "$3.40$ [$3.06$, $3.74$]" in table.latex()


@pytest.mark.slow
def test_attention_stands_beside_the_uniform_share(views):
    study = views(("vit-r0", "vit-r2", "planted")).study
    frame = tables.attention_shares(study).frame()
    assert frame[frame["model"] == "vit-r2"]["condition"].tolist() == ["baseline", "append-2"]
    for line in frame.to_dict("records"):
        for target in ("registers", "appended", "artifacts"):
            axes = {"model": line["model"], "intervention": line["condition"], "group": "cls", "target": target}
            uniform = select(study.rows, metric="attention_uniform", **axes)["value"]
            if uniform.empty or not uniform.item():
                assert pd.isna(line[f"to_{target}"])
                assert pd.isna(line[f"uniform_{target}"])
                continue
            given = select(study.rows, metric="attention", layer=2, **axes)
            assert line[f"to_{target}"] == given["value"].item()
            assert line[f"to_{target}_low"] == given["low"].item()
            assert line[f"uniform_{target}"] == uniform.item()
    registers = frame.set_index(["model", "condition"])["uniform_registers"]
    assert registers["vit-r2", "baseline"] == pytest.approx(2 / 9)
    assert registers["vit-r2", "append-2"] == pytest.approx(2 / 11)


def test_the_table_of_slots_names_the_registers_that_look_least_and_most(views):
    study = views().study
    frame = tables.register_slots(study).frame()
    assert frame["model"].tolist() == ["vit-r2", "vit-r10"]
    assert frame["registers"].tolist() == [2, 10]
    for line in frame.to_dict("records"):
        shares = [
            row(study, line["model"], "object_attention", group="registers", item=i + 1)["value"]
            for i in range(line["registers"])
        ]
        for name, share in (("least", min(shares)), ("most", max(shares))):
            register = line[f"{name}_register"]
            assert register == shares.index(share) + 1  # by share, not in the order of names
            assert_cell(line, name, row(study, line["model"], "object_attention", group="registers", item=register))
        assert_cell(line, "object_cls", row(study, line["model"], "object_attention", group="cls"))
        for column in ("object_area", "object_spread", "object_spread_next_image", "register_cosine"):
            assert_cell(line, column, row(study, line["model"], column))
        against = row(study, line["model"], "object_spread", reference_group="next image")
        assert_cell(line, "object_spread_difference", against)
        assert line["object_spread_difference_p"] == against["p"]
        assert_cell(line, "winning", row(study, line["model"], "winning_registers"))


@pytest.mark.parametrize(
    ("draw", "models", "said"),
    [
        (tables.positions, NATURAL, "no artifacts found"),
        (tables.register_slots, ("vit-r0", "planted"), "no model of this study has registers"),
    ],
)
def test_a_study_without_any_says_so(views, draw, models, said):
    assert draw(views(models).study).latex() == f"\\emph{{{said}}}\n"
