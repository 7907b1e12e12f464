"""Jinja2 as the report uses it: prose that people edit, into which values of params and numbers are filled."""

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import jinja2

from vit_registers.core import prose
from vit_registers.views import latex_text
from vit_registers.views.study import Estimate

PROJECTIONS = {"q": "queries", "k": "keys", "v": "values"}


def _yesno(value: bool, yes: str, no: str) -> str:
    return yes if value else no


def _share(cell: Estimate, decimals: int = 1) -> str:
    """A share in percent with its interval; ``not measured`` where there is none."""
    if cell.value is None:
        return "not measured"
    text = latex_text.estimate(cell, decimals=decimals)
    return text.replace(" [", r"\,\% [", 1) if " [" in text else text + r"\,\%"


def _alone(cell: Estimate) -> str:
    """A share in percent without its interval, for an abstract; the body has it."""
    return _share(replace(cell, low=None, high=None))


def _points(cell: Estimate) -> str:
    """A difference of shares in percentage points, with its interval and its p-value."""
    shown = cell.p_shown
    p = "" if shown is None else f", $p = {latex_text.probability(shown)}$".replace("= $<$", "< ")
    return f"{latex_text.estimate(cell, signed=True)} points{p}"


def _threshold(settings: Any) -> str:
    """In words, what a patch norm has to exceed to be an outlier by some settings of detection."""
    anywhere = settings.outlier_layer == "any"
    where = "the output of the block that decides" if anywhere else prose.block(settings.outlier_layer)
    number = f"{settings.threshold:g}"
    return {
        "ratio": f"{number} times the median patch norm at {where}, which is taken over all images together",
        "absolute": f"{number} at {where}",
        "percentile": f"the {number}th percentile of all patch norms at {where}",
        "bimodal": f"the valley between the two modes of the logarithmic patch norms at {where}, if Ashman's $D$ "
        f"between the modes is at least {number}",
    }[settings.threshold_rule]


@cache
def _latex() -> jinja2.Environment:
    """``<< value >>``, ``<% if %>`` and ``<# comment #>``: LaTeX has its own use for braces."""
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
        "share": _share,
        "alone": _alone,
        "points": _points,
        "probability": latex_text.probability,
        "projection": lambda name: PROJECTIONS[name],
        "yesno": _yesno,
        "threshold": _threshold,
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
