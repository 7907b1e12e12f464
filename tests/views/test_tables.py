import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from vit_registers.core import table as metrics
from vit_registers.core.errors import InputError
from vit_registers.views import needs, tables

PLANTED_ONLY = {
    "study": {"runs": [{"dataset": "shapes", "models": ["planted"], "interventions": ["append-4", "ttr-4"]}],
              "detections": [], "comparisons": []}}  # fmt: skip
NATURAL_ONLY = {
    "study": {"runs": [{"dataset": "shapes", "models": ["vit-r0", "vit-r4"], "interventions": ["ttr-4"]}],
              "detections": [], "comparisons": []},
    "gallery": {"images": 4}}  # fmt: skip
RELEASED = {
    "datasets": {"photos": {"kind": "generated", "train": 100, "test": 100, "size": 64}},
    "models": {"dinov2-vitb14_reg4": {"kind": "timm", "name": "vit_base_patch14_reg4_dinov2.lvd142m"}},
    "study": {
        "runs": [
            {"dataset": "photos", "models": ["dinov2-vitb14_reg4"], "interventions": ["append-1", "ttr-1"]},
            {"dataset": "shapes", "models": ["dinov2-vitb14_reg4"], "interventions": []},
        ],
        "detections": [],
        "comparisons": [],
    },
    "gallery": {"images": 4},
}
TEXT_TOWER = {
    "models": {"clip": {"kind": "openclip", "name": "ViT-B-16", "pretrained": "laion2b_s34b_b88k"}},
    "study": {
        "runs": [{"dataset": "shapes", "models": ["vit-r0", "clip"], "interventions": ["append-1"]}],
        "detections": [],
        "comparisons": [],
    },
}


def _run(name: str, made: Any, out: Path, paths: list[Path] | None = None) -> tuple[pd.DataFrame, str]:
    tables.run(name, made.view, made.tables if paths is None else paths, out)
    return pd.read_csv(out / f"{name}.csv", keep_default_na=False, na_values=[""]), (out / f"{name}.tex").read_text()


def _walked(rows: pd.DataFrame) -> dict[tuple[tuple[str, str, str], str, str], Any]:
    """The obvious way to the numbers of cells: walk all rows, keep the last layer of each, pass over seeds."""
    best: dict[tuple[tuple[str, str, str], str, str], Any] = {}
    for row in rows.itertuples():
        if pd.notna(row.reference) or pd.notna(row.seed):
            continue
        cell = ((row.dataset, row.model, row.intervention), row.readout, row.metric)
        if cell not in best or pd.isna(row.layer) or row.layer > best[cell].layer:
            best[cell] = row
    return best


def test_the_tables_are_those_that_the_workflow_knows() -> None:
    assert list(tables.TABLES) == list(needs.TABLES)


@pytest.mark.parametrize("name", tables.TABLES)
def test_a_table_needs_no_more_rows_than_it_says_and_is_the_same_every_time(
    name: str, embedded: Any, tmp_path: Path
) -> None:
    everything = _run(name, embedded, tmp_path / "all")[1]
    paths = [embedded.root / "metrics" / f"{readout}.csv" for readout in needs.TABLES[name]]
    for once in ("first", "second"):
        assert _run(name, embedded, tmp_path / once, paths)[1] == everything
    first, second = ((tmp_path / once / f"{name}.csv").read_bytes() for once in ("first", "second"))
    assert first == second


