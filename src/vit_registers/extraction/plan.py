"""What an extraction does in which order: the same batches on every run, so that a killed one goes on where it was."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from vit_registers.core.errors import InputError
from vit_registers.data.manifest import Manifest
from vit_registers.data.transforms import Size, Transform
from vit_registers.extraction.images import Images
from vit_registers.extraction.memory import batch_size
from vit_registers.forward.arrays import Spec, pair_name
from vit_registers.forward.readers.attention import AttentionMaps, AttentionRows
from vit_registers.forward.readers.base import Reader
from vit_registers.forward.readers.head import OwnHead, has_head
from vit_registers.forward.readers.norms import NeighbourCosines, Norms
from vit_registers.forward.readers.parts import ClsParts, adds_up
from vit_registers.forward.readers.projections import Projections
from vit_registers.forward.readers.sinks import AttentionSinks
from vit_registers.forward.readers.tokens import ClsByBlock, Patches, PatchesByLayer, SpecialsByLayer, Tokens
from vit_registers.interventions.base import Applied, layout_under, shuffles
from vit_registers.models.backbone import Backbone
from vit_registers.models.preprocess import whole_patches
from vit_registers.params.passes import TRAIN, Extraction

Rows = NDArray[np.int64]  # of the manifest, or of an array
Arrays = dict[str, NDArray[Any]]
Places = dict[str, Rows]


def batched(rows: Rows, size: int) -> list[Rows]:
    """Consecutive batches; a last one of a single image joins the one before: alone it could not be resampled from."""
    parts = [rows[i : i + size] for i in range(0, len(rows), size)]
    if size > 1 and len(parts) > 1 and len(parts[-1]) == 1:
        parts[-2:] = [np.concatenate(parts[-2:])]
    return parts


class Phase(ABC):
    """Images that pass at one input size and are read by the same readers; subclasses say by which."""

    def __init__(self, plan: "Plan", rows: Rows) -> None:
        """``rows``: of the manifest, or numbers of second views, in the order in which they pass."""
        self.plan, self.rows = plan, rows
        self.backbone: Backbone = plan.backbone

    @property
    def batch_size(self) -> int:
        """Images at a time."""
        return self.plan.batch_size

    @property
    def batches(self) -> list[Rows]:
        """Manifest rows of every batch; of second views their numbers."""
        return batched(self.rows, self.batch_size)

    @property
    def for_projections(self) -> bool:
        """Whether this is where LOST's queries, keys or values are read, of each dense image once."""
        return False

    @abstractmethod
    def readers(self) -> list[Reader]:
        """Fresh readers."""

    def pixels(self, images: Images, batches: Sequence[Rows]) -> Iterator[Tensor]:
        """Normalised input (b, 3, h, w) of each of some batches."""
        return images.batches(batches)

    def transform(self, height: int, width: int) -> Transform:
        """Where the pixels of an image of this size are in the input of this phase."""
        return Transform.of({"preprocess": self.backbone.preprocess.to_json()}, height, width)

    @abstractmethod
    def placed(self, rows: Rows, values: Mapping[str, NDArray[Any]]) -> tuple[Arrays, Places]:
        """All arrays of a batch of manifest ``rows``, and where these are in the arrays, by what those have rows of."""

    def fitting(self) -> int:
        """Images of this phase that fit into memory at a time, or as many as params or the intervention want."""
        plan, wanted = self.plan, self.plan.extraction
        if plan.intervention is not None and plan.intervention.batch is not None:
            return plan.intervention.batch
        return batch_size(
            wanted.batch_size, self.backbone, plan.intervention, self.readers, wanted.precision, wanted.memory_mb
        )


class WholeImages(Phase):
    """Images of which only tokens of the whole image are kept: [CLS], registers, the mean patch."""

    def readers(self) -> list[Reader]:
        """Readers of arrays with rows ``all``."""
        backbone, layout, wanted = self.backbone, self.plan.layout, self.plan.extraction
        readers: list[Reader] = [Tokens(backbone, layout)]
        if has_head(backbone):
            readers.append(OwnHead(backbone, layout))
        if wanted.cls_blocks and layout.cls:
            readers.append(ClsByBlock(backbone, layout, wanted.cls_blocks))
        if self.plan.intervention is not None:
            return readers
        if wanted.specials_layers:
            readers.append(SpecialsByLayer(backbone, layout))
        if wanted.cls_parts and layout.cls and adds_up(backbone):
            readers.append(ClsParts(backbone, layout))
        return readers

    def placed(self, rows: Rows, values: Mapping[str, NDArray[Any]]) -> tuple[Arrays, Places]:
        """A row for every image that passes."""
        named = {"rows": rows} if self.plan.frozen_only else {}
        return {**values, **named}, {"all": np.searchsorted(self.plan.passed, rows)}


