import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from helpers.studies import ROOT, load, only, results, study_of
from vit_registers.params.study import Params
from vit_registers.report import build, numbers, text, versions
from vit_registers.report.facts import facts

SOURCE = (ROOT / "report" / "report.tex").read_text()
BODY = re.sub(r"(?<!\\)%.*", "", SOURCE[SOURCE.index(r"\begin{document}") :])
ONE = {"dataset": "shapes", "models": ["vit-r0"], "interventions": []}
TEX = pytest.mark.skipif(shutil.which("latexmk") is None, reason="TeX is not installed")


def test_every_macro_of_the_frame_is_made_and_every_one_made_is_used(tmp_path: Path) -> None:
    params = load("embedded")
    study, at = study_of(params), results(params, tmp_path)
    made = re.findall(r"\\newcommand{\\(\w+)}", numbers.text(params, study, "") + versions.text(study, at))
    used = set(re.findall(r"\\([A-Z][A-Za-z]+)\b", SOURCE)) - {"AtBeginDocument", "DeclareRobustCommand"}
    assert used == set(made)


def test_every_condition_of_the_frame_is_a_fact() -> None:
    conditions = set(re.findall(r"\\if(\w+)", BODY))
    assert conditions <= {name for name, holds in facts(load("embedded")).items() if isinstance(holds, bool)}
    assert len(re.findall(r"\\if\w+", BODY)) == len(re.findall(r"\\fi\b", BODY))


def test_no_number_is_typed_by_hand() -> None:
    names = r"DINOv\d|DeiT-III|SHA-256"
    commands = r"\\(?:citet?p?|label|ref|seetable|seefigure|bibliography)\b(?:\{[^}]*\})?"
    prose = re.sub(f"{commands}|{names}", "", BODY)
    assert re.findall(r"[^\n]*(?<!#)\d[^\n]*", prose) == []


def _typeset(params: Params, root: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, str]:
    """The PDF, and TeX's log of a run by hand in a copy of report/."""
    at = results(params, root)
    text.run(params, at)
    build.run(ROOT / "report", at.results, at.report)
    copy = root / "report"
    shutil.copytree(ROOT / "report", copy)
    monkeypatch.setenv("VIT_REGISTERS_RESULTS", f"../results/{params.study.name}")
    done = subprocess.run(
        ["latexmk", "-quiet", "report.tex"], cwd=copy, capture_output=True, text=True, errors="replace"
    )
    assert done.returncode == 0, done.stderr
    assert (copy / "report.pdf").read_bytes() == (at.report / "report.pdf").read_bytes()
    return at.report / "report.pdf", (copy / "report.log").read_text(errors="replace")


@pytest.mark.slow
@TEX
@pytest.mark.parametrize(
    ("name", "change"),
    [("embedded", {}), ("embedded", only({"runs": [ONE]})), ("extended", {})],
    ids=["embedded", "one model", "extended"],
)
def test_the_report_is_typeset_without_an_open_reference(
    name: str, change: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pdf, log = _typeset(load(name, change), tmp_path, monkeypatch)
    assert pdf.read_bytes().startswith(b"%PDF")
    assert not re.findall(r"Warning: (?:Reference|Citation).*undefined|multiply defined", log)
    assert not re.findall(r"Overfull \\hbox \((?:[1-9]\d{2,})", log)  # nothing runs out of the page
    pages = build.body_pages((tmp_path / "report" / "report.aux").read_text())
    assert pages is not None
    assert 2 <= pages <= build.BODY


@pytest.mark.slow
@TEX
def test_a_table_that_a_study_leaves_out_is_named_where_it_is_referred_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With one experiment alone, the frame refers to tables of others."""
    params = load("embedded")
    off = {name: None for name in params.experiment_names if name != "register_neurons"}
    alone = params.model_copy(update={"experiments": params.experiments.model_copy(update=off)})
    _, log = _typeset(alone, tmp_path, monkeypatch)
    assert "undefined" not in re.sub(r"Font.*undefined", "", log)