@pytest.mark.parametrize(
    "name",
    [
        "models",
        "test_time_registers",
        "natural_models",
        "register_count",
        "register_slots",
        "probe",
        "lost_corloc",
        "dense",
    ],
)
def test_every_number_is_the_row_that_was_measured(name: str, embedded: Any, tmp_path: Path) -> None:
    frame, _ = _run(name, embedded, tmp_path)
    rows, seen = _walked(embedded.rows), 0
    for line in frame.to_dict("records"):
        if pd.isna(line.get("model")):
            continue
        key = (line["dataset"], line["model"], line.get("condition", "baseline"))
        for column, (readout, metric) in tables.WHERE.items():
            if column not in line:
                continue
            row = rows.get((key, readout, metric))
            if row is None or pd.isna(row.value):
                assert pd.isna(line[column])
                continue
            assert line[column] == pytest.approx(row.value, rel=1e-12)
            assert line[f"{column}_n"] == row.n
            if pd.notna(row.low):
                assert (line[f"{column}_low"], line[f"{column}_high"]) == pytest.approx((row.low, row.high), rel=1e-12)
            seen += 1
    assert seen >= 10


def test_detection_table(embedded: Any, tmp_path: Path) -> None:
    frame, tex = _run("detection", embedded, tmp_path)
    assert frame.loc[frame["dataset"] == "shapes-grey", "model"].tolist() == ["planted", "planted-cls"]
    assert "Planted on shapes-grey" in tex
    frame = frame[frame["dataset"] == "shapes"].set_index("model")
    assert frame.loc["planted", ["precision", "recall", "first_layer"]].tolist() == [1.0, 1.0, 2.0]
    assert pd.isna(frame.loc["vit-r0", "precision"])
    assert tex.count("no artifacts found") == 9
    assert "$3.40$ [$3.26$, $3.54$]" in tex


def test_conditions_that_do_not_apply_say_that_no_artifacts_were_found(embedded: Any, tmp_path: Path) -> None:
    for name in ("probe", "lost_corloc"):
        frame, tex = _run(name, embedded, tmp_path)
        assert tex.count("no artifacts found") == 6
        noted = frame[frame["note"].notna()]
        assert set(noted["condition"]) == {"ttr-4"}
        assert noted["note"].str.contains("0.10% are needed").all()


def test_test_time_registers_hold_every_condition_of_treated_models_and_the_controls(
    embedded: Any, tmp_path: Path
) -> None:
    frame, _ = _run("test_time_registers", embedded, tmp_path)
    shown = set(zip(frame["model"], frame["condition"], strict=True))
    planted = ("planted", "planted-cls", "planted-cls-raw")
    treated = {(m, c) for m in planted for c in embedded.params.conditions("shapes", m)}
    controls = {("tagged", f"append-{n}") for n in (1, 2, 4, 8, 10, 16)}
    assert shown == treated | controls | {("tagged", "baseline")}


def test_comparisons_state_the_measured_difference_and_p(embedded: Any, tmp_path: Path) -> None:
    frame, tex = _run("comparisons", embedded, tmp_path)
    assert len(frame) == len(embedded.params.study.comparisons)
    rows = embedded.rows[embedded.rows["reference"].notna()]
    for line in frame.to_dict("records"):
        model, condition = line["a"].split("/")
        for key in ("lost/corloc", "probe[cls]/top1", "probe[patch_mean]/top1"):
            readout, metric = key.split("/")
            row = rows[
                (rows["model"] == model) & (rows["intervention"] == condition) & (rows["reference"] == line["b"])
            ]
            row = row[(row["readout"] == readout) & (row["metric"] == f"{metric}_difference")].iloc[0]
            assert line[key] == pytest.approx(row["value"], rel=1e-12)
            assert line[f"{key}_p"] == pytest.approx(row["p"], rel=1e-12)
    assert "patch_mean" not in tex
    assert r"Planting does damage: \newline Planted $-$ Tagged" in tex


def test_boxes_that_look_at_no_image_come_first(embedded: Any, tmp_path: Path) -> None:
    frame, tex = _run("lost_corloc", embedded, tmp_path)
    assert frame["corloc"].tolist()[:2] == [0.085, 0.012]
    assert frame["model"].isna().tolist()[:3] == [True, True, False]
    assert "\\textbf{Centre box}} \\\\*\n\\quad no model & $8.5$" in tex


