"""From nothing to the report; only what depends on a change is redone."""

import json
import re

import pandas as pd
import pytest

from helpers.explorer import Looked
from helpers.projects import held
from vit_registers.core import table
from vit_registers.params import reading
from vit_registers.pipeline import experiment, steps
from vit_registers.pipeline.paths import Paths
from vit_registers.report import abstract, build

pytestmark = pytest.mark.pipeline

ALWAYS_LAST = {"all", "summarise", "report_text", "report", "explorer"}


def study_of(project):
    return reading.load([project.path / "params.yaml"])


def rows_of(project, metric, **axes):
    """Rows of a metric of the finished study, by what tells them apart."""
    rows = table.read(project.results / "table.csv", experiment.axes())
    rows = rows[rows["metric"] == metric]
    for axis, value in axes.items():
        rows = rows[rows[axis].isna() if value is None else rows[axis] == value]
    return rows


def test_every_output_that_is_declared_is_there_and_nothing_is_left_to_do(finished):
    study, at = study_of(finished), Paths("smoke", finished.path)
    expected = {at.table, at.summary, at.report / "report.pdf"}
    for step in steps.steps().values():
        for axes in step.jobs(study):
            expected |= {*step.outputs(study, at, **axes), *step.folders(study, at, **axes)}
    expected |= {at.rows(name) for name in steps.measured(study)}
    for views, folder, kinds in (
        (experiment.tables(), at.tables, ("csv", "tex")),
        (experiment.figures(), at.figures, ("png", "pdf")),
    ):
        shown = steps.shown(study, views)
        assert shown
        expected |= {folder / f"{name}.{kind}" for name in shown for kind in kinds}
        assert {path.name for path in folder.iterdir()} == {f"{name}.{kind}" for name in shown for kind in kinds}
    assert [path for path in expected if not path.exists()] == []
    assert finished.planned() == []


def test_the_report_has_a_short_abstract_a_short_body_and_sections_that_open_with_a_finding(finished):
    (pages,) = re.findall(r"(\d+) pages before the appendix", (finished.path / "logs/smoke/report.log").read_text())
    assert 3 <= int(pages) <= build.BODY
    folder = finished.results / "report"
    (said,) = re.findall(r"\\newcommand{\\Abstract}{(.*)}$", (folder / "numbers.tex").read_text(), flags=re.MULTILINE)
    assert 60 < abstract.words(said) <= abstract.WORDS
    sections = re.split(r"\\subsection{.*\n+", (folder / "results.tex").read_text())[1:]
    assert len(sections) > 15
    for section in sections:
        prose = section.split(r"\result")[0].strip()
        assert prose[0].isupper(), prose
        assert not prose.startswith(("Table", "Figure")), prose
        assert len(re.findall(r"\[\$", prose)) <= 3, prose  # numbers with an interval
    assert (folder / "shortfalls.tex").read_text().count(r"\item") >= 3


def test_every_metric_of_the_table_is_registered_and_every_measure_has_rows(finished):
    rows = table.read(finished.results / "table.csv", experiment.axes())
    assert set(rows["metric"]) <= experiment.metrics().keys()
    units = {name: metric.unit for name, (_, metric) in experiment.metrics().items()}
    assert (rows["unit"] == rows["metric"].map(units)).all()
    for measure in steps.measured(study_of(finished)):
        if not experiment.measures()[measure][1].metrics:  # it keeps arrays alone
            continue
        assert len(table.read(finished.results / "rows" / f"{measure}.csv", experiment.axes())), measure


def test_every_condition_has_its_numbers_or_says_why_not(finished):
    study = study_of(finished)
    for metric in ("top1", "corloc", "miou"):
        measure = experiment.metrics()[metric][0]
        rows = rows_of(finished, metric, reference_model=None)
        for dataset, model in study.pairs(experiment.owner(measure)):
            for condition in study.conditions(dataset, model):
                mine = rows[(rows.model == model) & (rows.intervention == condition)]
                assert len(mine), (model, condition)
                assert mine.value.notna().all() or mine.note.notna().any(), (model, condition)


def test_detection_finds_exactly_the_planted_neurons(finished):
    for metric in ("artifacts_found", "neuron_precision", "neuron_recall"):
        rows = rows_of(finished, metric).set_index(["dataset", "model"])["value"]
        for dataset in ("shapes", "shapes-grey"):
            assert rows[dataset, "planted"] == 1, (dataset, metric)
    found = rows_of(finished, "artifacts_found", dataset="shapes").set_index("model")["value"]
    assert (found[["vit-r0", "vit-r4", "tagged"]] == 0).all()
    assert (rows_of(finished, "neuron_overlap", model="planted")["value"] == 1.0).all()


