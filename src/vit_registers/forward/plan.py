"""What an extraction does in which order: the same batches on every run, so that a killed one goes on where it was."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from vit_registers.backbones.backbone import Backbone
from vit_registers.backbones.preprocess import whole_patches
from vit_registers.data.geometry import Size
from vit_registers.data.manifest import Manifest
from vit_registers.forward import readers as r
from vit_registers.forward.interventions import Intervention, layout_under
from vit_registers.forward.memory import batch_size
from vit_registers.forward.store import Spec
from vit_registers.params import Extraction

Rows = NDArray[np.int64]
Kind = Literal["others", "maps", "dense", "native"]


@dataclass(frozen=True)
class Phase:
    """Batches that share readers and input size; ``backbone()`` is the model at that size, made when it is needed."""

    kind: Kind
    batches: list[Rows]
    backbone: Callable[[], Backbone]


def batched(rows: Rows, size: int) -> list[Rows]:
    """Consecutive batches; a last one of a single image joins the one before: alone it could not be shuffled."""
    parts = [rows[i : i + size] for i in range(0, len(rows), size)]
    if size > 1 and len(parts) > 1 and len(parts[-1]) == 1:
        parts[-2:] = [np.concatenate(parts[-2:])]
    return parts


class Plan:
    """Phases of one condition over one data set: images of which only tokens are kept; dense ones, the first of them
    with whole attention maps; and, if projections are wanted at native size, the dense ones again, size by size.
    """

    def __init__(
        self, backbone: Backbone, intervention: Intervention, manifest: Manifest, extraction: Extraction
    ) -> None:
        self.backbone, self.intervention = backbone, intervention
        self.manifest, self.extraction = manifest, extraction
        self.dense: Rows = manifest.rows(extraction.dense_split)[: extraction.dense_images]
        self.native = extraction.projections_size == "native"
        self.batch_size = self._size_of(backbone, "maps" if extraction.attention_maps else "dense")

    def _size_of(self, backbone: Backbone, kind: Kind) -> int:
        asked = self.extraction.batch_size
        if isinstance(asked, int):
            return asked
        needs = lambda: self.readers(backbone, kind)  # noqa: E731
        return batch_size(backbone, self.intervention, needs, self.extraction.precision, self.extraction.memory_mb)

    @property
    def images(self) -> int:
        """Images that pass, those twice that pass at two sizes."""
        return len(self.manifest.table) + len(self.dense) * self.native

    def phases(self) -> Iterator[Phase]:
        """In the order in which they are done."""
        others = np.setdiff1d(np.arange(len(self.manifest.table)), self.dense)
        maps = self.extraction.attention_maps
        for kind, rows in (("others", others), ("maps", self.dense[:maps]), ("dense", self.dense[maps:])):
            yield Phase(kind, batched(rows, self.batch_size), lambda: self.backbone)  # type: ignore[arg-type]
        if self.native:
            sizes = [whole_patches(size, self.backbone.patch) for size in self._native_sizes]
            for size in sorted(set(sizes)):
                rows = self.dense[[i for i, other in enumerate(sizes) if other == size]]
                yield self._native_phase(size, rows)

    def _native_phase(self, size: Size, rows: Rows) -> Phase:
        sized = self.backbone.at_size(size)
        return Phase("native", batched(rows, self._size_of(sized, "native")), lambda: sized)

    def readers(self, backbone: Backbone, kind: Kind) -> list[r.Reader]:
        """Fresh readers for a phase of ``kind`` on ``backbone``, which is at the phase's input size."""
        layout, wanted = layout_under(backbone, self.intervention), self.extraction
        if kind == "native":
            return [r.Projections(backbone, layout, {**wanted.projections}, "native")]
        readers: list[r.Reader] = [r.Tokens(backbone, layout)]
        if wanted.cls_blocks and layout.cls:
            readers.append(r.ClsByBlock(backbone, layout, wanted.cls_blocks))
        if wanted.specials_layers:
            readers.append(r.SpecialsByLayer(backbone, layout))
        if kind == "others":
            return readers
        readers += [
            r.Patches(backbone, layout),
            r.Norms(backbone, layout),
            r.AttentionRows(backbone, layout, wanted.attention_heads, wanted.attention_columns),
        ]
        if wanted.projections and not self.native:
            readers.append(r.Projections(backbone, layout, {**wanted.projections}))
        if wanted.patch_layers:
            readers.append(r.PatchesByLayer(backbone, layout, wanted.patch_layers))
        if wanted.neighbours:
            readers.append(r.NeighbourCosines(backbone, layout))
        if kind == "maps":
            readers.append(r.AttentionMaps(backbone, layout))
        return readers

    def specs(self) -> dict[str, Spec]:
        """All arrays of the condition."""
        kinds: list[Kind] = ["others", "dense"]
        kinds += ["maps"] if self.extraction.attention_maps else []
        kinds += ["native"] if self.native else []
        specs = {
            name: spec
            for kind in kinds
            for reader in self.readers(self.backbone, kind)
            for name, spec in reader.specs().items()
        }
        specs["dense_rows"] = Spec((), "int64", "dense", "row", "manifest rows of the arrays with dense rows")
        if self.native:
            specs["native_start"] = Spec((), "int64", "dense", "row", "first row of the image in native arrays")
            specs["native_grid"] = Spec((2,), "int64", "dense", "patches", "height and width of the image's own grid")
        return specs

    def counts(self) -> dict[str, int]:
        """Rows of each kind of array."""
        return {
            "all": len(self.manifest.table),
            "dense": len(self.dense),
            "maps": min(self.extraction.attention_maps, len(self.dense)),
            "native": int(self._native_grids.prod(1).sum()) if self.native else 0,
        }

    @cached_property
    def _native_sizes(self) -> list[Size]:
        table = self.manifest.table.iloc[self.dense]
        return [(int(h), int(w)) for h, w in zip(table["height"], table["width"], strict=True)]

    @cached_property
    def _native_grids(self) -> NDArray[np.int64]:
        patch = self.backbone.patch
        sizes = [whole_patches(size, patch) for size in self._native_sizes]
        return np.array([(h // patch[0], w // patch[1]) for h, w in sizes], dtype=np.int64).reshape(-1, 2)

    def placed(
        self, phase: Phase, rows: Rows, values: Mapping[str, NDArray[Any]]
    ) -> tuple[dict[str, NDArray[Any]], dict[str, Rows]]:
        """A batch's arrays and where their rows go, by kind of array."""
        at = np.searchsorted(self.dense, rows)
        if phase.kind != "native":
            extra = {} if phase.kind == "others" else {"dense_rows": rows}
            return {**values, **extra}, {"all": rows, "dense": at, "maps": at}
        counts = self._native_grids.prod(1)
        starts = (np.cumsum(counts) - counts)[at]
        flat = np.concatenate([np.arange(start, start + n) for start, n in zip(starts, counts[at], strict=True)])
        return {**values, "native_start": starts, "native_grid": self._native_grids[at]}, {"dense": at, "native": flat}
