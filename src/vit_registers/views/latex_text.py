"""Estimates as LaTeX prints them."""

from vit_registers.core.table import Format
from vit_registers.views.study import Estimate

ABSENT = "--"


def number(value: float, format_: Format = "number", signed: bool = False, decimals: int = 1) -> str:
    """A value as it is read: shares in percent with ``decimals``; else with three significant digits, or as it says."""
    sign = "+" if signed else ""
    if format_ == "percent":
        text = f"{100 * value:{sign}.{decimals}f}"
    elif format_ == "whole":
        text = f"{value:{sign},.0f}"
    elif format_ == "fine":
        text = f"{value:{sign}.4f}"
    else:
        text = f"{value:{sign}#.3g}".rstrip(".") if abs(value) < 1e3 else f"{value:{sign},.0f}"
        if "e" in text:
            mantissa, exponent = text.split("e")
            text = rf"{mantissa} \times 10^{{{int(exponent)}}}"
    if not text.strip("+-0."):
        text = text.lstrip("+-")  # what rounds to zero has no sign
    return f"${text.replace(',', '{,}')}$"


def probability(p: float) -> str:
    """A p-value; below one in a thousand only that it is."""
    return "$<$0.001" if p < 0.001 else f"{p:.3f}"


def estimate(cell: Estimate, signed: bool = False, decimals: int = 1, n: str = "", stacked: bool = False) -> str:
    """``value [low, high] n``, or a dash where there is no number; ``stacked`` with the interval on a line below."""
    if cell.value is None:
        return ABSENT
    format_: Format = cell.of.format if cell.of else "number"
    text = number(cell.value, format_, signed, decimals)
    if cell.low is None or cell.high is None:
        return f"{text} {n}".strip()
    low, high = (number(bound, format_, signed, decimals) for bound in (cell.low, cell.high))
    return rf"\stacked{{{text} {n}}}{{[{low}, {high}]}}" if stacked else f"{text} [{low}, {high}] {n}".strip()
