import os
import shutil
import stat
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from vit_registers.core.errors import InputError
from vit_registers.report import build

ROOT = Path(__file__).parents[2]
GOOD = r"\documentclass{article}\pdfinfoomitdate=1\pdftrailerid{}\begin{document}Text.\end{document}"
BAD = "\\documentclass{article}\n\\begin{document}\n\\undefinedhere\n\\end{document}\n"
# What latexmk does, without TeX: a PDF where the source is good, a log with an error where it is not.
STAND_IN = """#!/bin/sh
for word in "$@"; do case "$word" in -outdir=*) out="${word#-outdir=}";; esac; done
if grep -q undefinedhere report.tex; then
  printf 'noise\\n./report.tex:3: Undefined control sequence.\\nl.3 \\\\undefinedhere\\n' > "$out/report.log"
  exit 12
fi
echo "arguments: $1 $2 $3" > "$out/report.pdf"
echo "results: $VIT_REGISTERS_RESULTS" >> "$out/report.pdf"
"""


def _folder(root: Path, source: str) -> Path:
    folder = root / "report"
    folder.mkdir(parents=True)
    (folder / "report.tex").write_text(source)
    shutil.copy(ROOT / "report" / "latexmkrc", folder)
    return folder


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "bin" / "latexmk"
    program.parent.mkdir()
    program.write_text(STAND_IN)
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")


@pytest.mark.usefixtures("stand_in")
def test_only_the_pdf_is_left_behind(tmp_path: Path) -> None:
    folder = _folder(tmp_path, GOOD)
    build.run(folder, tmp_path / "results", tmp_path / "out")
    assert sorted(path.name for path in folder.iterdir()) == ["latexmkrc", "report.tex"]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["report.pdf"]
    made = (tmp_path / "out" / "report.pdf").read_text()
    assert made == f"arguments: -norc -r latexmkrc\nresults: {tmp_path}/results\n"


@pytest.mark.usefixtures("stand_in")
def test_the_first_error_of_tex_is_shown_and_the_old_pdf_stays(tmp_path: Path) -> None:
    folder = _folder(tmp_path, BAD)
    (tmp_path / "report.pdf").write_text("old")
    with pytest.raises(InputError, match=r"TeX failed: \./report\.tex:3: Undefined control sequence\. \| l\.3"):
        build.run(folder, tmp_path, tmp_path)
    assert (tmp_path / "report.pdf").read_text() == "old"


def test_without_latexmk_the_packages_to_install_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match="apt-get install latexmk texlive-latex-recommended"):
        build.run(_folder(tmp_path, GOOD), tmp_path, tmp_path)


@pytest.mark.usefixtures("stand_in")
@pytest.mark.parametrize("name", ["report.tex", "latexmkrc"])
def test_a_missing_source_is_named(name: str, tmp_path: Path) -> None:
    folder = _folder(tmp_path, GOOD)
    (folder / name).unlink()
    with pytest.raises(InputError, match=f"{name}: no such file"):
        build.run(folder, tmp_path, tmp_path)


def test_the_first_error_of_a_log() -> None:
    assert build.first_error("a\n! Emergency stop.\n<*> x\n\nmore") == "! Emergency stop. | <*> x"
    assert build.first_error("all\nis well") == ""


def test_tables_that_do_not_fit_are_named():
    log = r"""
(./results/x/tables/near.tex) (./results/x/tables/wide.tex
Overfull \hbox (41.2pt too wide) in alignment at lines 1--7
) fitted tables/small: 700.0pt of 469.7pt, 90.0pt of 596.6pt, at 8
fitted right: 500.0pt of 469.7pt, 90.0pt of 596.6pt, at 8
fitted high: 400.0pt of 469.7pt, 800.0pt of 596.6pt, at 9
fitted exact: 469.76pt of 469.75pt, 90.0pt of 596.6pt, at 7
(./results/x/tables/fine.tex
Overfull \hbox (1.4pt too wide) in alignment at lines 1--7
Overfull \hbox (90.0pt too wide) in paragraph at lines 1--7
"""
    assert build.too_wide(log) == [
        "table wide reaches 41 pt into the margin",
        "small is printed in type of 5.4 pt",
        "high is printed in type of 6.7 pt",
    ]


def test_the_pages_of_the_body_are_read_from_what_tex_left():
    aux = r"""
\newlabel{sec:limits}{{5}{8}{Limits}{section.5}{}}
\newlabel{body:end}{{5}{9}{Limits}{section.5}{}}
"""
    assert build.body_pages(aux) == 9
    assert build.body_pages("") is None


def test_typeset_by_the_tex_that_is_here_or_refused(tmp_path: Path) -> None:
    """Where there is TeX: the same bytes from two folders, and its error. Where there is none, the refusal."""
    first, second, bad = (_folder(tmp_path / name, text) for name, text in (("a", GOOD), ("b", GOOD), ("c", BAD)))
    if shutil.which("latexmk") is None:
        with pytest.raises(InputError, match="latexmk: not found"):
            build.run(first, tmp_path, tmp_path)
        return
    pdfs = [tmp_path / name / "out" / "report.pdf" for name in ("a", "b")]
    for folder, pdf in zip((first, second), pdfs, strict=True):
        build.run(folder, tmp_path, pdf.parent)
    assert pdfs[0].read_bytes().startswith(b"%PDF")
    assert pdfs[0].read_bytes() == pdfs[1].read_bytes()
    with pytest.raises(InputError, match="Undefined control sequence"):
        build.run(bad, tmp_path, tmp_path)


@pytest.mark.skipif(shutil.which("latexmk") is None, reason="TeX is not installed")
def test_tex_finds_what_the_study_wrote(tmp_path: Path) -> None:
    """Text, a table and a figure below the study's folder, which lies elsewhere."""
    study = tmp_path / "a study" / "results"
    for name in ("report/methods.tex", "tables/one.tex"):
        (study / name).parent.mkdir(parents=True, exist_ok=True)
        (study / name).write_text("Found.")
    (study / "figures").mkdir()
    Figure(figsize=(2, 1)).savefig(study / "figures" / "one.pdf")
    body = r"\input{methods}\input{tables/one}\includegraphics{figures/one}"
    source = rf"\documentclass{{article}}\usepackage{{graphicx}}\begin{{document}}{body}\end{{document}}"
    build.run(_folder(tmp_path, source), study, tmp_path / "out")
    assert (tmp_path / "out" / "report.pdf").read_bytes().startswith(b"%PDF")
