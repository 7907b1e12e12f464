"""Numbers, lists and names as sentences and LaTeX print them."""

import re
from collections.abc import Sequence
from typing import Any

_SPECIAL = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": "$<$",
    ">": "$>$",
    "[": "{[}",  # a bracket that opens a cell would be read as the optional argument of \\
    "]": "{]}",
    "−": "$-$",
}


# What TeX sets beside ASCII with the fonts of the report; another character would end its run.
_SET = frozenset(
    "¡£§©®°±¶·¿ÀÁÂÃÄÅÆÇÈÉÊËÌÍÎÏÑÒÓÔÕÖ×ØÙÚÛÜÝßàáâãäåæçèéêëìíîïñòóôõö÷øùúûüýÿ"
    "ĂăĆćČčĎďĒēĚěĞğĪīŁłŃńŇňŌōŐőŒœŔŕŘřŚśŠšŞşŤťŪūŮůŰűŸŹźŻżŽž–—‘’“”…†‡•"
)


def escape(text: str) -> str:
    """``text`` so that LaTeX prints it as it is, whatever is in it; of what no font has the number in Unicode."""
    return "".join(map(_escaped, text))


def _escaped(character: str) -> str:
    if character in _SPECIAL:
        return _SPECIAL[character]
    if " " <= character <= "~" or character in _SET:
        return character
    return " " if character.isspace() else rf"\texttt{{U+{ord(character):04X}}}"


def rst(text: str) -> str:
    """``text`` so that reStructuredText, of which Snakemake makes the page of a report, shows it as it is."""
    return re.sub(r"[!-/:-@\[-`{-~]", r"\\\g<0>", text)


def key(name: str) -> str:
    """A key of params, set as code in LaTeX."""
    return rf"\texttt{{{escape(name)}}}"


def count(number: int) -> str:
    """A whole number with commas between thousands, which LaTeX is kept from spacing as punctuation."""
    return f"{number:,}".replace(",", "{,}")


def plural(count: int, noun: str) -> str:
    """``4 tokens``, ``1 token``."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


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


def architecture(name: str, image_size: int, arguments: dict[str, Any]) -> str:
    """One of timm's ViTs with its arguments and input size, as LaTeX."""
    given = "".join(f", {escape(argument)} {escape(str(value))}" for argument, value in arguments.items())
    return f"timm's {key(name)}{given} on images of ${image_size} \\times {image_size}$"


def block(layer: int) -> str:
    """A block of params in words: counted from the end where negative."""
    if layer >= 0:
        return f"block {layer}"
    return "the last block" if layer == -1 else f"block {-layer} from the end"
