"""Draws of libraries that know only global generators, made functions of a seed."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


@contextmanager
def seeded(seed: int, device: torch.device | None = None) -> Iterator[None]:
    """Python's, NumPy's and torch's global generators (and that of ``device``) start from ``seed`` in this block.

    They are as before after it. timm's Mixup and ThreeAugment, torchvision's crops and timm's DropPath draw from them.
    """
    here, there = random.getstate(), np.random.get_state()  # noqa: NPY002
    with torch.random.fork_rng(devices=[device] if device is not None and device.type == "cuda" else []):
        random.seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002
        torch.default_generator.manual_seed(seed)  # torch.manual_seed writes down its stack, image by image
        if device is not None and device.type != "cpu":
            torch.get_device_module(device).manual_seed(seed)
        try:
            yield
        finally:
            random.setstate(here)
            np.random.set_state(there)  # noqa: NPY002
