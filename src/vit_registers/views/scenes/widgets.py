"""What a scene of the explorer can be made of: a chart, maps over images, pictures in rows, or a list.

A widget is data and names; how it looks and what its controls do is in ``page/``. Each says what the page gets of it
(``to_json``).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vit_registers.views.scenes import encode

Json = dict[str, Any]


@dataclass(frozen=True)
class Choice:
    """A control of a chart: the signal ``name`` takes one of some values, shown by their labels.

    Numbers in a row (blocks, epochs) are a slider, with a button that plays it where ``plays``.
    """

    name: str
    label: str
    options: Sequence[tuple[str | int, str]]
    slider: bool = False
    plays: bool = False

    def to_json(self) -> Json:
        """For the page."""
        options = [{"value": value, "label": label} for value, label in self.options]
        kind = "range" if self.slider else "select"
        return {"name": self.name, "label": self.label, "kind": kind, "options": options, "plays": self.plays}


@dataclass(frozen=True)
class Chart:
    """A Vega-Lite specification with its data in it. Its signals called as the ``choices`` are set by these."""

    spec: Mapping[str, Any]
    choices: Sequence[Choice] = ()

    def to_json(self) -> Json:
        """For the page."""
        return {"kind": "chart", "spec": self.spec, "choices": [choice.to_json() for choice in self.choices]}


@dataclass(frozen=True)
class Quantity:
    """Maps of one quantity: ``values`` (image, ..., cell), the axes between by name in ``axes``.

    ``axes`` are some of ``block``, ``head`` and ``from``, in this order, with the label of each place. The last axis
    holds the patches, row by row; where it is longer by the labels ``others``, these special tokens come first. If
    ``from`` has a place for every token in the same order, a click on a patch asks for it. ``gamma``: rounded as its
    root, finer where values are small.
    """

    label: str
    values: NDArray[Any]
    axes: Mapping[str, Sequence[str]]
    others: Sequence[str] = ()
    unit: str = ""
    gamma: float = 1.0
    bits: int = 8

    def to_json(self) -> Json:
        """For the page."""
        expected = tuple(len(labels) for labels in self.axes.values())
        if self.values.shape[1:-1] != expected:
            raise ValueError(f"{self.label}: values are {self.values.shape}, but axes have {expected} places")
        packed = encode.maps(self.values, self.bits, self.gamma)
        axes = [{"name": name, "labels": list(labels)} for name, labels in self.axes.items()]
        return {"label": self.label, "unit": self.unit, "axes": axes, "others": list(self.others), "map": packed}


@dataclass(frozen=True)
class Colours:
    """Patches as colours: ``values`` (image, h, w, 3) from 0 to 1."""

    label: str
    values: NDArray[Any]

    def to_json(self) -> Json:
        """For the page."""
        cells = np.rint(255 * np.clip(self.values.astype(float), 0.0, 1.0)).astype(np.uint8)
        return {"label": self.label, "unit": "", "axes": [], "others": [], "colours": encode.packed(cells)}


@dataclass(frozen=True)
class MappedCondition:
    """A condition of a model: its patch grid, and its quantities by name."""

    label: str
    grid: tuple[int, int]
    quantities: Mapping[str, Quantity | Colours]

    def to_json(self) -> Json:
        """For the page."""
        quantities = {name: quantity.to_json() for name, quantity in self.quantities.items()}
        return {"label": self.label, "grid": list(self.grid), "quantities": quantities}


@dataclass(frozen=True)
class MappedModel:
    """A model, its images (n, H, W, 3) with their ids, and its conditions, the model as it is first.

    ``start``: the image and the block that are shown first, by their places; the first and the last where it is None.
    """

    label: str
    images: NDArray[np.uint8]
    ids: Sequence[str]
    conditions: Sequence[MappedCondition]
    start: tuple[int, int] | None = None

    def to_json(self) -> Json:
        """For the page."""
        pictures = [
            {"id": name, "src": encode.picture(image)} for name, image in zip(self.ids, self.images, strict=True)
        ]
        conditions = [condition.to_json() for condition in self.conditions]
        return {"label": self.label, "images": pictures, "conditions": conditions, "start": self.start}


@dataclass(frozen=True)
class Maps:
    """Maps over images, two conditions side by side on one scale.

    ``second``: place of the condition that is shown beside the model as it is, where it has so many.
    """

    models: Sequence[MappedModel]
    second: int = 1

    def to_json(self) -> Json:
        """For the page."""
        return {"kind": "maps", "second": self.second, "models": [model.to_json() for model in self.models]}

    def by_model(self) -> dict[str, "Maps"]:
        """One such widget for each model, by its label: for pages of their own."""
        return {model.label: Maps([model], self.second) for model in self.models}


@dataclass(frozen=True)
class Framed:
    """A picture with one cell of its grid framed, and what it is."""

    image: NDArray[np.uint8]
    grid: tuple[int, int]
    cell: tuple[int, int]
    name: str

    def to_json(self) -> Json:
        """For the page."""
        return {
            "src": encode.picture(self.image), "grid": list(self.grid), "cell": list(self.cell), "name": self.name
        }  # fmt: skip


@dataclass(frozen=True)
class Pictures:
    """Rows of pictures by group: of each model, of each register."""

    groups: Mapping[str, Mapping[str, Sequence[Framed]]]

    def to_json(self) -> Json:
        """For the page."""
        groups = [
            {
                "label": label,
                "rows": [{"label": row, "pictures": [p.to_json() for p in of]} for row, of in rows.items()],
            }
            for label, rows in self.groups.items()
        ]
        return {"kind": "pictures", "groups": groups}

    def by_model(self) -> dict[str, "Pictures"]:
        """One such widget for each group, by its label."""
        return {label: Pictures({label: rows}) for label, rows in self.groups.items()}


@dataclass(frozen=True)
class Listing:
    """Rows of text that are searched and filtered: ``columns`` are (key, heading), ``filters`` keys of columns.

    ``details`` are columns that a row shows when it is opened.
    """

    columns: Sequence[tuple[str, str]]
    rows: Sequence[Mapping[str, str]]
    filters: Sequence[str] = ()
    details: Sequence[tuple[str, str]] = field(default=())

    def to_json(self) -> Json:
        """For the page."""
        named = [{"key": key, "label": label} for key, label in self.columns]
        details = [{"key": key, "label": label} for key, label in self.details]
        rows = [dict(row) for row in self.rows]
        return {"kind": "listing", "columns": named, "details": details, "filters": list(self.filters), "rows": rows}


Widget = Chart | Maps | Pictures | Listing
