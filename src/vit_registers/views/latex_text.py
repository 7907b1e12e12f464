"""Estimates as LaTeX prints them."""

from vit_registers.views.study import Estimate

SHARES = {"share", "fraction", "overlap", "accuracy"}  # first words of units that are printed in percent
WHOLE = {"block", "layer", "count"}
ABSENT = "--"


def number(value: float, unit: str, signed: bool = False, decimals: int = 1) -> str:
    """A value as it is read: shares in percent with ``decimals``, anything else with three significant digits."""
    sign = "+" if signed else ""
    kind = unit.split(" ")[0]
    if kind in SHARES:
        text = f"{100 * value:{sign}.{decimals}f}"
    elif kind in WHOLE:
        text = f"{value:{sign},.0f}"
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


def estimate(cell: Estimate, signed: bool = False, decimals: int = 1) -> str:
    """``value [low, high]``, or a dash where there is no number."""
    if cell.value is None:
        return ABSENT
    text = number(cell.value, cell.unit, signed, decimals)
    if cell.low is None or cell.high is None:
        return text
    low, high = (number(bound, cell.unit, signed, decimals) for bound in (cell.low, cell.high))
    return f"{text} [{low}, {high}]"
