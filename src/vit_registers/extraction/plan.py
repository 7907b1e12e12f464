"""What an extraction does in which order: the same batches on every run, so that a killed one goes on where it was."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from vit_registers.core.errors import InputError
from vit_registers.data.manifest import Manifest
from vit_registers.data.transforms import Size
from vit_registers.extraction.memory import batch_size
from vit_registers.forward.arrays import Spec
from vit_registers.forward.readers.attention import AttentionMaps, AttentionRows
from vit_registers.forward.readers.base import Reader
from vit_registers.forward.readers.norms import NeighbourCosines, Norms
from vit_registers.forward.readers.projections import Projections
from vit_registers.forward.readers.tokens import ClsByBlock, Patches, PatchesByLayer, SpecialsByLayer, Tokens
from vit_registers.interventions.values import Intervention, layout_under, shuffles
from vit_registers.models.backbone import Backbone
from vit_registers.models.preprocess import whole_patches
from vit_registers.params import Extraction

Rows = NDArray[np.int64]
Kind = Literal["others", "maps", "dense", "native"]


@dataclass(frozen=True)
class Phase:
    """Batches that share readers and input size, and the model at that size."""

    kind: Kind
    batches: list[Rows]
    backbone: Backbone


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
        self._refuse_lone_images()

    def _size_of(self, backbone: Backbone, kind: Kind) -> int:
        asked, precision = self.extraction.batch_size, self.extraction.precision
        needs = lambda: self.readers(backbone, kind)  # noqa: E731
        return batch_size(asked, backbone, self.intervention, needs, precision, self.extraction.memory_mb)

    def _refuse_lone_images(self) -> None:
        """Shuffling wants two images in every batch: said before the first image is read, not at the lone one."""
        if not shuffles(self.intervention):
            return
        for batch in (batch for phase in self.phases() for batch in phase.batches):
            if len(batch) == 1:
                image = self.manifest.table["image_id"].iloc[int(batch[0])]
                raise InputError(
                    f"'{self.manifest.name}': image '{image}' is alone in its batch, so its tokens cannot be shuffled "
                    "with another's; take donors: calibration, or change what leaves it alone"
                )

    @property
    def images(self) -> int:
        """Images that pass, those twice that pass at two sizes."""
        return len(self.manifest.table) + len(self.dense) * self.native

    def phases(self) -> Iterator[Phase]:
        """In the order in which they are done."""
        for kind, rows in self._rows():
            if isinstance(kind, str):
                yield Phase(kind, batched(rows, self.batch_size), self.backbone)
            else:
                yield Phase("native", batched(rows, self._native_batch), self.backbone.at_size(kind))

    def _rows(self) -> list[tuple[Kind | Size, Rows]]:
        """Rows that share readers and input size, by kind of phase, or by size where images keep their own."""
        others = np.setdiff1d(np.arange(len(self.manifest.table)), self.dense)
        maps = self.extraction.attention_maps
        parts: list[tuple[Kind | Size, Rows]] = [
            ("others", others),
            ("maps", self.dense[:maps]),
            ("dense", self.dense[maps:]),
        ]
        if self.native:
            for size in sorted(set(self._padded_sizes)):
                parts.append((size, self.dense[[i for i, other in enumerate(self._padded_sizes) if other == size]]))
        return parts

    @cached_property
    def _native_batch(self) -> int:
        """One for all sizes, by the largest: to measure each would cost as much as a good part of the pass."""
        largest = max(self._padded_sizes, key=lambda size: size[0] * size[1])
        return self._size_of(self.backbone.at_size(largest), "native")

    def readers(self, backbone: Backbone, kind: Kind) -> list[Reader]:
        """Fresh readers for a phase of ``kind`` on ``backbone``, which is at the phase's input size."""
        layout, wanted = layout_under(backbone, self.intervention), self.extraction
        if kind == "native":
            return [Projections(backbone, layout, {**wanted.projections}, "native")]
        readers: list[Reader] = [Tokens(backbone, layout)]
        if wanted.cls_blocks and layout.cls:
            readers.append(ClsByBlock(backbone, layout, wanted.cls_blocks))
        if wanted.specials_layers:
            readers.append(SpecialsByLayer(backbone, layout))
        if kind == "others":
            return readers
        readers += [
            Patches(backbone, layout),
            Norms(backbone, layout),
            AttentionRows(backbone, layout, wanted.attention_heads, wanted.attention_columns),
        ]
        if wanted.projections and not self.native:
            readers.append(Projections(backbone, layout, {**wanted.projections}))
        if wanted.patch_layers:
            readers.append(PatchesByLayer(backbone, layout, wanted.patch_layers))
        if wanted.neighbours:
            readers.append(NeighbourCosines(backbone, layout))
        if kind == "maps":
            readers.append(AttentionMaps(backbone, layout))
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
    def _padded_sizes(self) -> list[Size]:
        """The dense images' own sizes, rounded up to whole patches."""
        table, patch = self.manifest.table.iloc[self.dense], self.backbone.patch
        sizes = zip(table["height"], table["width"], strict=True)
        return [whole_patches((int(height), int(width)), patch) for height, width in sizes]

    @cached_property
    def _native_grids(self) -> NDArray[np.int64]:
        grids = np.array(self._padded_sizes, dtype=np.int64).reshape(-1, 2) // np.array(self.backbone.patch)
        return np.asarray(grids, dtype=np.int64)

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
