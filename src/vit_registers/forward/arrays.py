"""What an array of features is: its name, and what is stored of it. Needs no torch, as who reads features may not."""

from dataclasses import dataclass


def array_name(kind: str, layer: int) -> str:
    """Name of the array of ``kind`` at an absolute layer number."""
    return f"{kind}_{layer:02d}"


def pair_name(name: str) -> str:
    """Name of the array that holds of second views what the array ``name`` holds of images."""
    return f"pair_{name}"


@dataclass(frozen=True)
class Spec:
    """One array: shape of a row, dtype, unit, what it holds, and what its rows are.

    ``all`` images that passed; ``dense`` ones; those of split ``train`` whose tokens are kept; the first dense ones,
    whose ``maps`` are kept whole, in whose attention ``sinks`` are looked for, or that are ``pairs`` with a second
    view; or ``native``: the patches of the dense images at their own sizes, one image after the other.
    """

    shape: tuple[int, ...]
    dtype: str
    rows: str
    unit: str
    what: str
