"""The papers of ``report/references.bib``: their keys, and what a caption calls them where there is no LaTeX."""

import re
from dataclasses import dataclass
from pathlib import Path

REFERENCES = Path("report") / "references.bib"
_ACCENT = re.compile(r"\{?\\['\"`^~]\{?(\w)\}?\}?")  # {\'e}, \'e and \"{o}


@dataclass(frozen=True)
class Paper:
    """One entry: ``authors`` as text calls them (``Darcet et al.``) and the year.

    What names no authors (software, a paper known by its arXiv number) is called by its ``key``, as BibTeX does.
    """

    key: str
    authors: str
    year: str


def papers(bibliography: Path = REFERENCES) -> list[Paper]:
    """The papers of a BibTeX file, in its order."""
    found = []
    for entry in re.split(r"^@\w+\{", bibliography.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]:
        year = re.search(r"year\s*=\s*\{(\d+)\}", entry)
        authors = re.search(r"author\s*=\s*\{(.*?)\}\s*,\s*\n\s*\w+\s*=", entry, flags=re.DOTALL)
        named = re.search(r"^\s*key\s*=\s*\{(.+)\}", entry, flags=re.MULTILINE)
        if year is None or (authors is None and named is None):
            raise ValueError(f"{bibliography}: {entry.split(',')[0]} lacks its authors or its year")
        by = _named(authors[1]) if authors else named[1]  # type: ignore[index]
        found.append(Paper(entry.split(",")[0], by, year[1]))
    return found


def _named(authors: str) -> str:
    """``Darcet et al.``, ``Kukade and Bansal``: family names, of more than two authors the first."""
    families = [_ACCENT.sub(r"\1", name).split()[-1] for name in re.split(r"\s+and\s+", authors)]
    return f"{families[0]} et al." if len(families) > 2 else " and ".join(families)


def cite(text: str, known: list[Paper], latex: bool) -> str:
    """``text`` with citations in place of the keys of papers, as far as these end in a year (``timm`` is a word).

    A key by itself is the subject of a sentence, ``Darcet et al. (2024)``. Keys in brackets, ``(darcet2024,
    bach2025)``, become a citation in brackets, ``(Darcet et al., 2024; Bach et al., 2025)``. In LaTeX these are
    ``\\citet`` and ``\\citep``.
    """
    by_key = {paper.key: paper for paper in known if paper.key.endswith(paper.year)}
    key = "|".join(map(re.escape, by_key)) or "(?!)"

    def bracketed(keys: list[str]) -> str:
        if latex:
            return rf"\citep{{{','.join(keys)}}}"
        return f"({'; '.join(f'{by_key[name].authors}, {by_key[name].year}' for name in keys)})"

    def subject(match: re.Match[str]) -> str:
        return rf"\citet{{{match[0]}}}" if latex else f"{by_key[match[0]].authors} ({by_key[match[0]].year})"

    parts = re.split(rf"\(((?:{key})(?:, (?:{key}))*)\)", text)  # every other part is what stood in brackets
    written = [
        bracketed(part.split(", ")) if i % 2 else re.sub(rf"\b(?:{key})\b", subject, part)
        for i, part in enumerate(parts)
    ]
    return "".join(written)
