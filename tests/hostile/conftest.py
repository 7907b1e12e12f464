"""The command line, called with what is wrong or means harm: how it ended, and what it left behind.

Most cases call it within this process, as starting one takes seconds; tests/hostile/test_processes.py starts real ones.
"""

import json
import re
import shutil
import stat
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from helpers.studies import ROOT
from vit_registers import cli
from vit_registers.core import ending
from vit_registers.params import reading


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.hostile)


@dataclass(frozen=True)
class Ended:
    """How a command ended: its exit status, what it printed, and what came and went below its folder."""

    status: int
    out: str
    errors: str
    left: set[str]

    def refused(self, *named: str, left: set[str] | None = None) -> None:
        """One line on stderr, with status 2, that matches all of ``named``; nothing else was done."""
        lines = self.errors.splitlines()
        assert self.status == ending.REFUSED, self.errors
        assert len(lines) == 1, self.errors
        assert lines[0].startswith("error: ")
        assert "Traceback" not in self.errors
        assert ending.UNEXPECTED not in self.errors
        for pattern in named:
            assert re.search(pattern, lines[0]), lines[0]
        assert self.left == (left or set())


Command = Callable[..., Ended]


def below(folder: Path) -> set[str]:
    """Every file below a folder with its size, and every folder; nothing is opened."""
    found = set()
    for path in folder.rglob("*"):
        status = path.lstat()
        written = status.st_mtime_ns if path.suffix != ".sha256" else ""  # checksums are put back where a step fails
        size = f" {status.st_size} {written}" if stat.S_ISREG(status.st_mode) else ""
        found.add(f"{path.relative_to(folder)!s}{size}")
    return found


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """``vit-registers`` with some arguments, in a folder of its own (``tmp_path``)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(ending.DEBUG, raising=False)

    def called(*arguments: str) -> Ended:
        monkeypatch.setattr(sys, "argv", ["vit-registers", *arguments])
        before = below(tmp_path)
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            cli.main()
        told = capsys.readouterr()
        return Ended(int(end.value.code or 0), told.out, told.err, below(tmp_path) ^ before)

    return called


@pytest.fixture(scope="session")
def content() -> dict[str, Any]:
    """The params of the smoke study."""
    return reading.overlay(reading.read_yaml(ROOT / "params.yaml"), reading.read_yaml(ROOT / "params/smoke.yaml"))


@pytest.fixture
def base(tmp_path: Path, content: dict[str, Any]) -> Path:
    """The same as a file, in JSON, which is read in no time."""
    path = tmp_path / "base.json"
    path.write_text(json.dumps(content))
    return path


TINY: dict[str, Any] = {
    "study": {
        "name": "tiny",
        "title": "tiny",
        "trainings": [],
        "detections": [],
        "comparisons": [],
        "runs": [
            {
                "dataset": "shapes",
                "models": ["vit-r0"],
                "interventions": ["append-1", "mean-cls"],
                "heads": "none",
                "experiments": ["overview", "object_discovery", "register_neurons", "emergence", "training_energy"],
            }
        ],
    },
    "datasets": {"shapes": {"train": 120, "test": 40, "size": 32, "pairs": 0, "classes": "count"}},
    "recipes": {
        "small": {
            "architecture": {"image_size": 32, "patch_size": 8, "width": 16, "depth": 2, "heads": 2},
            "epochs": 1,
            "checkpoint_steps": 2,
            "monitored_images": 10,
        }
    },
    "extraction": {
        "dense_images": 20, "train_dense_images": 0, "projections": {"k": [-1]}, "pairs": 0, "sink_images": 0,
        "cls_blocks": 1, "cls_parts": False,
    },
    "calibration": {"images": 20, "resample_sources": 4},
    "detection": {"images": 20, "bootstrap": 5},
    "statistics": {"resamples": 50},
    "gallery": {"images": 2},
    "experiments": {"object_discovery": {"sweep": None}},
}  # fmt: skip
STEPS = [
    ["prepare", "--dataset", "shapes"],
    ["train", "--model", "vit-r0"],
    *([step, "--dataset", "shapes", "--model", "vit-r0"] for step in ("extract", "detect", "calibrate", "ablate")),
    ["object-discovery", "--dataset", "shapes", "--model", "vit-r0"],
    ["register-neurons", "--model", "vit-r0"],
    ["emergence", "--model", "vit-r0"],
    ["training-energy"],
    *(["collect", measure] for measure in ("object_discovery", "register_neurons", "emergence", "training_energy")),
    ["summarise"],
]


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, content: dict[str, Any]) -> Path:
    """A folder with a whole study of one model, as the command line makes it step by step."""
    folder = tmp_path_factory.mktemp("finished")
    kept = TINY["study"]["runs"][0]["experiments"]
    off = {"experiments": {name: None for name in content["experiments"] if name not in kept}}
    tiny = reading.overlay(reading.overlay(content, TINY), off)
    (folder / "params.json").write_text(json.dumps(tiny))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for step in STEPS:
            patch.setattr(sys, "argv", ["vit-registers", *step, "--params", "params.json"])
            with pytest.raises(SystemExit) as end:
                cli.main()
            assert end.value.code == 0, step
    return folder


@pytest.fixture
def study(finished: Path, tmp_path: Path) -> Path:
    """A copy of that study, to damage."""
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    return tmp_path