def test_the_published_score_misses_weak_register_neurons_and_the_contribution_finds_them(finished):
    rows = rows_of(finished, "planted_recall", sparsity="absolute", ranked="every block")
    recall = rows[rows.seed.isna()].set_index(["score", "activation"])["value"]
    assert recall["activation", 16.0] == recall["contribution", 16.0] == recall["contribution", 0.16] == 1.0
    assert recall["activation", 0.16] < 0.5


DAMAGED = ("baseline", "append-4", "half-4", "matched-4")


def test_test_time_registers_bring_the_norms_of_every_block_back_and_the_controls_do_not(finished):
    maximum = rows_of(finished, "norm_max").set_index(["model", "intervention", "layer"])["value"].sort_index()
    control, repaired = maximum["tagged", "append-4"], maximum["planted", "ttr-4"]
    assert ((repaired / control - 1).abs() < 0.1).all()
    for damaged in DAMAGED:  # half of the neurons make half of an artifact
        times = 2 if damaged == "half-4" else 3
        assert maximum["planted", damaged].iloc[-1] > times * control.iloc[-1], damaged
    appended = rows_of(finished, "norm_mean", group="appended", model="planted")
    appended = appended.set_index(["intervention", "layer"])["value"].sort_index()
    carried, empty = (appended[name].iloc[-1] for name in ("ttr-4", "append-4"))
    assert carried > 3 * max(control.iloc[-1], empty)  # the appended tokens hold what the patches held


def test_object_discovery_is_lost_by_planting_and_regained_by_test_time_registers_alone(finished):
    compared = ["intervention", "reference_model", "reference_intervention"]
    corloc = rows_of(finished, "corloc", model="planted", head="lost")
    corloc = corloc[corloc.reference_model.notna()].set_index(compared)
    for damaged in DAMAGED:
        row = corloc.loc[damaged, "tagged", "baseline" if damaged == "baseline" else "append-4"]
        assert row["value"] < -0.1, damaged
        assert row["p"] < 0.01, damaged
    repaired = corloc.loc["ttr-4", "tagged", "append-4"]
    assert repaired["p"] > 0.05
    assert repaired["low"] <= 0 <= repaired["high"]
    accuracy = rows_of(finished, "top1", model="planted", feature="cls", head="refitted")
    accuracy = accuracy[accuracy.reference_model.notna()].set_index(compared).loc["ttr-4", "tagged", "append-4"]
    assert accuracy["high"] >= 0  # not harmed


def test_a_model_that_needs_its_register_is_repaired_by_moving_the_neurons_and_not_by_clearing_them(finished):
    """Of the class, which artifacts hold, and of patches, which they spoil, only a register brings back both."""
    ceiling = rows_of(finished, "own_head_top1", model="tagged-late")["value"].item()
    top1 = rows_of(finished, "own_head_top1", model="planted-late", reference_model=None)
    top1 = top1.set_index("intervention")["value"]
    patches = rows_of(finished, "patch_cosine", model="planted-late", group="artifacts").set_index("intervention")
    assert ceiling > 0.3  # of ten classes: something was learnt
    for repaired in ("ttr-1", "ttr-4"):
        assert top1[repaired] > ceiling - 0.05, repaired
        assert patches["value"][repaired] > 0.98, repaired
    for empty in ("cleared", "cleared-append-4"):  # patches are well, but the class is gone
        assert top1[empty] < ceiling - 0.15, empty
        assert top1[empty] < top1["ttr-1"] - 0.15, empty
        assert patches["value"][empty] > 0.95, empty
    for damaged in ("baseline", "append-1"):  # the class is there, but patches are not well
        assert top1[damaged] > ceiling - 0.1, damaged
        assert patches["value"][damaged] < 0.9, damaged
    assert patches["value"]["append-1"] < patches["value"]["moved-4"] < patches["value"]["ttr-1"]
    changes = rows_of(finished, "own_head_top1", model="planted-late", reference_model="tagged-late")
    changes = changes.set_index("intervention")
    assert changes.loc["cleared", "high"] < -0.1


def test_artifacts_that_attract_cls_have_rows_of_their_own(finished):
    seen = rows_of(finished, "attention", group="cls", target="artifacts")
    seen = seen.set_index(["model", "intervention", "layer"])["value"].sort_index()
    plain, attracting = seen["planted", "baseline"].iloc[-1], seen["planted-cls-raw", "baseline"].iloc[-1]
    assert attracting > 1.2 * plain > 0
    clean = rows_of(finished, "attention_in_reference", group="cls", target="artifacts")
    clean = clean.set_index(["model", "layer"])["value"].sort_index()
    for model in ("planted", "planted-cls-raw"):  # with registers the same patches are looked at as in the clean model
        assert abs(seen[model, "ttr-4"].iloc[-1] / clean[model].iloc[-1] - 1) < 0.15, model
        assert abs(seen[model, "baseline"].iloc[-1] / clean[model].iloc[-1] - 1) > 0.15, model
    shown = pd.read_csv(finished.results / "tables/test_time_registers.csv")
    assert {"planted", "planted-cls-raw"} <= set(shown["model"])


