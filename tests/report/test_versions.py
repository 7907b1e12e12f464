import subprocess
from importlib import metadata
from pathlib import Path

import pytest

from vit_registers.report import versions


def _git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=someone", "-c", "user.email=someone@example.org"]
    command = ["git", "-C", str(folder), *identity, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def test_the_commit_and_whether_files_differ_from_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert versions.code_state() == "code that is in no commit"
    _git(tmp_path, "init")
    assert versions.code_state() == "code that is in no commit"
    (tmp_path / "a").write_text("1")
    _git(tmp_path, "add", "a")
    _git(tmp_path, "commit", "-m", "first")
    commit = _git(tmp_path, "rev-parse", "HEAD")
    assert versions.code_state() == f"commit {commit[:12]}"
    (tmp_path / "a").write_text("2")
    assert versions.code_state() == f"commit {commit[:12]}, with uncommitted changes"


def test_packages_are_those_installed() -> None:
    found = dict(versions.packages())
    assert found["torch"] == metadata.version("torch")
    assert found["vit-registers"] == metadata.version("vit-registers")
    assert "Python" in found


def test_a_package_that_is_not_there_is_said_to_be_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(versions, "PACKAGES", ["no-such-package-at-all"])
    assert versions.packages()[-1] == ("no-such-package-at-all", "not installed")
