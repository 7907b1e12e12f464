"""Arrays that measures left for figures."""

from collections.abc import Mapping

import numpy as np

from vit_registers.core.doors import read_arrays
from vit_registers.pipeline.paths import Paths
from vit_registers.views.study import Condition

ByName = dict[str, np.ndarray]


class Arrays:
    """Arrays of the measures that a figure declares, by measure."""

    def __init__(self, at: Paths, measures: tuple[str, ...]) -> None:
        self.at, self.measures = at, measures
        self._loaded: dict[tuple[str, ...], ByName] = {}

    def _load(self, measure: str, axes: tuple[str, ...]) -> ByName:
        if measure not in self.measures:
            raise ValueError(f"arrays of '{measure}' are not declared by this figure; it has {self.measures}")
        path = self.at.measure(measure, *axes) / "arrays.npz"
        if (measure, *axes) not in self._loaded:
            first = f"run `vit-registers {measure.replace('_', '-')}` first"
            self._loaded[measure, *axes] = read_arrays(path, missing=first)
        return self._loaded[measure, *axes]

    def has(self, condition: Condition, measure: str | None = None) -> bool:
        """Whether a measure left arrays of the model of a condition: not every run has every experiment."""
        return (
            self.at.measure(measure or self.measures[0], condition.dataset, condition.model) / "arrays.npz"
        ).is_file()

    def of(self, condition: Condition, measure: str | None = None) -> ByName:
        """Arrays of a condition by name, with those that hold for all conditions; empty where it was not measured."""
        whole = self._load(measure or self.measures[0], (condition.dataset, condition.model))
        common = {name: array for name, array in whole.items() if "/" not in name}
        mine = _within(whole, condition.name)
        return common | mine if mine else {}

    def of_model(self, model: str, measure: str | None = None) -> ByName:
        """Arrays of a measure that goes by model."""
        return self._load(measure or self.measures[0], (model,))


def _within(arrays: Mapping[str, np.ndarray], condition: str) -> ByName:
    """Arrays whose name begins with a condition's, without it."""
    return {name.removeprefix(f"{condition}/"): a for name, a in arrays.items() if name.startswith(f"{condition}/")}