def test_register_counts_are_in_order_and_only_of_models_trained_here(embedded: Any, tmp_path: Path) -> None:
    frame, _ = _run("register_count", embedded, tmp_path)
    assert frame["registers"].tolist() == [0, 1, 2, 4, 8, 16]


@pytest.mark.parametrize("name", tables.TABLES)
@pytest.mark.parametrize("change", [PLANTED_ONLY, NATURAL_ONLY, RELEASED], ids=["planted", "natural", "released"])
def test_other_studies_have_tables_too(
    name: str, change: dict[str, Any], make_study: Callable[..., Any], tmp_path: Path
) -> None:
    _, tex = _run(name, make_study(change), tmp_path)
    assert tex.startswith((r"\begin{tabular}", r"\begin{longtable}", r"\emph{"))


def test_a_study_without_artifacts_says_so(make_study: Callable[..., Any], tmp_path: Path) -> None:
    assert _run("test_time_registers", make_study(NATURAL_ONLY), tmp_path)[1] == "\\emph{no artifacts found}\n"
    assert "compares nothing" in _run("comparisons", make_study(NATURAL_ONLY), tmp_path)[1]


def test_several_data_sets_are_named(make_study: Callable[..., Any], tmp_path: Path) -> None:
    _, tex = _run("models", make_study(RELEASED), tmp_path)
    assert r"dinov2-vitb14\_reg4 on photos & released (timm)" in tex
    assert r"dinov2-vitb14\_reg4 on shapes & released (timm)" in tex


def test_classes_are_told_by_their_names_only_where_there_is_a_text_tower(
    embedded: Any, make_study: Callable[..., Any], tmp_path: Path
) -> None:
    assert _run("zero_shot", embedded, tmp_path)[1] == "\\emph{no model of this study has a text tower}\n"
    frame, tex = _run("zero_shot", make_study(TEXT_TOWER), tmp_path)
    assert frame[["model", "condition"]].to_numpy().tolist() == [["clip", "baseline"], ["clip", "append-1"]]
    assert frame["zero_shot"].tolist() == [0.7, 0.7]
    assert frame["zero_shot_n"].tolist() == [2000, 2000]
    assert "$70.0$ [$68.0$, $72.0$]" in tex


def test_kept_heads_stand_beside_refitted_ones(embedded: Any, tmp_path: Path) -> None:
    frame, tex = _run("dense", embedded, tmp_path)
    assert "Segmentation, mIoU (\\%)" in tex
    touched = frame[frame["condition"] != "baseline"].dropna(subset="miou_kept")
    assert (touched["miou_kept"] < touched["miou_refit"]).all()
    assert (touched["rmse_kept"] > touched["rmse_refit"]).all()
    assert tex.count("no artifacts found") == 6
    assert "pixel_accuracy_refit" in frame
    assert "Pixels right" not in tex


