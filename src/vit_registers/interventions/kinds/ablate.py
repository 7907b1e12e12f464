"""Zero, mean, noise and resample ablations of [CLS], registers or patches (parodi2026).

Registers at their mean at every block are what massive2024 calls Fix-Reg-Mean.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from vit_registers.core.errors import InputError
from vit_registers.core.seeds import derive
from vit_registers.interventions.base import Applied, Known, NotApplicable
from vit_registers.params.bases import Intervention

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from vit_registers.interventions.activation_statistics import ActivationStatistics
    from vit_registers.models.backbone import Backbone
    from vit_registers.models.layout import TokenLayout
    from vit_registers.params.study import Params

Rows = tuple[int, ...]  # of the manifest: the images of a batch


class Ablate(Intervention):
    """Other values in place of some tokens' state at ``every`` block output (parodi2026), or at the ``last`` only.

    ``tokens``: [CLS]; the trained registers, or those numbered in ``only``; or ``count`` random patches per image, the
    same at all layers, by default as many as the model has registers (the control). ``by``: zero; the calibration mean
    of the layer and token; Gaussian noise of that mean and deviation; or another image's tokens (``resample``). Those
    come from the same ``batch``, shuffled so that none keeps its own, as the paper does (depends on the batch), or from
    a ``calibration`` image as it is untouched, which does not depend on the batch. ``draw``: its number where random
    patches or noise are drawn several times, under conditions of their own.
    """

    kind: Literal["ablate"] = "ablate"
    tokens: Literal["cls", "registers", "patches"]
    by: Literal["zero", "mean", "noise", "resample"] = "zero"
    at: Literal["every", "last"] = "every"
    only: Annotated[list[NonNegativeInt], Field(min_length=1)] | None = None
    count: PositiveInt | None = None
    draw: PositiveInt = 1
    resample_from: Literal["batch", "calibration"] = "batch"

    @model_validator(mode="after")
    def _fits_its_tokens(self) -> Self:
        if self.only is not None and self.tokens != "registers":
            raise ValueError(f"only: numbers registers, but tokens is {self.tokens}; remove it")
        if self.count is not None and self.tokens != "patches":
            raise ValueError(f"count: is of random patches, but tokens is {self.tokens}; remove it")
        if self.draw > 1 and self.tokens != "patches" and self.by != "noise":
            raise ValueError("draw: nothing is drawn; remove it")
        if self.tokens == "patches" and self.by == "resample" and self.resample_from == "calibration":
            raise ValueError("resample_from: calibration keeps no patches of its images; take batch")
        return self

    def label(self) -> str:
        """``registers zeroed``."""
        what = {"cls": "[CLS]", "registers": "registers", "patches": "random patches"}[self.tokens]
        if self.only is not None:
            what = f"register{'s' if len(self.only) > 1 else ''} {', '.join(map(str, self.only))}"
        mean = "at its mean" if self.tokens == "cls" else "at their mean"
        how = {"zero": "zeroed", "mean": mean, "noise": "as noise", "resample": "of another image"}[self.by]
        again = "" if self.draw == 1 else f", draw {self.draw}"
        return f"{what} {how}{'' if self.at == 'every' else ' at the last block'}{again}"

    def sentence(self, params: Params) -> str:
        """What the methods text says of it, as LaTeX."""
        images = params.calibration.images
        resampled = {
            "batch": "those of another image of the batch",
            "calibration": "those of a calibration image, as they are in it untouched",
        }[self.resample_from]
        by = {
            "zero": "zeros",
            "mean": f"their mean over up to {images} calibration images, per block and token",
            "noise": f"Gaussian noise with their mean and deviation over up to {images} calibration images, per "
            "block and token",
            "resample": resampled,
        }[self.by]
        where = "every block" if self.at == "every" else "the last block"
        fixed = self.by == "mean" and self.tokens == "registers" and self.at == "every" and self.only is None
        papers = "massive2024,parodi2026" if fixed else "parodi2026"
        return rf"{self._what()} replaced by {by} at the output of {where} \citep{{{papers}}}"

    def _what(self) -> str:
        """The tokens, in a sentence."""
        if self.tokens == "cls":
            return "[CLS]"
        if self.tokens == "patches" and self.count is None:
            return "as many random patches, drawn per image, as there are registers"
        if self.tokens == "patches":
            return f"{self.count} random patches, drawn per image,"
        if self.only is None:
            return "the registers"
        return f"{'registers' if len(self.only) > 1 else 'register'} {', '.join(map(str, self.only))} (from 0)"

    @property
    def calibrated(self) -> bool:
        """Whether calibration has to come first."""
        return self.by in ("mean", "noise") or (self.by == "resample" and self.resample_from == "calibration")

    def lacking(self, layout: TokenLayout) -> str | None:
        """What a model of this ``layout`` lacks for it, behind "the model has"; None where it lacks nothing."""
        if self.tokens == "patches":
            return None if self.count or layout.registers else "no registers to set the number of patches"
        if not (layout.cls if self.tokens == "cls" else layout.registers):
            return f"no {self.tokens}"
        if self.only is not None and max(self.only) >= layout.registers:
            return f"{layout.registers} registers, numbered from 0"
        return None

    def resolve(self, backbone: Backbone, known: Known) -> Ablation | NotApplicable:
        """The ablation with its seed and statistics; not applicable to a model without such tokens."""
        lacking = self.lacking(backbone.layout)
        if lacking:
            return NotApplicable(f"the model has {lacking}")
        if self.calibrated and known.statistics is None:
            raise InputError(
                f"condition '{known.condition}' replaces tokens by what calibration found; calibrate first"
            )
        seed, *purpose = known.names  # the condition is among them: draws differ by its name
        drawn = self.tokens == "patches" or self.by in ("noise", "resample")
        return Ablation(
            self,
            count=(self.count or backbone.layout.registers) if self.tokens == "patches" else 0,
            seed=derive(int(seed), "replace", *purpose) if drawn else 0,
            statistics=known.statistics if self.calibrated else None,
        )


@dataclass(frozen=True)
class Ablation(Applied):
    """Tokens that take other values at block outputs.

    ``count``: of the random patches of each image. All draws belong to ``seed`` and the image, except the shuffle of a
    batch, which belongs to the batch. ``statistics``: what the values are drawn from, where they are.
    """

    how: Ablate
    count: int = 0
    seed: int = 0
    statistics: ActivationStatistics | None = None

    @property
    def shuffles(self) -> bool:
        """Whether images take tokens of others in their batch."""
        return self.how.by == "resample" and self.how.resample_from == "batch"

    def described(self) -> Any:
        """Its params, seed, and the digest of the file of its activation statistics."""
        found = {"count": self.count, "seed": self.seed}
        return {
            **self.how.model_dump(mode="json"),
            **found,
            "activation_statistics": self.statistics and self.statistics.digest,
        }

    def check(self, backbone: Backbone, layout: TokenLayout) -> None:
        """Refuse tokens that are not there, and a draw from statistics that are not."""
        lacking = self.how.lacking(layout)
        if lacking:
            raise InputError(f"model '{backbone.name}' has {lacking}; there is nothing to ablate")
        if self.how.tokens == "patches" and not 0 < self.count <= layout.patches:
            raise InputError(
                f"model '{backbone.name}' has {layout.patches} patches; it cannot be that {self.count} of them are "
                "ablated, change count"
            )
        if self.how.calibrated and self.statistics is None:
            raise InputError(f"model '{backbone.name}' needs calibration before its tokens are ablated so")

    def hooks(self, backbone: Backbone, layout: TokenLayout, stack: ExitStack) -> None:
        """Overwrite the tokens at the output of the blocks."""
        from vit_registers.forward import hooks

        layers = range(backbone.depth) if self.how.at == "every" else [backbone.depth - 1]
        for layer in layers:
            overwrite = partial(self._overwritten, layer=layer, depth=backbone.depth, layout=layout)
            hooks.Hooks(stack).output(hooks.block(backbone, layer), overwrite)

    def _overwritten(self, output: Tensor, layer: int, depth: int, layout: TokenLayout) -> Tensor:
        """Output (b, t, d) of block ``layer`` with the tokens ablated."""
        import torch

        from vit_registers.forward.reading import rows_of_batch

        of = rows_of_batch(len(output)) if self.how.by != "zero" or self.how.tokens == "patches" else ()
        at = self._positions(layout, len(output), of)  # (b, k)
        images = torch.arange(len(output))[:, None]
        output = output.clone()
        output[images, at] = self._values(layer, depth, output, at, of)
        return output

    def _positions(self, layout: TokenLayout, images: int, of: Rows) -> Tensor:
        """Positions (b, k) in the sequence of the tokens that are ablated in each image."""
        import torch

        if self.how.tokens == "patches":
            drawn = [_draw(self.seed, "patches", row) for row in of]
            chosen = [torch.randperm(layout.patches, generator=draw)[: self.count] for draw in drawn]
            return torch.stack(chosen) + layout.patch_slice.start
        span = layout.cls_slice if self.how.tokens == "cls" else layout.register_slice
        every = torch.arange(span.start, span.stop)
        return (every if self.how.only is None else every[list(self.how.only)]).expand(images, -1)

    def _values(self, layer: int, depth: int, output: Tensor, at: Tensor, of: Rows) -> Tensor:
        """What stands there instead: (b, k, d) in the dtype and on the device of the block's ``output``."""
        if self.how.by == "zero":
            return output.new_zeros(*at.shape, output.shape[-1])
        if self.shuffles:
            return output[derangement(len(output), self.seed)[:, None], at]
        assert self.statistics is not None
        if self.how.by == "resample":
            return self._resampled(self.statistics, layer, at, of).to(output)
        mean, sd = self._mean_and_sd(self.statistics, layer, at)
        if self.how.by == "mean":
            return mean.to(output)
        return (mean + sd * self._noise(layer, (depth, *mean.shape[1:]), of)).to(output)

    def _mean_and_sd(self, statistics: ActivationStatistics, layer: int, at: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and deviation (b, k, d) of the tokens at ``at`` (b, k) over calibration images."""
        if self.how.tokens == "patches":
            mean, sd = (x[layer].expand(*at.shape, -1) for x in (statistics.patch_mean, statistics.patch_sd))
        else:  # positions of specials are their numbers among them: no token is both special and behind the patches
            mean, sd = (x[layer][at] for x in (statistics.mean, statistics.sd))
        return mean, sd

    def _noise(self, layer: int, shape: tuple[int, ...], of: Rows) -> Tensor:
        """Standard normal (b, k, d) of a layer: each image draws once for all layers, (layers, k, d)."""
        import torch

        return torch.stack([torch.randn(shape, generator=_draw(self.seed, "noise", row))[layer] for row in of])

    def _resampled(self, statistics: ActivationStatistics, layer: int, at: Tensor, of: Rows) -> Tensor:
        """The same tokens (b, k, d) of a calibration image, one for each image."""
        import torch

        sources = statistics.resample_sources
        drawn = torch.tensor([derive(self.seed, "donor", row) % len(sources) for row in of])
        return sources[drawn[:, None], layer, at]


def _draw(seed: int, purpose: str, row: int) -> torch.Generator:
    """Generator of what is drawn for an image."""
    import torch

    return torch.Generator().manual_seed(derive(seed, purpose, row))


def derangement(images: int, seed: int) -> Tensor:
    """A permutation of a batch that leaves no image in its place: a random cyclic order, each takes its successor's."""
    import torch

    if images < 2:
        raise InputError("tokens cannot be resampled within a batch of one image; raise extraction.batch_size")
    order = torch.randperm(images, generator=torch.Generator().manual_seed(derive(seed, "shuffle", images)))
    source = torch.empty(images, dtype=torch.long)
    source[order] = order.roll(-1)
    return source
