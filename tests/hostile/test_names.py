"""Names, titles and licences that mean something to LaTeX or to a browser: both show them as text."""

import re
from typing import Any

from helpers.studies import ROOT, load, results
from vit_registers.core.prose import escape, key, rst
from vit_registers.pipeline import experiment
from vit_registers.report import text
from vit_registers.report.facts import caption, latex_caption

EVIL = r"\input{/etc/passwd} \write18{touch ran} $x$ %{ }#&_^~ ^^5cinput --> <script>alert(1)</script> `x <javascript:a>`_ {x}"
COMMANDS = (r"\input{/etc", r"\write18{", r"$x$", "%{")


def hostile() -> dict[str, Any]:
    return {
        "study": {"title": EVIL + "\n\n\x07 naïve 中文"},
        "datasets": {"mine": {"kind": "folder", "path": EVIL, "licence": EVIL}},
        "experiments": {"zero_shot": {"templates": ["a {} of " + r"\input{/etc/passwd}"]}},
    }


def test_latex_prints_what_it_is_given():
    written = escape(EVIL + key(EVIL))
    for command in COMMANDS:
        assert command not in written
    assert not re.search(r"(?<!\\)[%#&_]", escape("%#&_"))
    assert escape("a\nb\tc") == "a b c"
    assert escape("中") == r"\texttt{U+4E2D}"
    assert escape("\x00") == r"\texttt{U+0000}"
    assert escape("naïve – é") == "naïve – é"


def test_the_page_of_the_report_shows_what_it_is_given():
    """docutils, of which Snakemake makes the page, finds text and nothing else in it."""
    from docutils.core import publish_doctree, publish_parts

    for given in (
        EVIL,
        "*a* **b** ``c`` |d| [e]_ f_ :g:`h`",
        ".. raw:: html\n\n   <script>",
        "1. a",
        "=====",
        "a::",
        "\\",
    ):
        line = " ".join(given.split())
        tree = publish_doctree(rst(line))
        assert tree.astext() == line
        assert {node.tagname for node in tree.findall() if node.tagname != "#text"} == {"document", "paragraph"}
        assert "<script>" not in publish_parts(rst(line), writer="html")["body"]


def test_the_report_of_a_study_with_hostile_names(tmp_path):
    params = load("embedded", hostile())
    at = results(params, tmp_path)
    text.run(params, at)
    for name in ("numbers", "methods", "results"):
        written = (at.report / f"{name}.tex").read_text()
        for command in COMMANDS[:2]:
            assert command not in written, name
        assert "\x07" not in written
        assert "中" not in written


def test_captions_of_every_view_are_text():
    params = load("embedded", hostile())
    for found, view in (*experiment.tables().values(), *experiment.figures().values()):
        if found.name in params.experiment_names:
            assert "\n" not in caption(params, found, view)
            assert r"\input{/etc" not in latex_caption(params, found, view)


def test_tex_runs_no_shell():
    assert "-no-shell-escape" in (ROOT / "report/latexmkrc").read_text()