def test_an_unknown_table_is_refused(embedded: Any, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no table 'modles'; tables are models, detection"):
        tables.run("modles", embedded.view, embedded.tables, tmp_path)


def test_positions_table_says_where_artifacts_stand_with_intervals(embedded: Any, tmp_path: Path) -> None:
    frame, tex = _run("positions", embedded, tmp_path)
    rows = _walked(embedded.rows)
    planted = ["planted", "planted-cls", "planted-cls-raw", "planted-48", "planted-48-plain"]
    assert frame["model"].tolist() == planted
    for line in frame.to_dict("records"):
        key = (line["dataset"], line["model"], "baseline")
        for column, readout in (
            ("artifact_share", "detection"),
            ("artifact_rate_max", "positions"),
            ("artifacts_on_border", "positions"),
        ):
            row = rows[key, readout, column]
            measured = (row.value, row.low, row.high, row.n)
            assert tuple(line[f"{column}{part}"] for part in ("", "_low", "_high", "_n")) == pytest.approx(measured)
        assert line["place"] == "row 0, column 7"
        assert line["border_positions"] == pytest.approx(28 / 64)
    assert "$50.0$ [$46.9$, $53.1$] & row 0, column 7 & $90.0$" in tex


def test_the_share_of_artifacts_is_printed_with_its_interval_wherever_it_stands(embedded: Any, tmp_path: Path) -> None:
    for name in ("detection", "positions", "test_time_registers"):
        assert re.search(r"\$3\.40?\$ \[\$3\.\d+\$, \$3\.\d+\$\]", _run(name, embedded, tmp_path)[1]), name
    assert "$0.00$ [$0.00$, $0.01$]" in _run("natural_models", embedded, tmp_path)[1]


def test_a_model_that_lost_its_artifacts_at_another_size_stands_in_the_positions_table(
    make_study: Callable[..., Any], tmp_path: Path
) -> None:
    made = make_study()
    path = made.root / "metrics" / "tokens.csv"
    rows = metrics.read(path)
    gone = (rows["model"] == "planted-48") & rows["metric"].isin(["artifact_rate_max", "artifacts_on_border"])
    rows.loc[gone, ["value", "low", "high"]] = pd.NA
    rows.loc[gone, "note"] = "no patch exceeds the threshold"
    metrics.write(rows, path)
    frame, tex = _run("positions", made, tmp_path)
    line = frame.set_index("model").loc["planted-48"]
    assert pd.isna(line["artifact_rate_max"])
    assert pd.isna(line["place"])
    assert "no patch exceeds" in line["note"]
    assert re.search(r"Planted at 48 px & .* & --", tex)


def test_neurons_table_lists_them_by_rank_with_their_ranks_elsewhere(embedded: Any, tmp_path: Path) -> None:
    frame, tex = _run("neurons", embedded, tmp_path)
    planted = frame[frame["model"] == "planted"]
    assert planted["rank"].tolist() == list(range(1, 9))
    assert planted["neuron"].tolist() == list(range(40, 48))
    assert planted["score"].tolist() == [30.0 - 3 * i for i in range(8)]
    assert planted["planted"].tolist() == ["yes"] * 4 + ["no"] * 4
    assert planted["elsewhere"].tolist() == ["shapes-grey: --", *[f"shapes-grey: {i + 2}" for i in range(1, 8)]]
    assert set(frame["model"]) == {"planted", "planted-cls", "planted-cls-raw", "planted-48", "planted-48-plain"}
    assert frame.loc[frame["model"] == "planted-cls-raw", "elsewhere"].isna().all()
    assert tex.count("yes") == 20


def test_overlap_table_pairs_data_sets(embedded: Any, make_study: Callable[..., Any], tmp_path: Path) -> None:
    frame, tex = _run("neuron_overlap", embedded, tmp_path / "two")
    assert frame[["model", "found_on", "against", "overlap"]].to_numpy().tolist() == [
        [model, "shapes", "shapes-grey", 0.75] for model in ("planted", "planted-cls")
    ]
    assert "75.0" in tex
    assert "<" in tex  # p
    alone = make_study({"study": {"detections": []}})
    assert "one data set per model" in _run("neuron_overlap", alone, tmp_path / "one")[1]


def test_the_table_of_slots_names_the_registers_that_look_least_and_most(embedded: Any, tmp_path: Path) -> None:
    frame, tex = _run("register_slots", embedded, tmp_path)
    rows = _walked(embedded.rows)
    assert frame["model"].tolist() == ["vit-r1", "vit-r2", "vit-r4", "vit-r8", "vit-r16"]
    for line in frame.itertuples():
        assert (line.least_register, line.most_register) == (1, line.registers)  # in the order of shares, not of names
        for side, register in (("least", line.least_register), ("most", line.most_register)):
            key = ("shapes", line.model, "baseline")
            row = rows[key, "slots", f"object_attention[{register}]"]
            assert (getattr(line, side), getattr(line, f"{side}_low")) == pytest.approx((row.value, row.low))
    assert "$20.0$ [" in tex


def test_without_registers_the_table_of_slots_says_so(make_study: Callable[..., Any], tmp_path: Path) -> None:
    assert "no model of this study has registers" in _run("register_slots", make_study(PLANTED_ONLY), tmp_path)[1]


def test_models_with_registers_stand_beside_those_without_and_what_is_made_from_a_model_does_not(
    embedded: Any, tmp_path: Path
) -> None:
    for name, measures in (("lost_registers", 1), ("downstream_registers", 3)):
        frame, _ = _run(name, embedded, tmp_path)
        assert frame["model"].unique().tolist() == ["vit-r1", "vit-r2", "vit-r4", "vit-r8", "vit-r16"]
        assert set(frame["reference"]) == {"vit-r0"}
        assert len(frame) == 5 * measures
        assert frame["with"].notna().all()
        assert frame["without"].notna().all()
    frame, _ = _run("lost_registers", embedded, tmp_path)
    assert frame["change"].notna().all()
    assert frame["change_p"].notna().all()


def test_a_training_tells_when_and_where_most_patches_stood_out(embedded: Any, tmp_path: Path) -> None:
    frame, tex = _run("emergence", embedded, tmp_path)
    frame = frame.set_index("model")
    counts = ["vit-r0", "vit-r1", "vit-r2", "vit-r4", "vit-r8", "vit-r16"]
    assert frame.index.tolist() == [*counts, "vit-narrow", "vit-tiny"]
    peak = ["share_above_most", "share_above_most_epoch", "share_above_most_block"]
    assert frame.loc["vit-r0", peak].tolist() == [0.002, 5, 3]
    others = frame.drop(index="vit-r0")
    assert (others["share_above_most"] == 0).all()
    assert others[["share_above_most_epoch", "share_above_most_block"]].isna().all(axis=None)  # nothing: nowhere
    assert (frame["ratio_most"] == 1.7).all()
    assert "0.200" in tex


def test_every_epoch_and_block_of_every_training_is_in_the_grid(embedded: Any, tmp_path: Path) -> None:
    frame, _ = _run("emergence_grid", embedded, tmp_path)
    assert len(frame) == 8 * 7 * 6
    above = frame[frame["share_above"] > 0]
    assert above[["model", "epoch", "block"]].to_numpy().tolist() == [["vit-r0", 5, 3]]
    of = frame.set_index(["model", "epoch", "block"])
    assert of.loc[("vit-r2", 3, 4), "norm_max"] == 17.0 * 3 * 5


def test_trainings_by_several_recipes_are_called_by_their_keys(make_study: Callable[..., Any], tmp_path: Path) -> None:
    params = make_study().params.model_dump(mode="json")
    content = {"recipes": {"other": params["recipes"]["small"]}, "models": {"vit-r4": {"recipe": "other"}}}
    frame, _ = _run("emergence", make_study({**NATURAL_ONLY, **content}), tmp_path)
    assert frame["model_label"].tolist() == ["vit-r0", "vit-r4"]
    frame, _ = _run("emergence", make_study(NATURAL_ONLY), tmp_path)
    assert frame["model_label"].tolist() == ["ViT without registers", "ViT with 4 registers"]


@pytest.mark.parametrize("name", ["emergence", "emergence_grid"])
def test_a_study_that_trains_nothing_says_so(name: str, make_study: Callable[..., Any], tmp_path: Path) -> None:
    assert "no model of this study was trained by the pipeline" in _run(name, make_study(RELEASED), tmp_path)[1]


def test_energy_stands_beside_what_is_listed(embedded: Any, tmp_path: Path) -> None:
    frame, _ = _run("training_energy", embedded, tmp_path)
    frame = frame.set_index("model")
    assert frame.index[-1] == "bach2025"
    counts = ["vit-r0", "vit-r1", "vit-r2", "vit-r4", "vit-r8", "vit-r16"]
    assert frame.index[:-1].tolist() == [*counts, "vit-narrow", "vit-tiny"]
    assert frame.loc["bach2025", "energy_error"] == -0.1
    assert frame["energy_listed"].notna().sum() == 1
