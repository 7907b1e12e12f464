"""LOST under every setting at once against one run per setting, as the published code does it and patch by patch.

    python -m benchmarks.lost

Features are smooth random maps: a dozen arrays (queries, keys and values of four blocks) of every image, the settings
those of params.yaml. Boxes of all ways are compared before time is.
"""

import argparse
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from threadpoolctl import threadpool_limits

from benchmarks.pairs import compare
from vit_registers.experiments.object_discovery import sweep
from vit_registers.experiments.object_discovery.sweep import Setting
from vit_registers.forward.arrays import array_name
from vit_registers.params import reading

DEPTH = 6
CASES = {"8 x 8 x 128": (8, 128, 48, 6), "16 x 16 x 384": (16, 384, 24, 26), "32 x 32 x 384": (32, 384, 2, 100)}


class Problem:
    """Projections (images, patches, width) by array name, and the settings to run LOST under."""

    def __init__(self, side: int, width: int, images: int, k: int) -> None:
        given: Any = reading.load(["params.yaml"]).settings("object_discovery")
        assert given.sweep is not None
        self.grid, self.k = (side, side), k
        self.settings = sweep.settings(given.sweep, DEPTH)
        rng = np.random.default_rng(0)
        self.projected = {}
        for name in sorted({array_name(s.feature, s.layer) for s in self.settings}):
            noise = rng.standard_normal((images, side, side, width)).astype(np.float32)
            smooth = ndimage.gaussian_filter(noise, (0, side / 8, side / 8, 0)) + 0.01 * noise + 0.02
            self.projected[name] = smooth.reshape(images, side * side, width).astype(np.float16)

    def together(self) -> NDArray[np.float64]:
        """Boxes (images, settings, 4) of the sweep."""
        return sweep.boxes(self.projected, self.settings, self.grid, self.k)

    def _each(self, way: Callable[[NDArray[np.float32], Setting], list[float]]) -> NDArray[np.float64]:
        images = len(next(iter(self.projected.values())))
        found = np.full((images, len(self.settings), 4), np.nan)
        for i, setting in enumerate(self.settings):
            features = self.projected[array_name(setting.feature, setting.layer)]
            for image in range(images):
                found[image, i] = way(features[image].astype(np.float32), setting)
        return found

    def published(self) -> NDArray[np.float64]:
        """The same, image by image and setting by setting, in the array operations of the published code."""
        return self._each(self._published)

    def by_patch(self) -> NDArray[np.float64]:
        """The same, patch by patch as the paper says it; the similarities alone are an array operation."""
        return self._each(self._by_patch)

    def _similarity(self, features: NDArray[np.float32], setting: Setting) -> NDArray[np.float32]:
        if setting.centre:
            features = features - features.mean(axis=0, keepdims=True)
        if setting.normalise:
            features = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
        return features @ features.T + np.float32(setting.bias)

    def _published(self, features: NDArray[np.float32], setting: Setting) -> list[float]:
        similar = self._similarity(features, setting)
        degree = (similar > 0).sum(axis=1) - (similar.diagonal() > 0)
        order = np.argsort(degree, kind="stable")
        seed = order[0]
        kept = [p for p in order[: self.k] if similar[seed, p] > 0] or [seed]
        mask = similar[kept].sum(axis=0).reshape(self.grid) > 0
        labels, _ = ndimage.label(mask)
        if not mask.flat[seed]:
            return [np.nan] * 4
        rows, columns = np.where(labels == labels.flat[seed])
        return [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]

    def _by_patch(self, features: NDArray[np.float32], setting: Setting) -> list[float]:
        similar = self._similarity(features, setting)
        table = similar.tolist()
        patches, (height, width) = range(len(table)), self.grid
        degree = [sum(1 for j in patches if j != i and table[i][j] > 0) for i in patches]
        ranked = sorted(patches, key=lambda i: (degree[i], i))
        seed = ranked[0]
        kept = [p for p in ranked[: self.k] if table[seed][p] > 0 or p == seed]
        # summed as an array: sums in another order may differ in sign where they are all but zero
        mask = (similar[kept].sum(axis=0) > 0).tolist()
        if not mask[seed]:
            return [np.nan] * 4
        part, waiting = set(), [divmod(seed, width)]
        while waiting:
            y, x = waiting.pop()
            if (y, x) in part or not (0 <= y < height and 0 <= x < width) or not mask[y * width + x]:
                continue
            part.add((y, x))
            waiting += [(y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)]
        ys, xs = zip(*part, strict=True)
        return [min(xs), min(ys), max(xs) + 1, max(ys) + 1]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--case", choices=list(CASES), action="append")
    options = parser.parse_args()
    print(f"NumPy {np.__version__}; {options.rounds} rounds")
    print("\n| patches x channels | way | boxes/s | time / sweep (quartiles) | equal boxes |")
    print("| --- | --- | --- | --- | --- |")
    for case in options.case or CASES:
        problem = Problem(*CASES[case])
        with threadpool_limits(1):  # as the step runs: jobs share the cores
            found = problem.together()
            boxes = found.shape[0] * found.shape[1]
            ways = {"one by one, as published": problem.published, "one by one, patch by patch": problem.by_patch}
            equal = {name: np.isclose(way(), found, equal_nan=True).all(axis=2).mean() for name, way in ways.items()}
            reference, timings = compare(problem.together, ways, options.rounds)
        print(f"| {case} | sweep | {boxes / reference:,.0f} | 1 | |")
        for name, timing in timings.items():
            ratio = f"{timing.ratio:.1f} ({timing.low:.1f} to {timing.high:.1f})"
            print(f"| {case} | {name} | {boxes / timing.seconds:,.0f} | {ratio} | {equal[name]:.4%} |")


if __name__ == "__main__":
    main()
