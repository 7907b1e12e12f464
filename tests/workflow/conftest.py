"""Whole pipelines on the smoke study, each in a copy of the repository of its own."""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import pytest
import yaml

from vit_registers.params import reading
from vit_registers.pipeline import experiment

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
# Every kind of step, on one model that a trained one and a tagged one are made for; one experiment with a measure of
# the model itself, and those that show and compare what it measures. All others are off.
FEW = """
study:
  runs: [{dataset: shapes, models: [planted], interventions: [append-4, ttr-4]}]
  detections: []
  comparisons: [{question: registers against zero tokens, a: planted/ttr-4, b: planted/append-4}]
"""
KEPT = ("overview", "object_discovery", "test_time_registers", "comparisons")


@dataclass(frozen=True)
class Project:
    """A copy of the repository whose own source is what runs in it."""

    path: Path

    @property
    def results(self) -> Path:
        """Results of the study that params.yaml names."""
        return self.path / "results" / str(reading.read_yaml(self.path / "params.yaml")["study"]["name"])

    @property
    def environment(self) -> dict[str, str]:
        clean = {key: value for key, value in os.environ.items() if not key.startswith(("SNAKEMAKE", "GIT_"))}
        identity = {
            f"GIT_{who}_{what}": "test@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")
        }
        identity |= {"GIT_AUTHOR_DATE": "2026-01-01T00:00:00Z", "GIT_COMMITTER_DATE": "2026-01-01T00:00:00Z"}
        paths = {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(self.path / "src")}
        return {**clean, **identity, **paths, "DVC_NO_ANALYTICS": "1"}

    def start(self, *command: str, output: int | IO[str] = subprocess.PIPE) -> subprocess.Popen[str]:
        """A process in a group of its own, so that a test can kill it with its children.

        A pipe that nobody reads holds up who writes more than it takes: long runs that are watched need a file.
        """
        pipes = {"stdout": output, "stderr": subprocess.STDOUT, "text": True}
        return subprocess.Popen(command, cwd=self.path, env=self.environment, start_new_session=True, **pipes)

    def run(self, *command: str, status: int | None = 0) -> str:
        """Output of a command that must end with ``status`` (None: anything but 0)."""
        process = self.start(*command)
        output = process.communicate()[0]
        wrong = process.returncode == 0 if status is None else process.returncode != status
        assert not wrong, f"{' '.join(command)} ended with {process.returncode}:\n{output[-5000:]}"
        return output

    def snakemake(self, *arguments: str, status: int | None = 0) -> str:
        return self.run("snakemake", *arguments, status=status)

    def planned(self, *targets: str) -> list[str]:
        """Rules that a run would execute, one entry per job, sorted; empty where there is nothing to do."""
        output = self.snakemake("-n", *targets)
        rules = sorted(re.findall(r"^(?:local)?rule (\w+):", output, re.MULTILINE))
        assert rules or "Nothing to be done" in output, output
        return rules

    def change(self, text: str) -> None:
        """Overlay ``text`` on params.yaml."""
        path = self.path / "params.yaml"
        path.write_text(yaml.safe_dump(reading.overlay(reading.read_yaml(path), yaml.safe_load(text)), sort_keys=False))

    def keep_few(self) -> None:
        """Every kind of step once, for what is run again and again."""
        off = {name: None for name in experiment.found() if name not in KEPT}
        self.change(FEW)
        self.change(yaml.safe_dump({"experiments": off}))
        self.run("git", "commit", "--quiet", "--all", "--message", "few")

    def contents(self, *patterns: str) -> dict[str, bytes]:
        """Bytes of produced files by relative path."""
        found = [path for pattern in patterns for path in self.path.glob(pattern) if path.is_file()]
        return {str(path.relative_to(self.path)): path.read_bytes() for path in sorted(found)}


def copied(path: Path) -> Project:
    """Tracked files, and new ones that git does not ignore."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    ).stdout
    for name in filter(None, listed.decode().split("\0")):
        if (ROOT / name).is_file():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, path / name, follow_symlinks=False)
    return Project(path)


def copy_repository(path: Path) -> Project:
    """The repository with the smoke study as params.yaml."""
    project = copied(path)
    project.change((ROOT / "params" / "smoke.yaml").read_text())
    shutil.rmtree(path / "studies" / "smoke")  # DVC refuses outputs that two files name: here it is the study itself
    project.run("git", "init", "--quiet")
    project.run("git", "add", "--all")
    project.run("git", "commit", "--quiet", "--message", "smoke")
    return project


@pytest.fixture
def repository(tmp_path) -> Project:
    """The repository as it is, with the embedded study as params.yaml and no history."""
    return copied(tmp_path / "study")


@pytest.fixture
def fresh(tmp_path) -> Project:
    """The repository before anything ran."""
    return copy_repository(tmp_path / "study")


@pytest.fixture(scope="session")
def few(tmp_path_factory) -> Project:
    """A finished study of few models. Tests that change it put it back."""
    project = copy_repository(tmp_path_factory.mktemp("few") / "study")
    project.keep_few()
    project.snakemake("--cores", "2")
    return project


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> Project:
    """The smoke study, run once from nothing to the report on two cores. Tests that change it put it back."""
    project = copy_repository(tmp_path_factory.mktemp("finished") / "study")
    project.snakemake("--cores", "2")
    return project
