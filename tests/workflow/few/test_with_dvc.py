"""DVC and Snakemake together: each believes what the other did, in this folder, in a clone, and back in time.

These tests leave commits behind, so they come after the others of this folder.
"""

import re
from pathlib import Path

import pytest
import yaml

from vit_registers.core.errors import InputError
from vit_registers.params import reading
from vit_registers.pipeline import experiment, steps
from vit_registers.pipeline.paths import Paths
from vit_registers.report.facts import caption
from vit_registers.views.plan import plan

pytestmark = pytest.mark.pipeline

ROOT = Path(__file__).parents[3]
VIEWS = {"collect": "table", "summarise": "table", "table": "tables", "figure": "figures", "report_text": "report",
         "report": "report", "explorer": "explorer"}  # fmt: skip


def stages(root=ROOT):
    """Stages of dvc.yaml, their values filled in."""
    values = yaml.safe_load((root / "study.yaml").read_text())
    text = re.sub(r"\$\{(\w+)\}", lambda found: values[found[1]], (root / "dvc.yaml").read_text())
    return yaml.safe_load(text)["stages"]


def phase_of_rule():
    return {name: step.phase for name, step in steps.steps().items()} | VIEWS


def test_every_phase_of_snakemake_is_a_stage_and_the_two_graphs_agree(fresh):
    dot = fresh.snakemake("--rulegraph", "--forceall")
    label = dict(re.findall(r'(\d+)\[label = "(\w+)"', dot))
    edges = {(label[a], label[b]) for a, b in re.findall(r"(\d+) -> (\d+)", dot) if label[b] != "all"}
    phase = phase_of_rule()
    ours = {(phase[a], phase[b]) for a, b in edges if phase[a] != phase[b]}
    made_by = {
        out: name
        for name, stage in stages().items()
        for entry in [*stage["outs"], *stage.get("metrics", [])]
        for out in entry
    }
    theirs = {(made_by[dep], name) for name, stage in stages().items() for dep in stage["deps"] if dep in made_by}
    assert {phase for phase in phase_of_rule().values()} == set(stages()) - {"provenance"}
    assert ours <= {(a, b) for a, b in theirs if b != "provenance"}


def test_dependencies_on_code_are_folders_that_are_there():
    for name, stage in stages().items():
        for dep in stage["deps"]:
            if dep.startswith("src/"):
                assert (ROOT / dep).is_dir(), f"{name}: {dep}"


def test_every_overlay_has_the_same_stages_under_a_name_of_its_own():
    names = {path.stem for path in (ROOT / "params").glob("*.yaml")}
    assert {path.name for path in (ROOT / "studies").iterdir()} == names
    for name in names:
        folder = ROOT / "studies" / name
        assert (folder / "dvc.yaml").resolve() == ROOT / "dvc.yaml"
        values = yaml.safe_load((folder / "study.yaml").read_text())
        overlay = reading.read_yaml(ROOT / values["overlay"])
        assert overlay["study"]["name"] == values["name"] == name
        assert f"--configfile {values['overlay']}" in values["snakemake"]


def leaves(content, path=()):
    for key, value in content.items():
        if isinstance(value, dict):
            yield from leaves(value, (*path, key))
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield (*path, key), value


def configs(study):
    """What every phase sees of params, as text."""
    seen = {}
    for step in steps.steps().values():
        of_step = [step.config(study, **axes).model_dump_json() for axes in step.jobs(study)]
        seen.setdefault(step.phase, []).append(of_step)
    seen["tables"] = seen["figures"] = plan(study).model_dump_json()
    captions = [caption(study, *scene) for scene in experiment.scenes().values()]
    seen["explorer"] = [seen["tables"], study.explorer.model_dump_json(), captions]
    seen["report"] = study.model_dump_json()
    return seen


def changed(content, path, value):
    """Params with another value at a path: one that they take, as sizes have to be multiples of others; else None."""
    for other in (value + 2, value * 2) if isinstance(value, int) else (value * 0.99,):
        nested = other
        for key in reversed(path):
            nested = {key: nested}
        try:
            return reading.parse(reading.overlay(content, nested))
        except InputError:
            continue
    return None


