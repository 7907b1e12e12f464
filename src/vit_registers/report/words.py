"""Numbers and lists as the sentences of the report say them."""

from collections.abc import Sequence

from vit_registers.params import NamedArchitecture, PositionResampling
from vit_registers.report.latex_text import escape, key


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


def named(shape: NamedArchitecture) -> str:
    """One of timm's ViTs with its arguments and input size."""
    arguments = "".join(f", {escape(name)} {escape(str(value))}" for name, value in shape.arguments.items())
    return f"timm's {key(shape.name)}{arguments} on images of ${shape.image_size} \\times {shape.image_size}$"


def resampling(how: PositionResampling) -> str:
    """How learned position embeddings got to another grid."""
    antialiased = "with antialiasing" if how.antialias else "without antialiasing"
    offset = f" and with {setting(how.offset)} added to the new sides before they are divided" if how.offset else ""
    return f"position embeddings resampled bicubically {antialiased}{offset}"
