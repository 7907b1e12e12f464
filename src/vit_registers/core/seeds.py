"""Every random draw comes from a generator named by its purpose, so that no draw depends on the order of others."""

import hashlib
import json

import numpy as np


def derive(seed: int, *names: str | int) -> int:
    """A 63-bit seed for the purpose ``names`` under the study's ``seed``; the same on every machine."""
    text = json.dumps([seed, *names]).encode()
    return int.from_bytes(hashlib.sha256(text).digest()[:8], "big") >> 1


def generator(seed: int, *names: str | int) -> np.random.Generator:
    """NumPy's generator seeded with :func:`derive`."""
    return np.random.default_rng(derive(seed, *names))
