"""Patch features averaged over shifted and mirrored images: the teacher of PH-Reg, without training (phreg2025)."""

from __future__ import annotations

import math
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, PositiveInt

from vit_registers.core import prose
from vit_registers.core.seeds import generator
from vit_registers.interventions.base import Applied, Known, NotApplicable
from vit_registers.params.bases import Intervention

if TYPE_CHECKING:
    from torch import Tensor

    from vit_registers.models.backbone import Backbone
    from vit_registers.models.layout import TokenLayout
    from vit_registers.params.study import Params

View = tuple[int, int, bool]  # patches downwards and to the right, and whether it is mirrored
Grid = tuple[int, int]


class ShiftAverage(Intervention):
    """Patch tokens that leave the model are means over ``views`` of the image, moved by whole patches.

    Artifacts that stay at their places while the image moves are averaged away (phreg2025). The first view is the image
    as it is. Offsets are within ``reach`` of the grid's sides, rounded, and far from each other: of so many random
    ``candidates`` always the one farthest from those chosen; of a small grid there may be fewer. With ``mirror`` a
    random half of the further views are mirrored left to right. What enters from outside is the mean colour, and each
    patch is averaged over the views that show it; neither the filling nor where the farthest-point choice begins is
    stated.

    Views are those of the study, not of the image. [CLS], registers, block outputs, attention and projections are
    those of the image as it is: what is measured on them does not change. It costs a pass for each view.
    """

    kind: Literal["shift_average"] = "shift_average"
    views: Annotated[int, Field(ge=2)] = 10
    reach: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.15
    candidates: PositiveInt = 100
    mirror: bool = True

    def label(self) -> str:
        """``patches averaged over 10 shifts``."""
        return f"patches averaged over {self.views} shifts{'' if self.mirror else ', none mirrored'}"

    def sentence(self, params: Params) -> str:
        """What the methods text says of it, as LaTeX."""
        mirrored = "those after the first mirrored at random, " if self.mirror else ""
        return (
            f"patch tokens after the last block averaged over {self.views} views of the image (or as many as the grid "
            f"has offsets), shifted by whole patches within {prose.percent(self.reach)} of its sides, {mirrored}each "
            r"patch over the views that show it \citep{phreg2025}"
        )

    def resolve(self, backbone: Backbone, known: Known) -> AveragedShifts | NotApplicable:
        """With its seed; not applicable to a grid too small to be shifted."""
        seed, *purpose = known.names
        found = AveragedShifts(self, (int(seed), *purpose))
        height, width = backbone.layout.grid
        if not found.views((height, width)):
            return NotApplicable(f"its {height} by {width} patches are too few to be shifted by {self.reach:g} of them")
        return found


@dataclass(frozen=True)
class AveragedShifts(Applied):
    """Patch tokens averaged over views; ``names`` seed the views."""

    how: ShiftAverage
    names: tuple[str | int, ...]

    def described(self) -> Any:
        """Its params, and what its views are drawn by."""
        return self.how.model_dump(mode="json") | {"names": list(self.names)}

    def views(self, grid: Grid) -> list[View]:
        """Views beside the image as it is, for a ``grid`` of patches."""
        seed, *purpose = self.names
        draw = generator(int(seed), "views", *purpose)
        most = [round(self.how.reach * side) for side in grid]
        drawn = [draw.integers(-side, side + 1, self.how.candidates) for side in most]
        offsets = farthest([(int(y), int(x)) for y, x in zip(*drawn, strict=True)], self.how.views - 1)
        mirrored = draw.random(len(offsets)) < 0.5
        return [(y, x, bool(mirror) and self.how.mirror) for (y, x), mirror in zip(offsets, mirrored, strict=True)]

    def hooks(self, backbone: Backbone, layout: TokenLayout, stack: ExitStack) -> None:
        """Pass the other views first, unread, and put the means in the place of what leaves the last norm."""
        from vit_registers.forward import hooks
        from vit_registers.forward.reading import unread

        views, passing = self.views(layout.grid), [False]
        held: list[Tensor] = []
        seen = 1.0 + sum(_shown(view, layout.grid, backbone) for view in views)  # (p, 1)

        def enter(images: Tensor) -> None:
            if passing[0]:
                return
            passing[0] = True
            try:
                with unread():
                    held[:] = [self._total(backbone, layout, images, views)]
            finally:
                passing[0] = False

        def leave(tokens: Tensor) -> Tensor | None:
            if passing[0]:
                return None
            tokens, total = tokens.clone(), held.pop()
            mean = (total + tokens[:, layout.patch_slice]) / seen
            tokens[:, layout.patch_slice] = mean.to(tokens.dtype)
            return tokens

        on = hooks.Hooks(stack)
        on.input(hooks.patch_embedding(backbone), enter)
        on.output(hooks.after_blocks(backbone), leave)

    def _total(self, backbone: Backbone, layout: TokenLayout, images: Tensor, views: list[View]) -> Tensor:
        """Sum (b, p, d) over ``views`` of the patches' tokens, each where its patch is in the images (b, 3, h, w)."""
        import torch

        total: Tensor | None = None
        for view in views:
            tokens = backbone.module.forward_features(seen_from(images, view, backbone.patch))  # type: ignore[operator]
            patches = tokens[:, layout.patch_slice].to(torch.promote_types(tokens.dtype, torch.float32))
            back = mapped_back(patches, view, layout.grid)
            total = back if total is None else total + back
        assert total is not None
        return total


def farthest(candidates: list[tuple[int, int]], count: int) -> list[tuple[int, int]]:
    """At most ``count`` of the ``candidates``, each the one farthest from the origin and from those before it."""
    chosen = [(0, 0)]
    while len(chosen) <= count:
        distances = [min(math.dist(one, other) for other in chosen) for one in candidates]
        if max(distances) == 0.0:
            break
        chosen.append(candidates[distances.index(max(distances))])
    return chosen[1:]


def seen_from(images: Tensor, view: View, patch: Grid) -> Tensor:
    """Images (b, 3, h, w) mirrored, then moved by whole patches, zeros where there is nothing."""
    down, right, mirrored = view
    return _moved(images.flip(3) if mirrored else images, down * patch[0], right * patch[1])


def mapped_back(patches: Tensor, view: View, grid: Grid) -> Tensor:
    """Patches (b, p, d) of a view where they are in the image as it is, zeros where the view does not show it."""
    down, right, mirrored = view
    moved = _moved(patches.transpose(1, 2).unflatten(2, grid), -down, -right)
    return (moved.flip(3) if mirrored else moved).flatten(2).transpose(1, 2)


def _moved(x: Tensor, down: int, right: int) -> Tensor:
    """(b, c, h, w) moved, zeros where there is nothing."""
    from torch.nn.functional import pad

    height, width = x.shape[2:]
    padded = pad(x, (max(right, 0), max(-right, 0), max(down, 0), max(-down, 0)))
    top, left = max(-down, 0), max(-right, 0)
    return padded[:, :, top : top + height, left : left + width]


def _shown(view: View, grid: Grid, backbone: Backbone) -> Tensor:
    """1 for every patch (p, 1) of the image as it is that a view shows, else 0."""
    import torch

    ones = torch.ones(1, grid[0] * grid[1], 1, device=backbone.device)
    return mapped_back(ones, view, grid)[0]
