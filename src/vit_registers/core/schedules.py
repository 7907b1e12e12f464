"""Values that change from step to step of a training."""

import math


def cosine(first: float, last: float, step: int, steps: int) -> float:
    """From ``first`` at step 0 along half a cosine to ``last``, which step ``steps`` would reach."""
    return last + 0.5 * (first - last) * (1.0 + math.cos(math.pi * step / steps))


def linear(first: float, last: float, step: int, steps: int) -> float:
    """From ``first`` at step 0 to ``last`` at the last of ``steps``."""
    return first + (last - first) * step / max(1, steps - 1)
