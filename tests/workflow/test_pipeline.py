"""From nothing to the report; only what depends on a change is redone."""

import pytest

from vit_registers import params
from vit_registers.core import table as metrics
from vit_registers.pipeline import slices as steps

ALWAYS_LAST = {"all", "summarise", "report_text", "report"}


def table(project, readout):
    return metrics.read(project.path / "results/metrics" / f"{readout}.csv")


def test_every_output_is_there_and_nothing_is_left_to_do(finished):
    names = set(finished.contents("results/tables/*", "results/figures/*", "results/metrics/*", "report/report.pdf"))
    tables = [
        "models",
        "detection",
        "positions",
        "test_time_registers",
        "natural_models",
        "emergence",
        "emergence_grid",
        "neurons",
        "neuron_overlap",
        "local_information",
        "token_classification",
        "register_count",
        "register_slots",
        "lost_registers",
        "downstream_registers",
        "register_cost",
        "training_energy",
        "register_sweep",
        "classification",
        "probe",
        "lost_corloc",
        "lost_sweep",
        "lost_grid",
        "dense",
        "zero_shot",
        "comparisons",
    ]
    figures = [
        "norms_by_layer",
        "cls_attention_by_layer",
        "norm_distributions",
        "norms_by_epoch",
        "attention_by_epoch",
        "focus_by_epoch",
        "register_cosine_by_epoch",
        "norms_by_size",
        "artifact_positions",
        "norms_by_position",
        "attention_distributions",
        "attention_maps",
        "attention_by_block",
        "positional_focus",
        "register_slots",
        "lost_steps",
        "lost_settings",
        "register_count",
    ]
    expected = {f"results/tables/{name}.{kind}" for name in tables for kind in ("csv", "tex")}
    expected |= {f"results/figures/{name}.{kind}" for name in figures for kind in ("pdf", "png")}
    readouts = (
        "detection",
        "neurons",
        "tokens",
        "information",
        "probe",
        "lost",
        "dense",
        "zero_shot",
        "sweep",
        "training",
        "cost",
        "energy",
        "comparisons",
        "metrics",
    )
    expected |= {f"results/metrics/{name}.csv" for name in readouts}
    assert names == expected | {"results/metrics/summary.json", "report/report.pdf"}
    assert finished.planned() == []


def test_every_condition_has_its_numbers_or_says_why_not(finished):
    study = params.load(finished.path / "params.yaml")
    for readout, metric in (("probe", "top1"), ("lost", "corloc"), ("dense", "miou")):
        rows = table(finished, readout)
        for dataset, model in study.pairs():
            for condition in study.conditions(dataset, model):
                mine = rows[(rows.model == model) & (rows.intervention == condition)]
                assert len(mine), (model, condition)
                measured = mine[mine.metric == metric]
                assert (len(measured) and measured.value.notna().all()) or mine.note.notna().all(), (model, condition)


def test_detection_finds_exactly_the_planted_neurons(finished):
    rows = table(finished, "detection").set_index(["dataset", "model", "metric"])["value"].sort_index()
    for dataset in ("shapes", "shapes-grey"):
        for metric in ("found", "precision", "recall"):
            assert rows[dataset, "planted", metric] == 1, (dataset, metric)
    for natural in ("vit-r0", "vit-r4", "tagged"):
        assert rows["shapes", natural, "found"] == 0
    neurons = table(finished, "neurons").set_index(["dataset", "model", "metric"])
    assert neurons.loc[("shapes", "planted", "overlap"), "value"] == 1.0


DAMAGED = ("baseline", "append-4", "half-4", "random-4")


def test_test_time_registers_bring_the_norms_of_every_block_back_and_the_controls_do_not(finished):
    rows = table(finished, "tokens")
    norms = rows[rows.readout == "norms"].set_index(["metric", "model", "intervention", "layer"])["value"].sort_index()
    maximum = norms["norm_max"]
    control, repaired = maximum["tagged", "append-4"], maximum["planted", "ttr-4"]
    assert ((repaired / control - 1).abs() < 0.1).all()
    for damaged in DAMAGED:
        assert maximum["planted", damaged].iloc[-1] > 3 * control.iloc[-1], damaged
    carried, empty = (norms["norm_appended", "planted", name].iloc[-1] for name in ("ttr-4", "append-4"))
    assert carried > 3 * max(control.iloc[-1], empty)  # the appended tokens hold what the patches held


