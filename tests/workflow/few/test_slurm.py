"""The small study on a cluster of one node, its extraction in shards: what a run in one folder gives, byte for byte."""

import importlib.util
import os
import sys
from pathlib import Path

import pytest

from helpers.servers import slurm

pytestmark = [pytest.mark.pipeline, pytest.mark.long]
BIN = Path(sys.executable).parent
PLUGIN = "snakemake_executor_plugin_slurm"
PRODUCED = (
    "results/*/features/baseline/**/*",
    "results/*/features/ablated/**/*",
    "results/*/tables/*",
    "results/*/table.csv",
)


@pytest.fixture
def cluster(tmp_path):
    """Environment of the commands of a cluster."""
    reason = slurm.missing()
    if reason is None and importlib.util.find_spec(PLUGIN) is None:
        reason = "pip install snakemake-executor-plugin-slurm"
    if reason:
        pytest.skip(reason)
    folder = tmp_path / "slurm"
    folder.mkdir()
    with slurm.running(folder) as environment:
        yield environment


def contents(project):
    """What was made, but locks and what Snakemake notes in folders."""
    found = project.contents(*PRODUCED)
    return {name: content for name, content in found.items() if not name.rpartition("/")[2].startswith(".")}


def test_a_study_on_a_cluster_in_shards_is_that_of_one_folder(few, fresh, cluster, monkeypatch):
    fresh.keep_few()
    fresh.change("extraction: {shards: 2}")
    paths = [fresh.environment["PYTHONPATH"], str(Path(importlib.util.find_spec(PLUGIN).origin).parents[1])]
    path = os.pathsep.join([str(BIN), cluster.get("PATH", os.environ["PATH"])])
    environment = {**fresh.environment, **cluster, "PATH": path, "PYTHONPATH": os.pathsep.join(paths)}
    monkeypatch.setattr(type(fresh), "environment", property(lambda project: environment))
    output = fresh.snakemake("--profile", "profiles/slurm", "--slurm-init-seconds-before-status-checks", "5")
    assert output.count("has been submitted with SLURM jobid") > 20
    for rule in ("extract_shard", "extract_join", "ablate_shard", "ablate_join"):
        assert f"rule {rule}:" in output, rule
    assert not list(fresh.results.glob("features/unfinished/*/*/*/*"))
    assert fresh.planned() == []
    for measured in few.path.glob("results/*/models/*/time.json"):  # all that may differ
        (fresh.path / measured.relative_to(few.path)).write_bytes(measured.read_bytes())
    fresh.snakemake("--cores", "2")
    ours, theirs = contents(fresh), contents(few)
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if ours[name] != theirs[name]] == []
