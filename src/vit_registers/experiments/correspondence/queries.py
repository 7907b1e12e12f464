"""Patches whose counterparts in another image are known: in second views, and by keypoints of images of one class."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from vit_registers.data.transforms import Floats, Size, Transform
from vit_registers.forward.arrays import pair_name

Indices = NDArray[np.int64]
Marks = NDArray[np.bool_]


@dataclass(frozen=True)
class Grid:
    """Patches of a model's input, row by row: ``shape`` in patches, ``patch`` in pixels, each height and width."""

    shape: Size
    patch: Size

    @property
    def patches(self) -> int:
        """How many there are."""
        return self.shape[0] * self.shape[1]

    @property
    def centres(self) -> Floats:
        """Centre (p, 2) of every patch in pixels of the input, x and y."""
        rows, columns = np.divmod(np.arange(self.patches), self.shape[1])
        return (np.stack([columns, rows], axis=1) + 0.5) * self.patch[::-1]

    def cells(self, points: Floats) -> Indices:
        """The patch (k,) that holds each of some ``points`` (k, 2) of the input; -1 where it is outside."""
        columns, rows = np.floor(points / self.patch[::-1]).astype(np.int64).T
        held = (columns >= 0) & (columns < self.shape[1]) & (rows >= 0) & (rows < self.shape[0])
        return np.where(held, rows * self.shape[1] + columns, -1)


@dataclass(frozen=True)
class Queries(ABC):
    """k patches of images, each to be found among all patches of another image, its gallery.

    ``images`` (k,): whose patch it is, by its place among the dense images; ``cells`` (k,): which of its patches;
    ``galleries`` (k,): which gallery. Queries of one image in one gallery follow each other. ``pictures`` (g,): numbers
    of the galleries in the manifest.
    """

    metric: ClassVar[str]  # the share of them that are found

    images: Indices
    cells: Indices
    galleries: Indices
    pictures: Indices

    @abstractmethod
    def gallery(self, array: str) -> str:
        """Name of the array that holds of galleries what ``array`` holds of dense images."""

    @abstractmethod
    def right(self, found: Indices) -> Marks:
        """Whether each patch (k,) of the gallery that was ``found`` is a right one."""

    @abstractmethod
    def chances(self) -> Floats:
        """Share (k,) of the gallery's patches that are right."""

    @property
    def groups(self) -> Mapping[str | None, Marks]:
        """Queries that are scored together, by the name of their group; all of them have none."""
        return {None: np.ones(len(self.images), dtype=bool)}

    def blocks(self) -> list[slice]:
        """Queries of one image in one gallery."""
        new = (np.diff(self.images) != 0) | (np.diff(self.galleries) != 0)
        edges = [0, *(np.flatnonzero(new) + 1), len(self.images)]
        return [slice(start, stop) for start, stop in pairwise(edges) if start < stop]


@dataclass(frozen=True)
class InSecondViews(Queries):
    """Patches of images in their second views: right is the patch that holds the centre of the patch.

    ``targets`` (k,): these patches; ``patches``: of a gallery; ``on_object`` (k,): whether half of the patch or more is
    object, None where that is not known.
    """

    metric: ClassVar[str] = "correspondence"

    targets: Indices
    patches: int
    on_object: Marks | None

    def gallery(self, array: str) -> str:
        """Second views have arrays of their own."""
        return pair_name(array)

    def right(self, found: Indices) -> Marks:
        """Whether it is that patch."""
        return found == self.targets

    def chances(self) -> Floats:
        """One of all."""
        return np.full(len(self.images), 1.0 / self.patches)

    @property
    def groups(self) -> Mapping[str | None, Marks]:
        """All, and where objects are known, those on objects and those on background."""
        if self.on_object is None:
            return super().groups
        return {**super().groups, "object": self.on_object, "background": ~self.on_object}


@dataclass(frozen=True)
class OfKeypoints(Queries):
    """Patches that hold a keypoint, in other images of the class: right is a patch whose centre is near the same one.

    ``near`` (k, p): which patches of the gallery that holds for.
    """

    metric: ClassVar[str] = "pck"

    near: Marks

    def gallery(self, array: str) -> str:
        """Galleries are dense images too."""
        return array

    def right(self, found: Indices) -> Marks:
        """Whether its centre is near."""
        return self.near[np.arange(len(found)), found]

    def chances(self) -> Floats:
        """Of all patches those that are near."""
        return np.asarray(self.near.mean(axis=1), dtype=np.float64)


def counterparts(matrix: Floats, image: Transform, view: Transform, grid: Grid) -> Indices:
    """For each patch (p,) of an image the patch of its second view that holds its centre; -1 where none does.

    ``matrix`` (2, 3) maps points of the image onto the view, both in their own pixels. A point beyond the border of the
    view is not shown, whatever the view was filled up with there.
    """
    moved = image.to_image(grid.centres) @ matrix[:, :2].T + matrix[:, 2]
    shown = ((moved >= 0.0) & (moved < [view.width, view.height])).all(axis=1)
    return np.where(shown, grid.cells(view.to_input(moved)), -1)


@dataclass(frozen=True)
class Annotated:
    """An image with keypoints: ``points`` (q, 2) in its pixels, which of them are ``visible``, and its object's size.

    ``side``: the larger one of the object's box, in pixels.
    """

    points: Floats
    visible: Marks
    side: float
    transform: Transform


def common(source: Annotated, target: Annotated, grid: Grid, reach: float) -> tuple[Indices, Marks]:
    """Keypoints that both images show at their input: patches (k,) of ``source`` that hold them, and which patches
    (k, p) of ``target`` are no farther from the same keypoint than ``reach`` times the size of the object there.
    """
    cells = grid.cells(source.transform.to_input(source.points))
    shown = grid.cells(target.transform.to_input(target.points)) >= 0
    both = np.flatnonzero(source.visible & target.visible & (cells >= 0) & shown)
    centres = target.transform.to_image(grid.centres)
    away = np.linalg.norm(target.points[both, None] - centres[None], axis=2)
    return cells[both], away <= reach * target.side
