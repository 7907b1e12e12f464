"""Runs of Snakemake that fail, or are given what is wrong: the step's own line stands last, without frames and shell."""

import json
import shutil

import pytest
import yaml

from helpers.projects import held
from workflow.conftest import Project, copy_repository

pytestmark = pytest.mark.pipeline


@pytest.fixture(scope="module")
def repository(tmp_path_factory, finished) -> Project:
    """A copy of the repository whose params are those of the tiny study."""
    project = copy_repository(tmp_path_factory.mktemp("repository") / "study with 'spaces' and $")
    content = json.loads((finished / "params.json").read_text())
    (project.path / "params.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    return project


@pytest.fixture
def project(repository, tmp_path) -> Project:
    """A copy of it to spoil."""
    shutil.copytree(repository.path, tmp_path / "study", symlinks=True)
    return Project(tmp_path / "study")


def last(output: str) -> str:
    """The last line, where nothing before it is a frame, a shell command or a second error."""
    lines = output.rstrip().splitlines()
    assert "Traceback" not in output
    assert '  File "' not in output
    assert "set -euo pipefail" not in output
    assert "--params results" not in output
    assert [line for line in lines if line.startswith("error: ")] == lines[-1:], output
    return lines[-1]


TARGET = "data/prepared/tiny/mine/dataset.json"
MINE = "datasets: {mine: {kind: csv, csv: list.csv, root: .}}\nmodels: {vit-r0: {dataset: mine}}\n"


@pytest.mark.parametrize("quiet", [[], ["--quiet", "rules"], ["--quiet", "all"]])
def test_the_line_of_a_step_that_failed_stands_last(project, quiet):
    project.change(MINE)
    (project.path / "list.csv").write_text("path,label,split\nno.png,a,train\n")
    output = project.snakemake("--cores", "1", *quiet, "--", TARGET, status=1)
    assert last(output).startswith("error: list.csv: row 1: ")
    assert "no.png: no such image" in last(output)
    assert not (project.path / TARGET).exists()


def test_everything_is_said_where_it_is_asked_for(project):
    project.change(MINE)
    (project.path / "list.csv").write_text("path,label,split\nno.png,a,train\n")
    output = project.snakemake("--cores", "1", "--verbose", "--", TARGET, status=1)
    assert "vit-registers prepare" in output
    assert "error: list.csv: row 1: " in output


PARAMS = {
    "A1-utf16": ("params.yaml", "seed: 1".encode("utf-16"), "params.yaml: not a params file"),
    "A1-deep": ("params.yaml", b"seed: " + b"[" * 50_000, "params.yaml: not a params file in YAML: nested"),
    "A1-itself": ("params.yaml", b"seed: &a [*a]", "holds itself through an alias"),
    "A1-list-as-key": ("params.yaml", b"? [1]\n: 2", "a key is a list"),
    "A1-missing": ("params.yaml", None, "params.yaml: no such file"),
    "E10-yte": ("params.yaml", b"__use_yte__: true\n__definitions__: [\"open('ran', 'w')\"]\n", "__use_yte__: unknown key|missing"),
    "B6-overlay-twice": ("o.yaml", b"seed: 1\nseed: 2\n", "o.yaml: line 2: key 'seed' is given twice"),
    "B4-overlay-infinite": ("o.yaml", b"recipes: {small: {lr: .inf}}", "recipes.small.lr: expected a finite number"),
    "overlay-key": ("o.yaml", b"sead: 1", "sead: unknown key"),
}  # fmt: skip


@pytest.mark.parametrize(("name", "text", "said"), PARAMS.values(), ids=PARAMS)
def test_params_are_refused_before_anything_is_planned(project, name, text, said):
    path = project.path / name
    if text is None:
        path.unlink()
    else:
        path.write_bytes(text)
    overlay = ["--configfile", name] if name != "params.yaml" else []
    output = project.snakemake("-n", *overlay, status=2)
    assert any(part in last(output) for part in said.split("|"))
    assert not (project.path / "ran").exists()
    assert not (project.path / "results/tiny").exists()


def test_a_target_that_no_rule_makes(project):
    output = project.snakemake("--cores", "1", "--", "results/tiny/nothing.csv", status=1)
    assert "MissingRuleException" in last(output)
    assert "results/tiny/nothing.csv" in last(output)


def test_braces_pluses_and_quotes_are_no_wildcards(project):
    """E13."""
    (project.path / "a+b").mkdir()
    (project.path / "a+b" / "y.csv").write_text("path,label,split\n")
    project.change(
        "study: {title: \"{x} {{y}} 'z' $HOME\"}\n"
        "datasets: {a+b: {kind: csv, csv: a+b/y.csv, root: a+b}}\n"
        "models: {vit-r0: {dataset: a+b}}\n"
    )
    planned = project.planned()
    assert {"prepare", "train", "figure", "table", "report_text"} <= set(planned)


def test_braces_in_the_name_of_a_file_are_refused(project):
    """E13: Snakemake takes them for wildcards."""
    project.change("datasets: {mine: {kind: csv, csv: '{x}.csv', root: .}}\nmodels: {vit-r0: {dataset: mine}}\n")
    assert "datasets.mine: '{x}.csv': Snakemake takes braces for wildcards" in last(project.snakemake("-n", status=2))


def test_who_looks_may_look_while_a_run_is_at_work(project):
    """D."""
    project.snakemake("-n")
    with held(project.path, "tiny"):
        for looks in (["-np"], ["-nq"], ["-S"], ["-D"], ["--list-rules"], ["--lt"], ["--dag"], ["--d3dag"]):
            assert "is at work" not in project.snakemake(*looks), looks
        refused = project.snakemake("--cores", "1", "--", "data/prepared/tiny/shapes/dataset.json", status=2)
        assert "another run" in last(refused)


def test_records_of_what_made_the_data_survive(project):
    """E5: without them a changed value would redo nothing."""
    target = "data/prepared/tiny/shapes/dataset.json"
    project.snakemake("--cores", "1", "--", target)
    shutil.rmtree(project.path / ".snakemake")
    assert project.planned("--", target) == []
    shutil.rmtree(project.path / ".snakemake")
    project.change("datasets: {shapes: {test: 41}}")
    assert project.planned("--", target) == ["prepare"]


def test_what_is_damaged_or_of_unknown_origin_is_said(project, finished):
    """B1 and E5."""
    for folder in ("results/tiny", "data/prepared/tiny"):
        shutil.copytree(finished / folder, project.path / folder)
    array = "results/tiny/features/baseline/shapes/vit-r0/norms.npy"
    (project.path / array).unlink()
    output = project.snakemake("-n")
    assert "warning: results/tiny: Snakemake's records of what made it are gone" in output
    assert f"damaged: {array}: missing; delete results/tiny/features/baseline/shapes/vit-r0.json" in output