def test_a_changed_learning_rate_of_the_probe_redoes_probes_and_what_shows_them(finished):
    before = (finished.path / "params.yaml").read_bytes()
    try:
        finished.change("experiments: {classification: {probe: {lr: 2.0e-3}}}")
        rules = finished.planned()
    finally:
        (finished.path / "params.yaml").write_bytes(before)
    assert set(rules) == {"classification", "comparisons", "additivity", "collect", "table", "figure"} | ALWAYS_LAST
    assert rules.count("classification") == len(study_of(finished).pairs("classification"))
    assert rules.count("collect") == 3  # classification, and comparisons and additivity, which read it
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


LOST = "experiments/object_discovery/lost.py"


def test_edited_lost_code_redoes_lost_and_what_follows(finished):
    rules = edited(finished, LOST, "np.argsort(degree", "+np.argsort(degree")
    assert (
        set(rules)
        == {"object_discovery", "lost_settings", "comparisons", "additivity", "collect", "table", "figure"}
        | ALWAYS_LAST
    )
    assert rules.count("collect") == 4  # object discovery, its sweep, and comparisons and additivity, which read it


def test_an_edited_comment_and_a_new_helper_redo_nothing(finished):
    assert edited(finished, LOST, "\n\n\ndef ", "\n\n\n# A comment.\ndef ") == []
    assert edited(finished, "core/files.py", "\n\n\ndef ", "\n\n\ndef helper():\n    return 1\n\n\ndef ") == []


def test_a_table_is_redone_alone_when_its_function_is_edited(finished):
    rules = edited(finished, "experiments/object_discovery/tables.py", 'f"{kind} box"', 'f"{kind}  box"')
    assert set(rules) == {"table", "all", "report"}
    assert rules.count("table") == 1


def test_a_table_has_a_target_of_its_own(finished):
    target = "results/smoke/tables/lost_corloc.csv"
    assert "table" in finished.snakemake("-n", "--forcerun", "table", "--", target)


def test_the_page_is_self_contained_and_has_a_caption_for_every_view(finished):
    finished.snakemake("--report", "report.html")
    page = (finished.path / "report.html").read_text()
    (finished.path / "report.html").unlink()
    study = study_of(finished)
    for views in (experiment.tables(), experiment.figures()):
        for name in steps.shown(study, views):
            assert name in page
    assert "<script src=" not in page
    assert '<link rel="stylesheet" href="http' not in page


def test_a_step_by_hand_sees_the_params_that_snakemake_passes(finished):
    path = finished.results / "measures/object_discovery/shapes/planted/rows.csv"
    before = path.read_bytes()
    finished.run("vit-registers", "object-discovery", "--dataset", "shapes", "--model", "planted")
    assert path.read_bytes() == before
    assert finished.planned() == []


def test_a_look_while_a_run_is_at_work_looks_and_does_not_refuse(finished):
    with held(finished.path):
        for look in (("-np",), ("--list-rules",), ("--detailed-summary",), ("--rulegraph",)):
            finished.snakemake(*look)


def test_another_study_in_the_same_folder_touches_nothing_of_the_first(finished):
    """Embedded, then smoke, then embedded: nothing to do (here the other way round, as smoke is the one that ran)."""
    before = finished.contents("results/smoke/**/*", "data/prepared/smoke/**/*")
    other = finished.path / "other.yaml"
    other.write_text("study: {name: other}\n")
    finished.snakemake(
        "--cores", "2", "--configfile", "other.yaml", "--", "data/prepared/other/shapes-grey/dataset.json"
    )
    assert (finished.path / "data/prepared/other/shapes-grey/dataset.json").is_file()
    assert finished.planned() == []
    assert finished.contents("results/smoke/**/*", "data/prepared/smoke/**/*") == before
    other.unlink()


def test_the_explorer_has_every_scene_that_the_study_can_show_and_opens_each(finished, browser):
    page = finished.results / "explorer.html"
    assert page.stat().st_size < 15e6
    looked = Looked(browser, page)
    names = [scene["name"] for scene in json.loads(looked.open().inner_text("#about"))["scenes"]]
    assert set(names) == set(experiment.scenes())
    for name in names:
        assert looked.open(f"#/{name}").locator("main canvas, main svg, main img, main tbody tr").count() > 0, name
    assert looked.complaints == []
    assert [url for url in looked.requests if not url.startswith(looked.url)] == []
