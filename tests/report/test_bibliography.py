from pathlib import Path

import pytest

from vit_registers.report.bibliography import Paper, cite, papers

ROOT = Path(__file__).parents[2]
KNOWN = [Paper("one2024", "One et al.", "2024"), Paper("two2025", "Two and Three", "2025"), Paper("timm", "W", "2019")]


def test_authors_and_years_of_the_references() -> None:
    found = {paper.key: (paper.authors, paper.year) for paper in papers(ROOT / "report" / "references.bib")}
    assert found["darcet2024"] == ("Darcet et al.", "2024")
    assert found["kukade2025"] == ("Kukade and Bansal", "2025")
    assert found["simeoni2021"] == ("Simeoni et al.", "2021")
    assert found["timm"] == ("Wightman", "2019")
    assert found["fesser2026"] == ("Fesser et al.", "2026")
    assert found["scclip2024"] == ("SC-CLIP", "2024")  # its authors are not known: its key


def test_an_entry_without_a_year_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.bib").write_text("@misc{one,\n  author = {A One},\n  title = {T}\n}\n")
    with pytest.raises(ValueError, match="one lacks its authors or its year"):
        papers(tmp_path / "a.bib")


@pytest.mark.parametrize(
    ("text", "plain", "latex"),
    [
        ("As one2024 finds.", "As One et al. (2024) finds.", r"As \citet{one2024} finds."),
        ("True (one2024).", "True (One et al., 2024).", r"True \citep{one2024}."),
        (
            "True (one2024, two2025).",
            "True (One et al., 2024; Two and Three, 2025).",
            r"True \citep{one2024,two2025}.",
        ),
        ("(see one2024)", "(see One et al. (2024))", r"(see \citet{one2024})"),
        ("timm, someone2024", "timm, someone2024", "timm, someone2024"),
    ],
)
def test_keys_become_citations(text: str, plain: str, latex: str) -> None:
    assert cite(text, KNOWN, latex=False) == plain
    assert cite(text, KNOWN, latex=True) == latex


def test_a_text_without_known_papers_stays() -> None:
    assert cite("As one2024 finds (a, b).", [], latex=True) == "As one2024 finds (a, b)."