def test_a_param_that_changes_what_a_phase_sees_is_a_param_of_its_stage():
    """Else DVC would skip the stage, and bless what Snakemake would have redone."""
    content = reading.read_yaml(ROOT / "params.yaml")
    before = configs(reading.parse(content))
    checked, fixed = 0, []
    for path, value in leaves(content):
        params = changed(content, path, value)
        if params is None:
            fixed.append(path)
            continue
        after = configs(params)
        for phase, seen in before.items():
            if seen != after[phase]:
                assert path[0] in stages()[phase]["params"], f"{phase}: {'.'.join(path)}"
                checked += 1
    assert checked > 50
    assert fixed == [("models", "vit-late", "registers")]  # a late register is one


@pytest.fixture(scope="module")
def recorded(few):
    """The finished study as ``dvc repro`` records it: every stage asks Snakemake, which has nothing to do."""
    values = yaml.safe_load((few.path / "study.yaml").read_text()) | {"name": "smoke"}
    (few.path / "study.yaml").write_text(yaml.safe_dump(values))
    output = few.run("dvc", "repro")
    assert set(re.findall(r"^(?:local)?rule (\w+):", output, re.MULTILINE)) <= {"provenance"}
    assert output.count("Nothing to be done") == len(stages()) - 1
    assert "skipping" in few.run("dvc", "repro")
    few.run("git", "add", "--all")
    few.run("git", "commit", "--quiet", "--message", "recorded")
    return few


def test_a_clone_that_pulls_has_nothing_to_do(recorded, tmp_path):
    recorded.run("dvc", "remote", "add", "--force", "--default", "--local", "here", str(tmp_path / "remote"))
    recorded.run("dvc", "push", "--quiet")
    clone = type(recorded)(tmp_path / "clone")
    recorded.run("git", "clone", "--quiet", str(recorded.path), str(clone.path))
    clone.run("dvc", "remote", "add", "--default", "--local", "here", str(tmp_path / "remote"))
    clone.run("dvc", "pull", "--quiet", "dvc.yaml")
    assert clone.planned() == []
    assert "up to date" in clone.run("dvc", "status", "dvc.yaml")
    clone.change("experiments: {object_discovery: {lost: {k: 5}}}")
    assert "object_discovery" in clone.planned()
    assert "extract" not in clone.planned()


def test_a_changed_value_redoes_its_phase_and_the_old_one_comes_back_without_work(recorded):
    old = recorded.contents("results/smoke/tables/*.csv")
    recorded.change("experiments: {object_discovery: {lost: {k: 5}}}")
    output = recorded.run("dvc", "repro")
    ran = set(re.findall(r"^(?:local)?rule (\w+):", output, re.MULTILINE))
    assert {"object_discovery", "comparisons", "table"} <= ran
    assert not ran & {"prepare", "train", "plant", "extract", "detect", "ablate", "classification", "token_statistics"}
    for stage in ("models", "features", "registers", "ablation"):
        assert f"Stage '{stage}' didn't change, skipping" in output
    assert recorded.planned() == []
    assert recorded.contents("results/smoke/tables/*.csv") != old
    recorded.run("git", "commit", "--quiet", "--all", "--message", "another k")

    recorded.run("git", "checkout", "--quiet", "HEAD~1")
    recorded.run("dvc", "checkout", "--quiet", "dvc.yaml")
    assert recorded.contents("results/smoke/tables/*.csv") == old
    assert recorded.planned() == []
    assert "up to date" in recorded.run("dvc", "status", "dvc.yaml")


def test_an_overlay_is_reproduced_by_one_command(recorded):
    """Its first stage, on data of its own."""
    recorded.run("dvc", "repro", "studies/extended/dvc.yaml:data", "--dry")
    overlay = recorded.path / "params/tiny.yaml"
    overlay.write_text("study: {name: tiny}\n")
    folder = recorded.path / "studies/tiny"
    folder.mkdir()
    (folder / "dvc.yaml").symlink_to("../../dvc.yaml")
    values = {"name": "tiny", "top": "../..", "overlay": "params/tiny.yaml"}
    values["snakemake"] = "snakemake --cores all --configfile params/tiny.yaml --"
    (folder / "study.yaml").write_text(yaml.safe_dump(values))
    recorded.run("dvc", "repro", "studies/tiny/dvc.yaml:data")
    at = Paths("tiny", recorded.path)
    assert (at.dataset("shapes") / "dataset.json").is_file()
    assert (folder / "dvc.lock").is_file()
    assert recorded.planned() == []
