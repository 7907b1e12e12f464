"""What published numbers alone say about a claim, before any model is run."""

from dataclasses import dataclass
from typing import Literal

Verdict = Literal["reproduced", "contradicted", "inconclusive"]


@dataclass(frozen=True)
class Finding:
    """A verdict with the computation beside it.

    ``contradicted``: numbers, or another passage of the source, say otherwise; where one of two passages must be wrong,
    ``reason`` names which, as far as that can be known. ``inconclusive``: what would decide it is not published, or the
    numbers speak for both sides.

    ``claim``: id in the ledger, or of a sentence that the ledger lacks, which ``sentence`` then quotes. ``computed``:
    the number, or in words what came out. ``computation``: one line, with the numbers and their units.
    """

    claim: str
    verdict: Verdict
    computed: float | str
    computation: str
    reason: str
    sentence: str = ""
