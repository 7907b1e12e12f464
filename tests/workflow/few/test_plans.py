"""Plans without data: what would run, and which data are missing; who executes jobs is refused."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.studies import ROOT

pytestmark = pytest.mark.pipeline
PAPERS = ["darcet2024", "jiang2025", "bach2025", "kukade2025", "parodi2026", "lappe2025"]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What Snakemake reads of the repository, without data and results."""
    folder = tmp_path_factory.mktemp("project")
    for name in ("Snakefile", "params.yaml"):
        shutil.copy(ROOT / name, folder)
    for name in ("params", "workflow", "src", "report"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def snakemake(project: Path, paper: str, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "snakemake", "--cores", "1", "--configfile", f"params/{paper}.yaml", *options]
    return subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("paper", PAPERS)
def test_every_paper_is_planned_without_data_and_told_what_is_missing(project: Path, paper: str) -> None:
    planned = snakemake(project, paper, "-n")
    assert planned.returncode == 0, planned.stderr
    assert "rule prepare:" in planned.stdout
    missing = [line for line in planned.stderr.splitlines() if line.startswith("missing: ")]
    assert missing
    assert all(line.startswith("missing: datasets.") and "no such path 'data/raw/" in line for line in missing)
    assert not (project / "results").exists()


def test_a_run_without_data_is_refused_before_any_job(project: Path) -> None:
    refused = snakemake(project, "lappe2025")
    assert refused.returncode == 2
    errors = [line for line in refused.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert "datasets.coco.images: no such path 'data/raw/COCO/images/val2017'" in errors[0]
    assert not (project / "results").exists()


def test_a_limit_is_given_in_one_word_and_has_folders_of_its_own(project: Path) -> None:
    planned = snakemake(project, "lappe2025", "-n", "--config", "limit=8")
    assert planned.returncode == 0, planned.stderr
    assert "data/prepared/lappe2025-limit-8/coco/dataset.json" in planned.stdout
    assert "data/prepared/lappe2025/" not in planned.stdout
