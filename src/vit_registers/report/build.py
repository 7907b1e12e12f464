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
_FITTED = re.compile(r"\bfitted (?:\w+/)*(\w+): ([\d.]+)pt of ([\d.]+)pt, ([\d.]+)pt of ([\d.]+)pt, at ([\d.]+)")
_BODY = re.compile(r"\\newlabel\{body:end\}\{\{[^}]*\}\{(\d+)\}")
LEGIBLE = 7.0  # points on paper: what the type of a table or a figure may shrink to
BODY = 12  # pages of the report before its appendix
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
    """What a TeX log says does not fit: tables that reach into the margin, and what was shrunk to illegible."""
    found, last = {}, ""
    for line in text.splitlines():
        last = (_FILE.findall(line) or [last])[-1]
        if (match := _OVERFULL.match(line)) and float(match[1]) > BEYOND:
            found["table " + last.partition("/")[2]] = f"reaches {float(match[1]):.0f} pt into the margin"
        if match := _FITTED.search(line):
            width, wide, height, high, points = map(float, match.groups()[1:])
            printed = points * min(1.0, wide / max(width, 1.0), high / max(height, 1.0))
            if printed < LEGIBLE - 0.05:  # what is wider by a hair is not shrunk visibly
                found[match[1]] = f"is printed in type of {printed:.1f} pt"
    return [f"{name} {what}" for name, what in found.items()]


def body_pages(aux: str) -> int | None:
    """Pages before the references and the appendix, as TeX's .aux file tells; None where its source marks no end."""
    found = _BODY.search(aux)
    return int(found[1]) if found else None


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
        aux = Path(scratch) / "report.aux"
        pages = body_pages(aux.read_text(encoding="utf-8", errors="replace") if aux.is_file() else "")
        if pages is not None:
            log.info("%s: %d pages before the appendix", source, pages)
            if pages > BODY:
                log.warning("%s: %d pages before the appendix, not %d; see View.place", source, pages, BODY)
        with replacing(out / "report.pdf") as temporary:
            shutil.copyfile(made, temporary)
