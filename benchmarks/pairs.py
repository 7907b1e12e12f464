"""Contenders timed against a reference in turns, so that what a noisy machine does hits both."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median

import torch


@dataclass(frozen=True)
class Timing:
    """Median seconds of one run, and quartiles of the ratio to the reference runs just before and just after."""

    seconds: float
    ratio: float
    low: float
    high: float


def seconds(work: Callable[[], object], device: str = "cpu") -> float:
    """Wall time of one run; on CUDA until the device is done."""
    if device == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    work()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def compare(
    reference: Callable[[], object], others: Mapping[str, Callable[[], object]], rounds: int, device: str = "cpu"
) -> tuple[float, dict[str, Timing]]:
    """Median seconds of the reference, and a :class:`Timing` of each other: A B A C A, ``rounds`` times over."""
    for work in (reference, *others.values()):
        work()  # once unmeasured: allocations, caches, kernels that choose themselves
    references: list[float] = []
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in others}
    for _ in range(rounds):
        before = seconds(reference, device)
        references.append(before)
        for name, work in others.items():
            taken = seconds(work, device)
            after = seconds(reference, device)
            references.append(after)
            found[name].append((taken, taken / ((before + after) / 2)))
            before = after
    timings = {}
    for name, runs in found.items():
        ratios = sorted(ratio for _, ratio in runs)
        quartiles = ratios[len(ratios) // 4], ratios[-1 - len(ratios) // 4]
        timings[name] = Timing(median(t for t, _ in runs), median(ratios), *quartiles)
    return median(references), timings
