"""Numbers and lists as the sentences of the report say them."""

from collections.abc import Sequence


def joined(items: Sequence[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    return items[0] if len(items) == 1 else ", ".join(items[:-1]) + f" and {items[-1]}"


def setting(value: float) -> str:
    """A number of params as LaTeX: short decimals as they are, small ones as a power of ten."""
    text = f"{value:g}"
    if "e" in text:
        mantissa, exponent = text.split("e")
        return rf"${mantissa} \times 10^{{{int(exponent)}}}$"
    return f"${text}$"


def percent(share: float) -> str:
    """A share of params in percent, as LaTeX."""
    return rf"{100 * share:g}\,\%"
