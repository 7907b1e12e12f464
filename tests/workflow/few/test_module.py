"""The workflow as a module of another: its config is handed over, its rules get other names."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from helpers.studies import ROOT
from vit_registers.params import reading

pytestmark = [pytest.mark.pipeline, pytest.mark.long]
SNAKEFILE = f"""
configfile: "config/registers.yaml"


module vit_registers:
    snakefile:
        "{ROOT}/Snakefile"
    config:
        config


use rule * from vit_registers as registers_*


rule ours:
    default_target: True
    input:
        "results/ours/table.csv",
    output:
        "done.txt",
    shell:
        "touch {{output}}"
"""


@pytest.fixture
def outer(tmp_path: Path) -> Path:
    """A project of somebody else: a Snakefile, all of params as its config, and the frame of the report."""
    (tmp_path / "config").mkdir()
    (tmp_path / "Snakefile").write_text(SNAKEFILE)
    shutil.copytree(ROOT / "report", tmp_path / "report")
    content = reading.overlay(reading.read_yaml(ROOT / "params.yaml"), reading.read_yaml(ROOT / "params/smoke.yaml"))
    content = reading.overlay(content, {"study": {"name": "ours"}})
    (tmp_path / "config/registers.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    return tmp_path


def planned(outer: Path, *targets: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    command = [sys.executable, "-m", "snakemake", "-n", "--cores", "1", *targets]
    return subprocess.run(command, cwd=outer, env=environment, capture_output=True, text=True, check=False)


def test_the_workflow_is_planned_as_a_module(outer: Path) -> None:
    done = planned(outer)
    assert done.returncode == 0, done.stdout + done.stderr
    rules = set(re.findall(r"^(?:local)?rule (\w+):", done.stdout, re.MULTILINE))
    assert {"ours", "registers_prepare", "registers_train", "registers_extract", "registers_summarise"} <= rules
    assert all(rule == "ours" or rule.startswith("registers_") for rule in rules)
    everything = planned(outer, "registers_all")
    assert everything.returncode == 0, everything.stdout + everything.stderr
    assert {"registers_table", "registers_figure", "registers_report_text"} <= set(
        re.findall(r"^(?:local)?rule (\w+):", everything.stdout, re.MULTILINE)
    )
    assert not (outer / "results").exists()


def test_what_is_wrong_in_the_config_that_is_handed_over_is_named(outer: Path) -> None:
    config = outer / "config/registers.yaml"
    config.write_text(config.read_text().replace("seed: 0", "sed: 0", 1))
    refused = planned(outer)
    assert refused.returncode == 2
    assert "error: config/registers.yaml: " in refused.stderr
