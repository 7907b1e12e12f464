"""Jinja2 as the report uses it: prose that people edit, with values of params and numbers of the study in it."""

import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import jinja2

from vit_registers.core import prose
from vit_registers.views import latex_text

PROJECTIONS = {"q": "queries", "k": "keys", "v": "values"}


def _yesno(value: bool, yes: str, no: str) -> str:
    return yes if value else no


@cache
def _latex() -> jinja2.Environment:
    """``<< value >>`` and ``<% if %>``: LaTeX has its own use for braces."""
    environment = jinja2.Environment(
        variable_start_string="<<",
        variable_end_string=">>",
        block_start_string="<%",
        block_end_string="%>",
        comment_start_string="<#",
        comment_end_string="#>",
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {
        "escape": prose.escape,
        "key": prose.key,
        "count": prose.count,
        "plural": prose.plural,
        "joined": prose.joined,
        "setting": prose.setting,
        "percent": prose.percent,
        "block": prose.block,
        "estimate": latex_text.estimate,
        "probability": latex_text.probability,
        "projection": lambda name: PROJECTIONS[name],
        "yesno": _yesno,
    }
    return environment


def latex(path: Path, **context: Any) -> str:
    """A template of LaTeX (``*.tex.j2``) with values filled in; a name that is not there is an error."""
    return _latex().from_string(path.read_text(encoding="utf-8")).render(**context)


@cache
def _plain() -> jinja2.Environment:
    return jinja2.Environment(undefined=jinja2.StrictUndefined)


def plain(text: str, **context: Any) -> str:
    """A caption with values filled in, in plain text on one line."""
    return " ".join(_plain().from_string(text).render(**context).split())


def as_latex(caption: str, citations: Sequence[str]) -> str:
    """A caption in plain text as LaTeX; keys of papers become citations."""
    escaped = prose.escape(caption)
    for key in citations:
        escaped = re.sub(rf"\b{re.escape(key)}\b", rf"\\citet{{{key}}}", escaped)
    return escaped
