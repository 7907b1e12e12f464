"""Outlier patches replaced by the mean of the patches beside them, before the last block (SC-CLIP, scclip2024)."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import Field, PositiveInt, model_validator

from vit_registers.core import prose
from vit_registers.core.errors import InputError
from vit_registers.interventions.base import Applied, Known, NotApplicable
from vit_registers.interventions.outlier_limits import At, at_label, layer_of, limits, norms, where
from vit_registers.params.bases import Intervention

if TYPE_CHECKING:
    from torch import Tensor

    from vit_registers.models.backbone import Backbone
    from vit_registers.models.layout import TokenLayout
    from vit_registers.params.study import Params

Blocks = tuple[tuple[int, float | None], ...]  # (layer, threshold), by layer; none where LOF tells outliers


class InterpolateOutliers(Intervention):
    """Outlier patches take the mean of those of their eight neighbours on the grid that are none (scclip2024).

    ``by``: the norm, above the threshold of detection; or as published the local outlier factor (``lof``) over
    ``neighbours`` nearest patches of the image, the share ``contamination`` of the patches of every image, whether it
    has artifacts or not. ``at``: the block whose output is changed, as published the one before the last. An outlier
    among outliers alone stays: the paper's text leaves open what it takes.
    """

    kind: Literal["interpolate_outliers"] = "interpolate_outliers"
    by: Literal["norm", "lof"] = "norm"
    at: At = -2
    neighbours: PositiveInt = 30
    contamination: Annotated[float, Field(gt=0.0, le=0.5)] = 0.05

    @model_validator(mode="after")
    def _fits_its_outliers(self) -> Self:
        for name in ("neighbours", "contamination"):
            if self.by != "lof" and getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(f"{name}: is of the local outlier factor, but by is {self.by}; remove it")
        if self.by == "lof" and self.at in ("arising", "deciding"):
            raise ValueError(f"at: {self.at} is what detection found, but by is lof; name the block, or take every")
        return self

    def label(self) -> str:
        """``outliers interpolated``."""
        of = "" if self.by == "norm" else "LOF "
        return f"{of}outliers interpolated{at_label(self.at, -2)}"

    def sentence(self, params: Params) -> str:
        """What the methods text says of it, as LaTeX."""
        which = {
            "norm": "patches whose norm exceeds the threshold of detection",
            "lof": f"of every image the {prose.percent(self.contamination)} of the patches with the largest local "
            f"outlier factor over {self.neighbours} neighbours",
        }[self.by]
        return (
            f"{which} replaced by the mean of those of their eight neighbours on the grid that are no outliers, at the "
            rf"output of {where(self.at)} \citep{{scclip2024}}"
        )

    def resolve(self, backbone: Backbone, known: Known) -> InterpolatedOutliers | NotApplicable:
        """With the thresholds of detection; not applicable where it found no outlier patches. LOF asks for none."""
        if self.by == "norm":
            found = limits(self.at, backbone.depth, known)
            return found if isinstance(found, NotApplicable) else InterpolatedOutliers(self, found)
        if isinstance(self.at, int):
            return InterpolatedOutliers(self, ((layer_of(self.at, backbone.depth, known), None),))
        return InterpolatedOutliers(self, tuple((layer, None) for layer in range(backbone.depth)))


@dataclass(frozen=True)
class InterpolatedOutliers(Applied):
    """Outlier patches interpolated at some blocks."""

    how: InterpolateOutliers
    blocks: Blocks

    def described(self) -> Any:
        """Its params, blocks and thresholds."""
        return self.how.model_dump(mode="json") | {"blocks": [list(one) for one in self.blocks]}

    def check(self, backbone: Backbone, layout: TokenLayout) -> None:
        """Refuse a grid without neighbours."""
        if layout.patches < 2:
            raise InputError(f"model '{backbone.name}' has {layout.patches} patch; there is none beside it")

    def hooks(self, backbone: Backbone, layout: TokenLayout, stack: ExitStack) -> None:
        """Interpolate at the output of the blocks."""
        from vit_registers.forward import hooks

        for layer, limit in self.blocks:
            change = partial(self._changed, limit=limit, layout=layout)
            hooks.Hooks(stack).output(hooks.block(backbone, layer), change)

    def _changed(self, output: Tensor, limit: float | None, layout: TokenLayout) -> Tensor:
        """Output (b, t, d) of a block with its outlier patches interpolated."""
        output = output.clone()
        patches = output[:, layout.patch_slice]
        output[:, layout.patch_slice] = interpolated(patches, self._outliers(output, limit, layout), layout.grid)
        return output

    def _outliers(self, output: Tensor, limit: float | None, layout: TokenLayout) -> Tensor:
        """Which patches of the ``output`` (b, t, d) of a block are outliers: (b, p)."""
        import torch

        from vit_registers.interventions import local_outlier_factor

        if limit is not None:
            return norms(output, layout) > limit
        points = output[:, layout.patch_slice].to(torch.promote_types(output.dtype, torch.float32))
        return local_outlier_factor.outliers(points, self.how.neighbours, self.how.contamination)


def interpolated(patches: Tensor, outliers: Tensor, grid: tuple[int, int]) -> Tensor:
    """``patches`` (b, p, d) of a ``grid``; ``outliers`` (b, p) take the mean of their neighbours that are none."""
    import torch
    from torch.nn.functional import avg_pool2d

    dtype = torch.promote_types(patches.dtype, torch.float32)
    on_grid = torch.where(outliers[..., None], 0.0, patches.to(dtype)).transpose(1, 2).unflatten(2, grid)
    normal = (~outliers).to(dtype)[:, None].unflatten(2, grid)
    # An outlier itself counts nothing in its window of three by three.
    total, count = (avg_pool2d(x, 3, stride=1, padding=1, divisor_override=1).flatten(2) for x in (on_grid, normal))
    mean = (total / count.clamp(min=1.0)).transpose(1, 2)
    replaced = (outliers & (count[:, 0] > 0.0))[..., None]
    return torch.where(replaced, mean.to(patches.dtype), patches)