class TrainDenseImages(WholeImages):
    """Images of split ``train`` of which patch tokens and norms are kept as well, in arrays of their own."""

    OWN = ("patches", "norms")

    def readers(self) -> list[Reader]:
        """Readers of arrays with rows ``all`` and ``train``."""
        layout = self.plan.layout
        return [*super().readers(), Patches(self.backbone, layout), Norms(self.backbone, layout)]

    def specs(self) -> dict[str, Spec]:
        """Arrays that only these images have."""
        specs = {name: spec for reader in self.readers() for name, spec in reader.specs().items() if name in self.OWN}
        specs = {f"train_{name}": replace(spec, rows="train") for name, spec in specs.items()}
        return specs | {"train_rows": Spec((), "int64", "train", "row", "manifest rows of the arrays with train rows")}

    def placed(self, rows: Rows, values: Mapping[str, NDArray[Any]]) -> tuple[Arrays, Places]:
        """A row for every image that passes, and one for every image of these."""
        arrays, places = super().placed(rows, values)
        named = {f"train_{name}" if name in self.OWN else name: array for name, array in arrays.items()}
        return {**named, "train_rows": rows}, {**places, "train": np.searchsorted(self.plan.train_dense, rows)}


class DenseImages(WholeImages):
    """Images of which arrays per token are kept as well; of the first of them with whole attention maps, or sinks."""

    def __init__(self, plan: "Plan", rows: Rows, maps: bool, sinks: bool) -> None:
        super().__init__(plan, rows)
        self.maps, self.sinks = maps, sinks

    @property
    def for_projections(self) -> bool:
        """Unless each image has them at its own size."""
        return not self.plan.native

    def readers(self) -> list[Reader]:
        """Readers of arrays with rows ``all``, ``dense``, ``maps`` and ``sinks``."""
        backbone, layout, wanted = self.backbone, self.plan.layout, self.plan.extraction
        readers = super().readers()
        readers += [
            Patches(backbone, layout),
            Norms(backbone, layout),
            AttentionRows(backbone, layout, wanted.attention_heads, wanted.attention_columns),
        ]
        if wanted.projections and self.for_projections:
            readers.append(Projections(backbone, layout, {**wanted.projections}))
        if wanted.patch_layers:
            readers.append(PatchesByLayer(backbone, layout, wanted.patch_layers))
        if wanted.neighbours:
            readers.append(NeighbourCosines(backbone, layout))
        if self.maps:
            readers.append(AttentionMaps(backbone, layout))
        if self.sinks:
            readers.append(AttentionSinks(backbone, layout))
        return readers

    def placed(self, rows: Rows, values: Mapping[str, NDArray[Any]]) -> tuple[Arrays, Places]:
        """A row for every image that passes, and one for every dense image."""
        arrays, places = super().placed(rows, values)
        at = np.searchsorted(self.plan.dense, rows)
        return {**arrays, "dense_rows": rows}, {**places, "dense": at, "maps": at, "sinks": at}


class SecondViews(Phase):
    """Second views of the first dense images that have one, of which patch tokens alone are kept."""

    def __init__(self, plan: "Plan", rows: Rows) -> None:
        """``rows``: of the images whose second views pass."""
        super().__init__(plan, plan.manifest.numbers_of_views(rows))

    def readers(self) -> list[Reader]:
        """Readers of arrays with rows ``dense``, which are kept under names of their own."""
        backbone, layout, layers = self.backbone, self.plan.layout, self.plan.extraction.patch_layers
        return [Patches(backbone, layout), *([PatchesByLayer(backbone, layout, layers)] if layers else [])]

    def specs(self) -> dict[str, Spec]:
        """Arrays with rows ``pairs``."""
        specs = {name: spec for reader in self.readers() for name, spec in reader.specs().items()}
        own = {pair_name(name): replace(spec, rows="pairs") for name, spec in specs.items()}
        return own | {"pair_rows": Spec((), "int64", "pairs", "row", "manifest rows of the images that these are of")}

    def placed(self, rows: Rows, values: Mapping[str, NDArray[Any]]) -> tuple[Arrays, Places]:
        """A row for every second view; ``rows`` are their numbers."""
        of = np.array([self.plan.manifest.row_of(int(number)) for number in rows], dtype=np.int64)
        named = {pair_name(name): array for name, array in values.items()}
        return {**named, "pair_rows": of}, {"pairs": np.searchsorted(self.plan.pairs, of)}


