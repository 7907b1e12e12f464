"""What made the results: versions of packages, state of the code, checksums of weights and data sets."""

import platform
import subprocess
from importlib import metadata

from vit_registers.core.files import read_json
from vit_registers.core.prose import count, escape
from vit_registers.pipeline.paths import Paths
from vit_registers.views.study import Study
from vit_registers.views.table import Column, Table

PACKAGES = [
    *("torch", "torchvision", "timm", "open_clip_torch", "safetensors", "pillow"),
    *("numpy", "pandas", "pyarrow", "scipy", "scikit-learn", "statsmodels"),
    *("matplotlib", "seaborn", "pydantic", "snakemake", "dvc"),
]


def packages() -> list[tuple[str, str]]:
    """(name, version) of Python and of every package that touches a number or a picture."""
    found = [("Python", platform.python_version())]
    for name in ["vit-registers", *PACKAGES]:
        try:
            found.append((name, metadata.version(name)))
        except metadata.PackageNotFoundError:
            found.append((name, "not installed"))
    return found


def _git(*arguments: str) -> str | None:
    """Output of a git command, None where git has no answer."""
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=True)
    except (FileNotFoundError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def code_state() -> str:
    """The commit in words, and whether files differ from it."""
    commit = _git("rev-parse", "--short=12", "--verify", "HEAD")
    if commit is None:
        return "code that is in no commit"
    dirty = _git("status", "--porcelain")
    return f"commit {commit}" + (", with uncommitted changes" if dirty else "")


def _package_table() -> str:
    """Packages in three pairs of columns."""
    found = packages()
    height = -(-len(found) // 3)
    columns = [found[i : i + height] for i in range(0, len(found), height)]
    lines = []
    for row in range(height):
        cells = [column[row] if row < len(column) else ("", "") for column in columns]
        lines.append(" & ".join(f"{escape(name)} & {escape(version)}" for name, version in cells) + r" \\")
    head = r"\begin{tabular}{@{}" + "@{\\qquad}".join(["ll"] * len(columns)) + r"@{}}"
    return "\n".join([head, r"\toprule", *lines, r"\bottomrule", r"\end{tabular}"])


def _provenance(study: Study, at: Paths) -> str:
    """Checksums of every model's weights and every data set's manifest, their first twelve digits."""
    digits = Column("sha256", "SHA-256", alignment=r">{\ttfamily}l")
    table = Table([Column("what", "Weights or manifest"), Column("made", "Source"), digits])
    for name, label in study.models.items():
        checksum = read_json(at.model(name) / "model.json")["weights"]["sha256"]
        table.add({"what": f"{label} ({name})", "made": study.plan.made[name], "sha256": checksum[:12]})
    for i, name in enumerate(dict.fromkeys(condition.dataset for condition in study.detected)):
        prepared = read_json(at.dataset(name) / "dataset.json")
        row = {"what": f"data set {name}", "made": str(prepared["source"]), "sha256": prepared["sha256"][:12]}
        table.add(row, rule=i == 0)
    return table.latex()


def text(study: Study, at: Paths) -> str:
    """LaTeX: the commit as a macro, and two tables as macros."""
    return "\n".join(
        [
            rf"\newcommand{{\CodeState}}{{{escape(code_state())}}}",
            rf"\newcommand{{\PackageCount}}{{{count(len(packages()))}}}",
            rf"\newcommand{{\PackageTable}}{{%{chr(10)}{_package_table()}}}",
            rf"\newcommand{{\ProvenanceTable}}{{%{chr(10)}{_provenance(study, at)}}}",
            "",
        ]
    )
