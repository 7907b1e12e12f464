"""What attention sinks hand to those that attend to them, edited: their values alone, with controls (fesser2026)."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import model_validator

from vit_registers.core.errors import InputError
from vit_registers.core.seeds import derive
from vit_registers.interventions.base import Applied, Known
from vit_registers.interventions.kinds.ablate import derangement
from vit_registers.params.bases import Intervention

if TYPE_CHECKING:
    from torch import Tensor

    from vit_registers.forward.sinks import Sinks
    from vit_registers.interventions.activation_statistics import ActivationStatistics
    from vit_registers.models.attention import Attention
    from vit_registers.models.backbone import Backbone
    from vit_registers.models.layout import TokenLayout
    from vit_registers.params.study import Params


class EditSinkValues(Intervention):
    """Another value in place of a sink's, head by head: ``zero``, its ``mean``, or that of a donor.

    Queries and keys stay, and so does the attention map. ``of``: the most attended token of the head (``sink``), or as
    the control one of all its other tokens, drawn anew for each image, block and head (``random_nonsink``, set to
    zero). ``mean``: of the most attended token of the same block and head over calibration images. The donor is another
    image of the batch, none its own: its most attended token in the same head (``donor_sink``), or one of all its
    other tokens, drawn anew (``donor_nonsink``).

    ``which``: heads of an image in which there is a sink event (``events``), or all (``most_attended``); the control is
    in the same heads. ``at``: in every block, or in the ``last`` alone.
    """

    kind: Literal["edit_sink_values"] = "edit_sink_values"
    to: Literal["zero", "mean", "donor_sink", "donor_nonsink"] = "zero"
    of: Literal["sink", "random_nonsink"] = "sink"
    which: Literal["events", "most_attended"] = "events"
    at: Literal["every", "last"] = "every"

    @model_validator(mode="after")
    def _controls_are_zeroed(self) -> Self:
        if self.of == "random_nonsink" and self.to != "zero":
            raise ValueError(f"to: {self.to} is of the sink, but of is random_nonsink; take zero")
        return self

    def label(self) -> str:
        """``values of sinks zeroed``."""
        of = {"events": "sinks", "most_attended": "most attended tokens"}[self.which]
        of = of if self.of == "sink" else f"random tokens beside {of}"
        to = {
            "zero": "zeroed",
            "mean": "at their mean",
            "donor_sink": "of another image",
            "donor_nonsink": "of other tokens of another image",
        }[self.to]
        return f"values of {of} {to}{'' if self.at == 'every' else ' at the last block'}"

    def sentence(self, params: Params) -> str:
        """What the methods text says of it, as LaTeX."""
        to = {
            "zero": "zeros",
            "mean": "the mean of the most attended token of that block and head over up to "
            f"{params.calibration.images} calibration images",
            "donor_sink": "the value of the most attended token of another image of the batch in the same head",
            "donor_nonsink": "the value of a random other token of another image of the batch in the same head",
        }[self.to]
        where = "every block" if self.at == "every" else "the last block"
        heads = "in every head that has a sink" if self.which == "events" else "in every head"
        of = "the most attended token" if self.of == "sink" else "a random token that is not the most attended one"
        return rf"in {where}, {heads}, the value of {of} replaced by {to} \citep{{fesser2026}}"

    @property
    def calibrated(self) -> bool:
        """Whether it needs the mean over calibration images."""
        return self.to == "mean"

    def resolve(self, backbone: Backbone, known: Known) -> EditedSinkValues:
        """With its seed and statistics: every model has a most attended token."""
        if self.calibrated and (known.statistics is None or known.statistics.sink_value is None):
            raise InputError(
                f"condition '{known.condition}' needs the mean values of sinks; set calibration.sink_values to true, "
                "and calibrate"
            )
        seed, *purpose = known.names
        drawn = self.of == "random_nonsink" or self.to.startswith("donor")
        return EditedSinkValues(
            self,
            seed=derive(int(seed), "sinks", *purpose) if drawn else 0,
            statistics=known.statistics if self.calibrated else None,
        )


@dataclass(frozen=True)
class EditedSinkValues(Applied):
    """Values of sinks that are others; draws belong to ``seed`` and the image, donors to ``seed`` and the batch."""

    how: EditSinkValues
    seed: int = 0
    statistics: ActivationStatistics | None = None

    @property
    def shuffles(self) -> bool:
        """Whether images take values of others in their batch."""
        return self.how.to.startswith("donor")

    def described(self) -> Any:
        """Its params, seed, and the digest of the file of its activation statistics."""
        digest = self.statistics and self.statistics.digest
        return {**self.how.model_dump(mode="json"), "seed": self.seed, "activation_statistics": digest}

    def check(self, backbone: Backbone, layout: TokenLayout) -> None:
        """Refuse means that are not there, and a sequence without another token."""
        if self.how.calibrated and (self.statistics is None or self.statistics.sink_value is None):
            raise InputError(f"model '{backbone.name}' needs calibration before values of its sinks are at their mean")
        if layout.length < 2:
            raise InputError(f"model '{backbone.name}' has one token; there is none beside the most attended one")

    def hooks(self, backbone: Backbone, layout: TokenLayout, stack: ExitStack) -> None:
        """Edit the outputs of the attention."""
        from vit_registers.forward import sinks
        from vit_registers.forward.tap import tapped

        layers = range(backbone.depth) if self.how.at == "every" else [backbone.depth - 1]

        def edit(layer: int, attention: Attention, out: Tensor) -> Tensor:
            if layer not in layers:
                return out
            found = sinks.find(attention)
            where = found.events if self.how.which == "events" else found.events | True
            if not where.any():
                return out
            return self._edited(attention, found, where, layer, backbone.depth, out)

        stack.enter_context(tapped(backbone, edit=edit))

    def _edited(self, attention: Attention, found: Sinks, where: Tensor, layer: int, depth: int, out: Tensor) -> Tensor:
        """Output (b, h, t, d / h) of a block's attention with the values of some tokens edited ``where`` (b, h)."""
        import torch

        from vit_registers.forward import sinks

        token, column = found.token, found.column
        if self.how.of == "random_nonsink":
            token = self._other(found, layer, depth)
            column = attention.column(token)
        change = self._value(attention, found, layer, depth) - sinks.values(attention, token)  # (b, h, d / h)
        new = out.to(torch.promote_types(out.dtype, torch.float32)) + column[..., None] * change[:, :, None]
        return torch.where(where[..., None, None], new.to(out.dtype), out)

    def _value(self, attention: Attention, found: Sinks, layer: int, depth: int) -> Tensor:
        """What stands in place of the value: (b, h, d / h), or what broadcasts to it."""
        import torch

        from vit_registers.forward import sinks

        if self.how.to == "zero":
            return torch.zeros((), device=found.column.device)
        if self.how.to == "mean":
            assert self.statistics is not None
            assert self.statistics.sink_value is not None
            return self.statistics.sink_value[layer].to(found.column.device)
        token = found.token if self.how.to == "donor_sink" else self._other(found, layer, depth)
        return sinks.values(attention, token)[derangement(len(token), self.seed)]

    def _other(self, found: Sinks, layer: int, depth: int) -> Tensor:
        """A token (b, h) of each head that is not the most attended one, of all others with the same chance."""
        import torch

        from vit_registers.forward.reading import rows_of_batch

        heads, tokens = found.token.shape[1], found.column.shape[2]
        draws = [
            torch.Generator().manual_seed(derive(self.seed, "token", row)) for row in rows_of_batch(len(found.token))
        ]
        steps = torch.stack([torch.randint(1, tokens, (depth, heads), generator=draw)[layer] for draw in draws])
        return (found.token + steps.to(found.token.device)) % tokens