class NativeImages(Phase):
    """Dense images again, of one padded size of their own, for projections alone."""

    def __init__(self, plan: "Plan", rows: Rows, backbone: Backbone) -> None:
        super().__init__(plan, rows)
        self.backbone = backbone

    @property
    def for_projections(self) -> bool:
        """It is for nothing else."""
        return True

    @property
    def batch_size(self) -> int:
        """One for all sizes."""
        return self.plan.native_batch_size

    def readers(self) -> list[Reader]:
        """Readers of arrays with rows ``native``."""
        layout = layout_under(self.backbone, self.plan.intervention)
        return [Projections(self.backbone, layout, {**self.plan.extraction.projections}, "native")]

    def pixels(self, images: Images, batches: Sequence[Rows]) -> Iterator[Tensor]:
        """Normalised input (b, 3, h, w), padded to whole patches."""
        return images.native(batches, self.backbone.patch)

    def transform(self, height: int, width: int) -> Transform:
        """Pixels stay as they are, padded at the right and at the bottom."""
        grid, patch = self.backbone.layout.grid, self.backbone.patch
        return Transform(height, width, None, (grid[0] * patch[0], grid[1] * patch[1]))

    def placed(self, rows: Rows, values: Mapping[str, NDArray[Any]]) -> tuple[Arrays, Places]:
        """A row for every patch of the dense images, one image after the other."""
        grids, at = self.plan.native_grids, np.searchsorted(self.plan.dense, rows)
        counts = grids.prod(1)
        starts = (np.cumsum(counts) - counts)[at]
        flat = np.concatenate([np.arange(start, start + n) for start, n in zip(starts, counts[at], strict=True)])
        return {**values, "native_start": starts, "native_grid": grids[at]}, {"dense": at, "native": flat}


