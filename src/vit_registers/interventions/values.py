"""Interventions as values: what is done to a backbone's tokens during a pass (put in force by :mod:`applied`).

Each is a small frozen dataclass and works on every image of a batch by itself. ``None`` is the empty intervention, the
baseline.
"""

from dataclasses import dataclass, fields
from typing import Any, Literal

import torch
from timm.models.eva import EvaBlock
from timm.models.vision_transformer import Block

from vit_registers.core.errors import InputError
from vit_registers.interventions.activation_statistics import Moments
from vit_registers.models.backbone import Backbone
from vit_registers.models.layout import TokenLayout
from vit_registers.params import needs_calibration


@dataclass(frozen=True)
class Append:
    """Zero tokens at the end of the sequence, after position embeddings and before the norm in front of the blocks."""

    tokens: int


@dataclass(frozen=True)
class MoveNeurons:
    """Test-time registers (jiang2025): activations of register neurons moved from the patches to appended tokens.

    Right before the MLP's second linear layer, each appended token takes ``scale`` times the signed maximum of each
    neuron over the patches, and the patches take 0 (``zero``), the neuron's mean (``mean``), its mean where they exceed
    mean + sd (``only_outliers``), or stay (``same``). ``max_over: layer`` is the published code: one maximum over all
    selected neurons of a layer, and ``images: first``: only the first image of a batch is changed.
    ``max_includes_cls`` and ``clear_cls`` treat [CLS] as a patch.
    """

    neurons: tuple[tuple[int, int], ...]
    tokens: int
    scale: float = 1.0
    patches: str = "zero"
    max_over: str = "neuron"
    max_includes_cls: bool = False
    clear_cls: bool = False
    images: str = "every"


Target = Literal["cls", "registers", "patches"]
Source = Literal["zero", "mean", "noise", "shuffled"]


@dataclass(frozen=True)
class Replace:
    """Other values in place of some tokens' state at ``every`` block output, or at the ``last`` only (parodi2026).

    ``tokens``: [CLS]; the trained registers, or those numbered in ``only``; or ``count`` random patches of each image,
    the same at all layers (the control). ``by``: zeros; the calibration mean of the layer and token; Gaussian noise
    with that mean and deviation; or another image's tokens. Those come from the same ``batch`` (``donors``), shuffled
    so that none keeps its own (parodi2026; depends on the batch), or from a ``calibration`` image as it is untouched.
    All draws belong to ``seed`` and the image, except the shuffle, which belongs to the batch.
    """

    tokens: Target
    by: Source = "zero"
    at: Literal["every", "last"] = "every"
    only: tuple[int, ...] | None = None
    count: int = 0
    donors: Literal["batch", "calibration"] = "batch"
    seed: int = 0
    moments: Moments | None = None


@dataclass(frozen=True)
class RestrictClsAttention:
    """Last layer: the attention output of [CLS] sums over ``patches``, ``registers`` or ``nothing`` only (lappe2025).

    Weights stay as they are, not renormalised, so the parts add up to the whole with [CLS]'s own. Appended tokens are
    registers. ``skip`` keeps the skip connection of [CLS] around this attention; the paper leaves it out.
    """

    to: Literal["patches", "registers", "nothing"]
    skip: bool = False


@dataclass(frozen=True)
class Chain:
    """Several interventions at once, at most one of which appends tokens; later ones act on what earlier ones left."""

    parts: tuple["Append | MoveNeurons | Replace | RestrictClsAttention", ...]


Single = Append | MoveNeurons | Replace | RestrictClsAttention
Intervention = Single | Chain | None


def parts(intervention: Intervention) -> tuple[Single, ...]:
    """The single interventions in order."""
    if intervention is None:
        return ()
    return intervention.parts if isinstance(intervention, Chain) else (intervention,)


def shuffles(intervention: Intervention) -> bool:
    """Whether images take tokens of others in their batch: a batch then needs two of them."""
    replaced = [part for part in parts(intervention) if isinstance(part, Replace)]
    return any(part.by == "shuffled" and part.donors == "batch" for part in replaced)


def described(intervention: Intervention) -> Any:
    """Plain JSON that tells interventions apart; calibration moments by the digest of their file."""
    if intervention is None:
        return None
    if isinstance(intervention, Chain):
        return [described(part) for part in intervention.parts]
    values = {f.name: getattr(intervention, f.name) for f in fields(intervention)}
    if isinstance(intervention, Replace):
        values["moments"] = intervention.moments and intervention.moments.digest
    return {"kind": type(intervention).__name__, **values}


def layout_under(backbone: Backbone, intervention: Intervention) -> TokenLayout:
    """Token layout of the sequence while ``intervention`` is in force."""
    appended = [part.tokens for part in parts(intervention) if isinstance(part, Append | MoveNeurons)]
    return backbone.layout.with_appended(sum(appended))


def check(backbone: Backbone, intervention: Intervention) -> None:
    """Refuse an intervention that the backbone has no place for, before any image is read."""
    single = parts(intervention)
    if sum(isinstance(part, Append | MoveNeurons) and part.tokens > 0 for part in single) > 1:
        raise InputError("a chain of interventions appends tokens twice; keep one of those that append")
    layout = layout_under(backbone, intervention)
    for part in single:
        why = _misfit(backbone, layout, part)
        if why:
            raise InputError(f"model '{backbone.name}' {why}")


def _misfit(backbone: Backbone, layout: TokenLayout, part: Single) -> str:
    """Why a single intervention has no place in the backbone; empty where it has."""
    if isinstance(part, MoveNeurons):
        for layer, index in part.neurons:
            width = second_linear(backbone, layer).in_features if 0 <= layer < backbone.depth else 0
            if not 0 <= index < width:
                return f"has no neuron {index} in layer {layer}"
    if isinstance(part, Replace):
        return _misfit_replace(layout, part)
    if isinstance(part, RestrictClsAttention):
        if not layout.cls:
            return "has no [CLS] whose attention could be restricted"
        if part.to == "registers" and not layout.registers + layout.appended:
            return "has no registers that [CLS] could be restricted to"
        block = backbone.blocks[-1]
        if not part.skip and not isinstance(block, Block | EvaBlock):
            return f"has a last block ({type(block).__name__}) that does not norm before it attends: keep the skip"
    return ""


def _misfit_replace(layout: TokenLayout, part: Replace) -> str:
    there = layout.patches if part.tokens == "patches" else getattr(layout, part.tokens)
    if not there:
        return f"has no {part.tokens}; there is nothing to replace"
    if part.only is not None and (part.tokens != "registers" or not all(0 <= i < there for i in part.only)):
        return f"has {layout.registers} registers, numbered from 0; `only: {list(part.only)}` is not among them"
    if part.tokens == "patches" and not 0 < part.count <= there:
        return f"has {there} patches; it cannot be that {part.count} of them are replaced"
    if part.tokens == "patches" and part.by == "shuffled" and part.donors == "calibration":
        return "has no patches among its calibration donors; take donors from the batch"
    if needs_calibration(part.by, part.donors) and part.moments is None:
        return f"needs calibration before its {part.tokens} can be replaced by {part.by}"
    return ""


def second_linear(backbone: Backbone, layer: int) -> Any:
    """The MLP's second linear layer; its input is what the papers call a neuron's activation (also for SwiGLU)."""
    mlp = getattr(backbone.blocks[layer], "mlp", None)
    if not isinstance(getattr(mlp, "fc2", None), torch.nn.Linear):
        raise InputError(f"model '{backbone.name}': block {layer} has no MLP with a second linear layer fc2")
    return mlp.fc2  # type: ignore[union-attr]
