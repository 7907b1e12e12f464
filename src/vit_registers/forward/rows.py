"""Which images a batch holds: what interventions need whose draws belong to an image and not to a batch."""

from collections.abc import Iterable
from contextvars import ContextVar

_ROWS: ContextVar[tuple[int, ...]] = ContextVar("rows of the batch")


def announce(rows: Iterable[int]) -> None:
    """Say, before a batch passes, which manifest rows its images are."""
    _ROWS.set(tuple(int(row) for row in rows))


def current(images: int) -> tuple[int, ...]:
    """Rows of the batch that is passing; a pass that did not announce them is a mistake of the caller."""
    rows = _ROWS.get(())
    if len(rows) != images:
        raise RuntimeError(f"a batch of {images} images passes, but {len(rows)} rows were announced")
    return rows
