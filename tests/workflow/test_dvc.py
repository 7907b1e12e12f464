"""DVC and Snakemake together: each believes what the other did, in this folder, in a clone, and back in time."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from vit_registers import params
from vit_registers.pipeline import slices as steps

ROOT = Path(__file__).parents[2]
PHASE_OF_RULE = {
    "prepare": "data",
    "fetch": "models",
    "train": "models",
    "plant": "models",
    "resize": "models",
    "extract": "features",
    "detect": "registers",
    "neurons": "registers",
    "calibrate": "ablation",
    "ablate": "ablation",
    "tokens": "readouts",
    "information": "readouts",
    "probe": "readouts",
    "lost": "readouts",
    "dense": "readouts",
    "zero_shot": "readouts",
    "sweep": "sweep",
    "training": "training",
    "cost": "cost",
    "energy": "energy",
    "compare": "comparisons",
    "collect": "metrics",
    "summarise": "metrics",
    "table": "tables",
    "figure": "figures",
    "report_text": "report",
    "report": "report",
}


def stages():
    return yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]


def test_dvc_yaml_is_what_the_imports_say():
    script = "workflow/scripts/dvc_stages.py"
    run = subprocess.run([sys.executable, script, "--check"], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


def test_every_phase_of_snakemake_is_a_stage_and_the_two_graphs_agree(fresh):
    dot = fresh.snakemake("--rulegraph", "--forceall")
    label = dict(re.findall(r'(\d+)\[label = "(\w+)"', dot))
    edges = {(label[a], label[b]) for a, b in re.findall(r"(\d+) -> (\d+)", dot) if label[b] != "all"}
    ours = {(PHASE_OF_RULE[a], PHASE_OF_RULE[b]) for a, b in edges if PHASE_OF_RULE[a] != PHASE_OF_RULE[b]}

    made_by = {
        out: name
        for name, stage in stages().items()
        for entry in [*stage["outs"], *stage.get("metrics", [])]
        for out in entry
    }
    theirs = {
        (made_by[dep], name) for name, stage in stages().items() for dep in stage.get("deps", []) if dep in made_by
    }
    theirs = {(a, b) for a, b in theirs if b != "provenance"}
    assert set(PHASE_OF_RULE.values()) == set(stages()) - {"provenance"}
    assert ours == theirs


def leaves(content, path=()):
    for key, value in content.items():
        if isinstance(value, dict):
            yield from leaves(value, (*path, key))
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield (*path, key), value


SLICES = {
    "data": lambda p: [steps.prepare(p, d) for d in p.datasets_used()],
    "models": lambda p: [steps.model(p, m) for m in p.models_used()],
    "features": lambda p: [steps.extract(p, d, m, ablated=False) for d, m in p.detected_pairs()],
    "registers": lambda p: [
        *(steps.detect(p, d, m) for d, m in p.detected_pairs()),
        *(steps.neurons(p, m) for _, m in p.pairs()),
    ],
    "ablation": lambda p: [
        step for d, m in p.pairs() for step in (steps.calibrate(p, d, m), steps.extract(p, d, m, ablated=True))
    ],
    "readouts": lambda p: [
        step(p, d, m)
        for d, m in p.pairs()
        for step in (steps.tokens, steps.information, steps.probe, steps.lost, steps.dense)
    ],
    "sweep": lambda p: [steps.sweep(p, d, m) for d, m in p.pairs()],
    "training": lambda p: [steps.training(p, m) for m, source in p.models.items() if source.kind == "trained"],
    "cost": lambda p: [steps.cost(p)],
    "energy": lambda p: [steps.energy(p)],
    "comparisons": lambda p: [steps.compare(p, d) for d in p.datasets_used()],
    "tables": lambda p: [steps.view(p)],
    "figures": lambda p: [steps.view(p)],
    "report": lambda p: [steps.report(p)],
}


def test_a_param_that_changes_a_slice_is_a_param_of_the_stage():
    """Else DVC would skip the stage, and bless what Snakemake would have redone."""
    content = params.read_yaml(ROOT / "params.yaml")
    before = params.parse(content)
    checked = 0
    for path, value in leaves(content):
        change = value + 2 if isinstance(value, int) else value * 0.99
        nested = {path[-1]: change}
        for key in reversed(path[:-1]):
            nested = {key: nested}
        after = params.parse(params.overlay(content, nested))
        for name, pick in SLICES.items():
            if pick(before) != pick(after):
                listed = stages()[name]["params"]
                assert any(".".join(path).startswith(key) for key in listed), f"{name}: {'.'.join(path)}"
                checked += 1
    assert checked > 50


@pytest.fixture(scope="module")
def recorded(few):
    """The finished study as ``dvc repro`` records it: every stage asks Snakemake, which has nothing to do."""
    output = few.run("dvc", "repro")
    assert not re.search(r"^(?:local)?rule \w+:", output, re.MULTILINE)
    assert output.count("Nothing to be done") == len(stages())
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
    clone.run("dvc", "pull", "--quiet")
    assert clone.planned() == []
    assert "up to date" in clone.run("dvc", "status")
    clone.change("lost: {k: 5}")
    assert "lost" in clone.planned()
    assert "extract" not in clone.planned()


def test_a_changed_value_redoes_its_phase_and_the_old_one_comes_back_without_work(recorded):
    old = recorded.contents("results/tables/*.csv")
    recorded.change("lost: {k: 5}")
    output = recorded.run("dvc", "repro")
    ran = set(re.findall(r"^(?:local)?rule (\w+):", output, re.MULTILINE))
    assert {"lost", "compare", "table"} <= ran
    assert not ran & {"prepare", "train", "plant", "extract", "detect", "ablate", "probe", "tokens"}
    for stage in ("data", "models", "features", "registers", "ablation"):
        assert f"Stage '{stage}' didn't change, skipping" in output
    assert recorded.planned() == []
    assert recorded.contents("results/tables/*.csv") != old
    recorded.run("git", "commit", "--quiet", "--all", "--message", "another k")

    recorded.run("git", "checkout", "--quiet", "HEAD~1")
    recorded.run("dvc", "checkout", "--quiet")
    assert recorded.contents("results/tables/*.csv") == old
    assert recorded.planned() == []
    assert "up to date" in recorded.run("dvc", "status")
