import ast
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from vit_registers.pipeline import digest as closure

STEPS = [
    "data.prepare",
    "backbones.fetch",
    "backbones.train",
    "backbones.planting",
    "backbones.resize",
    "forward.extract",
    "registers.detect",
    "readouts.tokens",
    "readouts.probe",
    "readouts.corloc",
    "readouts.dense",
    "readouts.zero_shot",
    "readouts.compare",
    "readouts.collect",
    "report.tables",
    "report.figures",
    "report.latex",
    "report.build",
]
FLOORS = {"data": 0, "backbones": 1, "forward": 2, "registers": 3, "readouts": 3, "report": 4}


def copy_with(tmp_path: Path, file: str, edit) -> str:
    """Digest of readouts.corloc and of backbones.train in a copy of the package in which ``file`` was edited."""
    package = tmp_path / "vit_registers"
    shutil.copytree(closure.ROOT, package, ignore=shutil.ignore_patterns("__pycache__"))
    path = package / file
    path.write_text(edit(path.read_text()))
    code = (
        "from vit_registers.pipeline.digest import code\n"
        "print(code('vit_registers.experiments.object_discovery.measure'), code('vit_registers.training.loop'))"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    shutil.rmtree(package)
    return run.stdout.split()


def test_comments_docstrings_and_layout_change_nothing_and_code_changes_what_runs_it(tmp_path):
    unchanged = copy_with(tmp_path, "readouts/lost.py", lambda text: text)
    comment = copy_with(
        tmp_path, "readouts/lost.py", lambda text: text.replace('"""', '"""Said otherwise. ', 1) + "\n# a comment\n"
    )
    assert comment == unchanged
    lost, train = copy_with(tmp_path, "readouts/lost.py", lambda text: text + "\nEDITED = True\n")
    assert lost != unchanged[0]
    assert train == unchanged[1]
    lost, train = copy_with(tmp_path, "files.py", lambda text: text + "\nEDITED = True\n")
    assert lost != unchanged[0]
    assert train != unchanged[1]


@pytest.mark.parametrize("step", STEPS)
def test_every_step_has_its_own_module_and_a_stable_digest(step):
    names = [str(path.relative_to(closure.ROOT)) for path in closure.files(f"vit_registers.{step}")]
    assert f"{step.replace('.', '/')}.py" in names
    assert "cli.py" not in names
    assert len(closure.code(f"vit_registers.{step}")) == 16


def test_imports_are_absolute_and_follow_the_data():
    for path in closure.ROOT.rglob("*.py"):
        folder = path.relative_to(closure.ROOT).parts[0]
        for node in ast.walk(ast.parse(path.read_text())):
            assert not (isinstance(node, ast.ImportFrom) and node.level), f"{path}: relative import"
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            for name in names:
                parts = name.split(".")
                if parts[0] != "vit_registers" or folder not in FLOORS or len(parts) < 2 or parts[1] not in FLOORS:
                    continue
                assert parts[1] == folder or FLOORS[parts[1]] < FLOORS[folder], f"{path} imports {name}"


def test_the_command_line_tables_and_figures_start_without_torch():
    code = (
        "import sys, vit_registers.cli, vit_registers.views.tables, vit_registers.views.figures\n"
        "import vit_registers.report.numbers, vit_registers.report.build, vit_registers.experiments.comparisons.measure\n"
        "import vit_registers.experiments.object_discovery.measure, vit_registers.experiments.token_statistics.measure\n"
        "print(sorted({'torch', 'timm', 'open_clip'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