def test_object_discovery_is_lost_by_planting_and_regained_by_test_time_registers_alone(finished):
    rows = table(finished, "comparisons")
    corloc = rows[(rows.readout == "lost") & (rows.metric == "corloc_difference")].set_index(
        ["intervention", "reference"]
    )
    control = "tagged/append-4"
    for damaged in DAMAGED:
        row = corloc.loc[damaged, "tagged/baseline" if damaged == "baseline" else control]
        assert row["value"] < -0.1, damaged
        assert row["p"] < 0.01, damaged
    repaired = corloc.loc["ttr-4", control]
    assert repaired["p"] > 0.05
    assert repaired["low"] <= 0 <= repaired["high"]
    accuracy = rows[(rows.metric == "top1_difference") & (rows.readout == "probe[cls]")]
    accuracy = accuracy.set_index(["intervention", "reference"]).loc["ttr-4", control]
    assert accuracy["high"] >= 0  # not harmed


def test_artifacts_that_attract_cls_have_rows_of_their_own(finished):
    rows = table(finished, "tokens")
    rows = rows[rows.metric == "cls_to_artifacts"]
    seen = rows.set_index(["model", "intervention", "layer"])["value"].sort_index()
    plain, attracting = seen["planted", "baseline"].iloc[-1], seen["planted-cls-raw", "baseline"].iloc[-1]
    assert attracting > 1.2 * plain > 0
    assert seen["planted-cls-raw", "ttr-4"].iloc[-1] < 0.2 * attracting  # nothing is left to look at
    with (finished.path / "results/tables/test_time_registers.csv").open() as file:
        assert {"planted", "planted-cls-raw"} <= {line.split(",")[1] for line in file}


def test_a_changed_learning_rate_of_the_probe_redoes_probes_and_what_shows_them(finished):
    before = (finished.path / "params.yaml").read_bytes()
    try:
        finished.change("probe: {lr: 2.0e-3}")
        rules = finished.planned()
    finally:
        (finished.path / "params.yaml").write_bytes(before)
    assert set(rules) == {"probe", "compare", "collect", "table", "figure"} | ALWAYS_LAST
    assert rules.count("probe") == len(params.load(finished.path / "params.yaml").pairs())
    assert rules.count("collect") == 2  # probe and comparisons
    assert finished.planned() == []


def edited(project, file, old, new):
    path = project.path / "src/vit_registers" / file
    before = path.read_text()
    assert old in before
    path.write_text(before.replace(old, new, 1))
    try:
        return project.planned()
    finally:
        path.write_text(before)


def test_edited_lost_code_redoes_lost_and_what_follows(finished):
    rules = edited(finished, "readouts/lost.py", "\n\n\ndef ", "\n\nEDITED = True\n\n\ndef ")
    assert set(rules) == {"lost", "sweep", "compare", "collect", "table", "figure"} | ALWAYS_LAST
    assert rules.count("collect") == 3  # lost, its sweep, and comparisons


def test_an_edited_comment_redoes_nothing(finished):
    assert edited(finished, "readouts/lost.py", "\n\n\ndef ", "\n\n\n# A comment.\ndef ") == []


def test_a_figure_is_not_redone_for_an_edited_table(finished):
    rules = edited(finished, "report/tables.py", "\n\n\ndef ", "\n\nEDITED = True\n\n\ndef ")
    assert set(rules) == {"table", "all", "report"}


@pytest.mark.parametrize("name", ["detection", "lost_corloc"])
def test_a_table_has_a_target_of_its_own(finished, name):
    assert "table" in finished.snakemake("-n", "--forcerun", "table", "--", f"results/tables/{name}.csv")


def test_the_page_is_self_contained(finished):
    finished.snakemake("--report", "results/report.html")
    page = (finished.path / "results/report.html").read_text()
    (finished.path / "results/report.html").unlink()
    for name in ("norms_by_layer", "lost_corloc", "report.pdf"):
        assert name in page
    assert "<script src=" not in page
    assert '<link rel="stylesheet" href="http' not in page


def test_a_step_by_hand_sees_the_slice_that_snakemake_passes(finished):
    study = params.load(finished.path / "params.yaml")
    path = finished.path / "results/readouts/lost/shapes/planted.csv"
    before = path.read_bytes()
    finished.run("vit-registers", "lost", "--dataset", "shapes", "--model", "planted")
    assert path.read_bytes() == before
    assert steps.lost(study, "shapes", "planted").model == "planted"
