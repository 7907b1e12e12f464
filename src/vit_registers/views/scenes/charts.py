"""Vega-Lite specifications: what scenes' charts share. One specification serves the page and the printed figure."""

from collections.abc import Iterable, Mapping
from typing import Any

import altair as alt

VEGA_LITE = ".".join(
    alt.SCHEMA_VERSION.removeprefix("v").split(".")[:2]
)  # what altair writes and the page's bundle reads


def inline(rows: Iterable[Mapping[str, Any]]) -> alt.InlineData:
    """Rows as the data of a chart, in the specification itself."""
    return alt.InlineData(values=[dict(row) for row in rows])


def choice(name: str, value: str | int) -> alt.Parameter:
    """A signal that a control of the page sets, with what it is at first."""
    return alt.param(name=name, value=value)
