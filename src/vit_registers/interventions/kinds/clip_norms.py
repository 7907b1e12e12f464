"""Outlier patches brought back to the usual norm, or zeroed: a control of what repairs them (outliers2026)."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from vit_registers.interventions.base import Applied, Known, NotApplicable
from vit_registers.interventions.outlier_limits import At, Limits, at_label, limits, norms, where
from vit_registers.params.bases import Intervention

if TYPE_CHECKING:
    from torch import Tensor

    from vit_registers.models.backbone import Backbone
    from vit_registers.models.layout import TokenLayout
    from vit_registers.params.study import Params


class ClipNorms(Intervention):
    """Patches above the threshold of detection, scaled ``to`` the median patch norm of their image, or to zero.

    ``at``: the blocks whose outputs are changed. Clipping takes the norm away and keeps the direction; what a register
    would hold is lost. Published as a control: masking outliers this way made generated images worse (outliers2026).
    """

    kind: Literal["clip_norms"] = "clip_norms"
    to: Literal["median", "zero"] = "median"
    at: At = "arising"

    def label(self) -> str:
        """``outliers clipped``."""
        return f"outliers {'clipped' if self.to == 'median' else 'zeroed'}{at_label(self.at, 'arising')}"

    def sentence(self, params: Params) -> str:
        """What the methods text says of it, as LaTeX."""
        to = {"median": "the median patch norm of their image", "zero": "zero"}[self.to]
        return (
            f"patches whose norm exceeds the threshold of detection scaled to {to} at the output of {where(self.at)} "
            r"\citep{outliers2026}"
        )

    def resolve(self, backbone: Backbone, known: Known) -> ClippedNorms | NotApplicable:
        """With the thresholds of detection; not applicable where it found no outlier patches."""
        found = limits(self.at, backbone.depth, known)
        return found if isinstance(found, NotApplicable) else ClippedNorms(self, found)


@dataclass(frozen=True)
class ClippedNorms(Applied):
    """Outlier patches clipped at some blocks, each with its threshold."""

    how: ClipNorms
    limits: Limits

    def described(self) -> Any:
        """Its params and thresholds."""
        return self.how.model_dump(mode="json") | {"limits": [list(one) for one in self.limits]}

    def hooks(self, backbone: Backbone, layout: TokenLayout, stack: ExitStack) -> None:
        """Scale outliers at the output of the blocks."""
        from vit_registers.forward import hooks

        for layer, limit in self.limits:
            clip = partial(self._clipped, limit=limit, layout=layout)
            hooks.Hooks(stack).output(hooks.block(backbone, layer), clip)

    def _clipped(self, output: Tensor, limit: float, layout: TokenLayout) -> Tensor:
        """Output (b, t, d) of a block with its outlier patches scaled."""
        import torch

        found = norms(output, layout)  # (b, p)
        wanted = found.quantile(0.5, dim=1, keepdim=True) if self.how.to == "median" else torch.zeros_like(found)
        scale = torch.where(found > limit, (wanted / found).clamp(max=1.0), 1.0)  # no norm is raised
        output = output.clone()
        output[:, layout.patch_slice] *= scale[..., None].to(output.dtype)
        return output
