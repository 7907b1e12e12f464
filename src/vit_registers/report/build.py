"""The report typeset: ``report/report.tex`` with what a study wrote for it, the same bytes for the same sources."""

import logging
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from vit_registers.core.errors import InputError
from vit_registers.core.files import replacing

log = logging.getLogger(__name__)

_ERROR = re.compile(r"^(?:!|\S+\.\w+:\d+:) ")
_FILE = re.compile(r"\(\S*?((?:tables|figures)/\w+)\.\w+")
_OVERFULL = re.compile(r"^Overfull \\hbox \(([\d.]+)pt too wide\) in alignment")
_FITTED = re.compile(r"\bfitted (\w+): ([\d.]+)pt of ([\d.]+)pt")
LEGIBLE = 0.75  # of its type size: what a table may shrink to
BEYOND = 5.0  # points that a table may reach into the margin


def first_error(text: str, lines: int = 3) -> str:
    """The first error of a TeX log with the lines that follow it, as one line; empty where there is none."""
    all_lines = text.splitlines()
    for i, line in enumerate(all_lines):
        if _ERROR.match(line):
            following = [text.strip() for text in all_lines[i : i + lines] if text.strip()]
            return " | ".join(following)
    return ""


def too_wide(text: str) -> list[str]:
    """Tables that a TeX log says do not fit: such as reach into the margin, and such as were shrunk to illegible."""
    found, last = {}, ""
    for line in text.splitlines():
        last = (_FILE.findall(line) or [last])[-1]
        if (match := _OVERFULL.match(line)) and float(match[1]) > BEYOND:
            found[last.partition("/")[2]] = f"reaches {float(match[1]):.0f} pt into the margin"
        if (match := _FITTED.search(line)) and float(match[3]) < LEGIBLE * float(match[2]):
            found[match[1]] = f"is shrunk to {float(match[3]) / float(match[2]):.2f} of its size"
    return [f"table {name} {what}" for name, what in found.items()]


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
        made, told = Path(scratch) / "report.pdf", Path(scratch) / "report.log"
        text = told.read_text(encoding="utf-8", errors="replace") if told.is_file() else ""
        if done.returncode != 0 or not made.is_file():
            printed = " | ".join(done.stderr.strip().splitlines()[-3:])
            raise InputError(f"{source}: TeX failed: {first_error(text) or printed or 'no reason given'}")
        for what in too_wide(text):
            log.warning("%s: %s; print fewer columns, or stack it", source, what)
        with replacing(out / "report.pdf") as temporary:
            shutil.copyfile(made, temporary)
