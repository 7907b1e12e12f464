"""How many threads torch computes with: a constant of a step, never the machine's count.

Sums over several threads differ in the last bit from sums over one, and results must depend neither on the machine nor
on ``--cores``. One thread is the rule, since jobs run side by side: of small models, a second thread makes a training
faster by a tenth, a second training beside it uses the core whole.
"""

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def threads(count: int = 1) -> Iterator[None]:
    """Compute on ``count`` threads within the context, or within a function that this decorates."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
