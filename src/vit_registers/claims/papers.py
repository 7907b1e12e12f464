"""What is said of each paper as a whole (papers.yaml): scope, what was easy, what was difficult."""

from functools import cache
from pathlib import Path

import yaml

from vit_registers.params.base import Strict

PAPERS = Path(__file__).parent / "papers.yaml"


class Paper(Strict):
    """A paper in the form of the machine learning reproducibility challenge; the rest follows from a study."""

    scope: str
    easy: str
    difficult: str


@cache
def load() -> dict[str, Paper]:
    """The papers by key, as in the ledger."""
    content = yaml.safe_load(PAPERS.read_text(encoding="utf-8"))
    return {key: Paper.model_validate(given) for key, given in content.items()}
