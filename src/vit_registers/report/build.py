"""The report typeset: ``report/report.tex`` with what a study wrote for it, the same bytes for the same sources."""

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from vit_registers.core.errors import InputError
from vit_registers.core.files import replacing

_ERROR = re.compile(r"^(?:!|\S+\.\w+:\d+:) ")


def first_error(log: str, lines: int = 3) -> str:
    """The first error of a TeX log with the lines that follow it, as one line; empty where there is none."""
    all_lines = log.splitlines()
    for i, line in enumerate(all_lines):
        if _ERROR.match(line):
            following = [text.strip() for text in all_lines[i : i + lines] if text.strip()]
            return " | ".join(following)
    return ""


def run(report: Path, results: Path, out: Path) -> None:
    """Typeset ``<report>/report.tex`` with latexmk to ``<out>/report.pdf``.

    TeX finds ``report/*.tex``, ``tables/*.tex`` and ``figures/*.pdf`` of the study in its folder ``results``. What it
    leaves besides the PDF goes to a temporary folder. :class:`InputError` where latexmk is not installed, a source is
    missing, or TeX fails (with its first error).
    """
    if shutil.which("latexmk") is None:
        raise InputError(
            "latexmk: not found, so the report cannot be typeset; "
            "run `apt-get install latexmk texlive-latex-recommended` and try again"
        )
    for name in ("report.tex", "latexmkrc"):
        if not (report / name).is_file():
            raise InputError(f"{report / name}: no such file; restore it from the repository")
    source = report / "report.tex"
    with tempfile.TemporaryDirectory() as scratch:
        # -norc: the study's own settings, not those of the person who runs it
        command = ["latexmk", "-norc", "-r", "latexmkrc", "-quiet", f"-outdir={scratch}", source.name]
        surroundings = os.environ | {
            "VIT_REGISTERS_RESULTS": str(results.resolve())
        }  # from which latexmkrc makes TEXINPUTS
        done = subprocess.run(command, cwd=report, env=surroundings, capture_output=True, text=True, errors="replace")
        made = Path(scratch) / "report.pdf"
        if done.returncode != 0 or not made.is_file():
            log = Path(scratch) / "report.log"
            error = first_error(log.read_text(encoding="utf-8", errors="replace")) if log.is_file() else ""
            printed = " | ".join(done.stderr.strip().splitlines()[-3:])
            raise InputError(f"{source}: TeX failed: {error or printed or 'no reason given'}")
        with replacing(out / "report.pdf") as temporary:
            shutil.copyfile(made, temporary)
