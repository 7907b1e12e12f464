"""The abstract: what was done, then as many findings as its words allow, those of most weight first."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vit_registers.report.templates import latex

HERE = Path(__file__).parent
WORDS = 200  # of an abstract
_SPACES = re.compile(r"\\[, ]|~|--")
_COMMANDS = re.compile(r"\\[A-Za-z]+\*?|[{}$]")


def words(text: str) -> int:
    """How many words LaTeX prints of a text: what stands between spaces, a number and its unit apart."""
    return len(_COMMANDS.sub("", _SPACES.sub(" ", text)).split())


def sentences(rendered: str) -> list[str]:
    """The sentences of a template, which blank lines part, each on one line and without spaces that conditions left."""
    found = [" ".join(part.split()) for part in re.split(r"\n\s*\n", rendered)]
    return [re.sub(r"\s+([,;:.)])", r"\1", sentence) for sentence in found if sentence]


def written(findings: Sequence[Sequence[str]], **scope: Any) -> str:
    """The abstract of at most :data:`WORDS` words in LaTeX, about models and data in ``scope``.

    ``findings``: sentences of each subject, that of most weight first. The first of every subject go before all second
    ones; what would make the abstract too long is left out. They stand in the order of the subjects.
    """
    left = WORDS - words(_filled("", scope))
    taken: set[tuple[int, int]] = set()
    for rank in range(max(map(len, findings), default=0)):
        for subject, mine in enumerate(findings):
            if rank < len(mine) and words(mine[rank]) <= left:
                left -= words(mine[rank])
                taken.add((subject, rank))
    return _filled(" ".join(findings[subject][rank] for subject, rank in sorted(taken)), scope)


def _filled(findings: str, scope: dict[str, Any]) -> str:
    return " ".join(sentences(latex(HERE / "abstract.tex.j2", findings=findings, **scope)))