class Plan:
    """Phases of one condition over one data set: images of which only tokens are kept; of a model as it is, training
    images with their patches; dense ones, the first of them with whole attention maps; second views of the first of
    them that have one; and, if projections are wanted at native size, the dense ones again, size by size.

    ``frozen_only``: the images of split ``train`` do not pass, as no head is refitted on this condition.
    """

    def __init__(
        self,
        backbone: Backbone,
        intervention: Applied | None,
        manifest: Manifest,
        extraction: Extraction,
        frozen_only: bool = False,
    ) -> None:
        self.backbone, self.intervention = backbone, intervention
        self.manifest, self.extraction, self.frozen_only = manifest, extraction, frozen_only
        self.layout = layout_under(backbone, intervention)
        self.passed = self._passed()
        self.dense: Rows = manifest.rows(extraction.dense_split)[: extraction.dense_images]
        self.pairs = self._pairs()
        self.train_dense = self._train_dense()
        self.native = extraction.projections_size == "native"
        self.batch_size = self._dense_phases()[0].fitting()
        self._refuse_lone_images()

    def _passed(self) -> Rows:
        """Manifest rows of the images that pass, ascending."""
        if not self.frozen_only:
            return np.arange(len(self.manifest.table))
        return np.flatnonzero((self.manifest.table["split"] != TRAIN).to_numpy())

    def _train_dense(self) -> Rows:
        """Manifest rows of training images whose patches are kept, ascending.

        They are spread evenly over the split, as folders come class by class. None under an intervention: probes are
        trained on models as they are. None where no training images pass.
        """
        if self.intervention is not None or self.frozen_only or not self.extraction.train_dense_images:
            return np.arange(0)
        rows = np.flatnonzero((self.manifest.table["split"] == TRAIN).to_numpy())
        count = min(self.extraction.train_dense_images, len(rows))
        return np.asarray(rows[np.arange(count) * len(rows) // max(count, 1)])

    def _pairs(self) -> Rows:
        """Manifest rows of the dense images whose second view passes, ascending."""
        if not self.extraction.pairs:
            return np.arange(0)
        rows = [row for row in self.dense if self.manifest.second_view(int(row)) is not None]
        return np.array(rows[: self.extraction.pairs], dtype=np.int64)

    def _refuse_lone_images(self) -> None:
        """Resampling wants two images in every batch: said before the first image is read, not at the lone one."""
        if not shuffles(self.intervention):
            return
        for batch in (batch for phase in self.phases() for batch in phase.batches):
            if len(batch) == 1:
                image = self.manifest.table["image_id"].iloc[self.manifest.row_of(int(batch[0]))]
                raise InputError(
                    f"'{self.manifest.name}': image '{image}' is alone in its batch, so its tokens cannot be resampled "
                    "from another's; take resample_from: calibration, or change what leaves it alone"
                )

    @property
    def images(self) -> int:
        """Images that pass, second views among them, and those twice that pass at two sizes."""
        return len(self.passed) + len(self.pairs) + len(self.dense) * self.native

    def phases(self) -> Iterator[Phase]:
        """In the order in which they are done."""
        yield WholeImages(self, np.setdiff1d(self.passed, [*self.train_dense, *self.dense]))
        if len(self.train_dense):
            yield TrainDenseImages(self, self.train_dense)
        yield from self._dense_phases()
        if len(self.pairs):
            yield SecondViews(self, self.pairs)
        if self.native:
            for size in sorted(set(self._padded_sizes)):
                same = [i for i, other in enumerate(self._padded_sizes) if other == size]
                yield NativeImages(self, self.dense[same], self.backbone.at_size(size))

    def _dense_phases(self) -> list[DenseImages]:
        """Images that are read alike, the ones that take most memory first."""
        maps, sinks = self.extraction.attention_maps, self.extraction.sink_images
        parts = pairwise([*sorted({0, maps, sinks}), max(maps, sinks, len(self.dense))])
        return [DenseImages(self, self.dense[a:b], maps=a < maps, sinks=a < sinks) for a, b in parts]

    @cached_property
    def native_batch_size(self) -> int:
        """One for all sizes, by the largest: to measure each would cost as much as a good part of the pass."""
        largest = max(self._padded_sizes, key=lambda size: size[0] * size[1])
        return NativeImages(self, self.dense, self.backbone.at_size(largest)).fitting()

    def specs(self) -> dict[str, Spec]:
        """All arrays of the condition."""
        specs = {
            name: spec
            for phase in self._phases_of_specs()
            for reader in phase.readers()
            for name, spec in reader.specs().items()
        }
        if len(self.train_dense):
            specs |= TrainDenseImages(self, self.train_dense).specs()
        if len(self.pairs):
            specs |= SecondViews(self, self.pairs).specs()
        if self.frozen_only:
            specs["rows"] = Spec((), "int64", "all", "row", "manifest rows of the arrays with a row per image")
        specs["dense_rows"] = Spec((), "int64", "dense", "row", "manifest rows of the arrays with dense rows")
        if self.native:
            specs["native_start"] = Spec((), "int64", "dense", "row", "first row of the image in native arrays")
            specs["native_grid"] = Spec((2,), "int64", "dense", "patches", "height and width of the image's own grid")
        return specs

    def _phases_of_specs(self) -> list[Phase]:
        """A phase of each sort: rows of native arrays are patches, so that the size does not matter."""
        native = [NativeImages(self, self.dense, self.backbone)] if self.native else []
        return [*self._dense_phases(), *native]

    def counts(self) -> dict[str, int]:
        """Rows of each kind of array."""
        return {
            "all": len(self.passed),
            "dense": len(self.dense),
            "train": len(self.train_dense),
            "maps": min(self.extraction.attention_maps, len(self.dense)),
            "pairs": len(self.pairs),
            "sinks": min(self.extraction.sink_images, len(self.dense)),
            "native": int(self.native_grids.prod(1).sum()) if self.native else 0,
        }

    @cached_property
    def _padded_sizes(self) -> list[Size]:
        """The dense images' own sizes, rounded up to whole patches."""
        table, patch = self.manifest.table.iloc[self.dense], self.backbone.patch
        sizes = zip(table["height"], table["width"], strict=True)
        return [whole_patches((int(height), int(width)), patch) for height, width in sizes]

    @cached_property
    def native_grids(self) -> NDArray[np.int64]:
        """Height and width in patches of the dense images at their own sizes, (dense images, 2)."""
        grids = np.array(self._padded_sizes, dtype=np.int64).reshape(-1, 2) // np.array(self.backbone.patch)
        return np.asarray(grids, dtype=np.int64)
