"""Test-time registers (jiang2025): activations of register neurons moved from the patches to appended tokens."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import Field, PositiveInt, model_validator

from vit_registers.core.errors import InputError
from vit_registers.core.prose import joined, plural
from vit_registers.interventions.base import Applied, Known, NotApplicable
from vit_registers.interventions.kinds.append import append
from vit_registers.params.base import Tokens
from vit_registers.params.bases import Intervention

if TYPE_CHECKING:
    from torch import Tensor

    from vit_registers.interventions.neuron_sets import RandomNeurons
    from vit_registers.models.backbone import Backbone
    from vit_registers.models.layout import TokenLayout
    from vit_registers.params.study import Params

Neurons = tuple[tuple[int, int], ...]  # (layer, index)


class TestTimeRegisters(Intervention):
    """Test-time registers (jiang2025): register neurons moved from the patches to ``tokens`` appended tokens.

    Right before the MLP's second linear layer, each appended token takes ``scale`` times the value of each neuron that
    is largest in magnitude, with its sign, and the patches take 0 (``zero``), the neuron's mean (``mean``), its mean
    where they exceed mean + sd (``only_outliers``), or stay (``same``). ``tokens: 0`` clears the neurons without a
    register.

    ``neurons`` says which: the first ``top_k`` that detection ``found`` (null: as many as detection takes), the first
    ``half`` of them (two that write in opposite directions stay together), the ``next`` as many in the ranking, or as
    many at ``random`` from the same layers. Random ones may be matched (``matched_on``) to those found by their mean
    |activation| on patches and by the norm of what they write; ``draws`` takes ``one`` set for all images, or another
    for ``each_image``, so that an interval over images is one over sets as well.

    Switches default to what the paper describes. ``value``: of largest ``magnitude``, as published, or the
    ``signed_maximum``, which erases neurons that fire negatively. ``value_over``: the ``patches``, or as the published
    code ``all_tokens`` ([CLS], trained registers, patches and the appended tokens themselves). ``value_per``: each
    ``neuron`` has its own, or as in the published code all selected neurons of a ``layer`` take one. ``images``: the
    published code changes the ``first`` of a batch only. It is called with one image at a time, where that is no
    difference; here it needs a ``batch``, images that pass at a time. ``clear_cls`` clears [CLS] as a patch.
    """

    __test__ = False  # pytest: its name begins as that of a test does

    kind: Literal["test_time_registers"] = "test_time_registers"
    tokens: Tokens
    neurons: Literal["found", "half", "next", "random"] = "found"
    matched_on: list[Literal["activation", "output_norm"]] = Field(default=[])
    draws: Literal["one", "each_image"] = "one"
    top_k: PositiveInt | None = None
    scale: float = 1.0
    patches: Literal["zero", "mean", "only_outliers", "same"] = "zero"
    value: Literal["magnitude", "signed_maximum"] = "magnitude"
    value_over: Literal["patches", "all_tokens"] = "patches"
    value_per: Literal["neuron", "layer"] = "neuron"
    clear_cls: bool = False
    images: Literal["every", "first"] = "every"
    batch: PositiveInt | None = None

    @model_validator(mode="after")
    def _fits_its_neurons(self) -> Self:
        for key in ("matched_on", "draws"):
            if self.neurons != "random" and getattr(self, key) != type(self).model_fields[key].default:
                raise ValueError(f"{key}: is of random neurons, but neurons is {self.neurons}; remove it")
        if len(set(self.matched_on)) < len(self.matched_on):
            raise ValueError(f"matched_on: {', '.join(self.matched_on)} names one twice; name each once")
        if self.images == "first" and self.batch is None:
            raise ValueError("batch: which image is the first depends on it; give it (1 in the published scripts)")
        return self

    def label(self) -> str:
        """``4 test-time registers``; what is otherwise than in the paper is named."""
        return ", ".join([self._moved(), *self._otherwise()])

    def _moved(self) -> str:
        """Which neurons are moved to how many tokens."""
        if self.top_k is not None and self.neurons == "found":
            return f"first {plural(self.top_k, 'neuron')}, {plural(self.tokens, 'token')}"
        which = {
            "found": "neurons",
            "half": "half the neurons",
            "next": "next neurons",
            "random": "matched random neurons" if self.matched_on else "random neurons",
        }[self.neurons]
        if self.tokens == 0:
            return f"{which} cleared"
        if self.scale == 0.0:
            return f"{which} cleared, {plural(self.tokens, 'zero token')}"
        if self.neurons == "found":
            return plural(self.tokens, "test-time register")
        return f"{which}, {plural(self.tokens, 'token')}"

    def _otherwise(self) -> list[str]:
        """What differs from the paper, each in a few words; nothing where no token takes a value."""
        said = []
        if self.patches != "zero":
            said.append(
                {"mean": "patches at mean", "only_outliers": "outliers at mean", "same": "patches kept"}[self.patches]
            )
        if self.tokens:
            said += ["signed maximum"] * (self.value == "signed_maximum")
            said += ["over all tokens"] * (self.value_over == "all_tokens")
            said += ["one value per layer"] * (self.value_per == "layer")
            said += [f"{self.scale:g} times their strength"] * (self.scale not in (0.0, 1.0))
        said += ["[CLS] cleared"] * self.clear_cls
        if self.batch is not None:
            first = self.images == "first" and self.batch > 1
            said.append(f"1st image of {self.batch} only" if first else f"{plural(self.batch, 'image')} at a time")
        return said

    def sentence(self, params: Params) -> str:
        """What the methods text says of it, as LaTeX."""
        patches = {
            "zero": "zero",
            "mean": "the mean over patches",
            "only_outliers": "the mean over patches where it exceeds mean plus standard deviation",
            "same": "left as it is",
        }[self.patches]
        cleared = "; on [CLS]: zero" if self.clear_cls else ""
        only = "" if self.images == "every" else "; only in the first image of every batch"
        only += "" if self.batch is None else f"; in batches of {plural(self.batch, 'image')}"
        if self.tokens == 0:
            return f"{self._which()} are cleared (on patches: {patches}{cleared}) and nothing is appended{only}"
        value = {"magnitude": "value of largest magnitude, with its sign,", "signed_maximum": "largest signed value"}
        over = {"patches": "patches", "all_tokens": "all tokens, the appended ones among them"}[self.value_over]
        own = "each its own" if self.value_per == "neuron" else "one for all neurons of a layer"
        scale = "" if self.scale == 1.0 else f"{self.scale:g} times "
        return (
            f"{plural(self.tokens, 'zero token')} appended; {self._which()} take there {scale}the {value[self.value]} "
            f"over {over}, {own}, and on patches: {patches}{cleared}{only}"
        )

    def _which(self) -> str:
        which = {
            "found": "the register neurons that detection found",
            "half": "the first half of the neurons found, two that write in opposite directions taken together,",
            "next": "as many neurons, the next in the ranking,",
            "random": "as many neurons drawn at random from the same layers",
        }[self.neurons]
        if self.matched_on:
            words = {"activation": "mean absolute activation on patches", "output_norm": "norm of what they write"}
            which += f" among those nearest to the neurons found in {joined([words[q] for q in self.matched_on])}"
        if self.draws == "each_image":
            which += ", another set for each image,"
        if self.top_k is not None:
            which += f" (counting the first {plural(self.top_k, 'neuron')} of the ranking as found)"
        return which

    @property
    def appended(self) -> int:
        """All its tokens."""
        return self.tokens

    @property
    def calibrated(self) -> bool:
        """Whether calibration has to come first: it measures how active neurons are."""
        return "activation" in self.matched_on

    @property
    def moves_neurons(self) -> bool:
        """Detection has to come first."""
        return True

    @property
    def draws_neurons(self) -> bool:
        """Whether its neurons are random."""
        return self.neurons == "random"

    @property
    def as_described(self) -> bool:
        """Whether it is what the paper calls test-time registers: the neurons found, moved with no switch changed."""
        return self.tokens > 0 and self == TestTimeRegisters(tokens=self.tokens)

    @property
    def clears(self) -> bool:
        """Whether it clears the neurons found without a register, and nothing else."""
        return self == TestTimeRegisters(tokens=0)

    def resolve(self, backbone: Backbone, known: Known) -> MovedNeurons | NotApplicable:
        """The neurons that are moved; not applicable where detection found none, or no half of them can be moved."""
        if known.registers is None:
            raise InputError(f"condition '{known.condition}' moves register neurons; detect them first")
        if not known.registers["found"]:
            return NotApplicable(known.registers["reason"])
        chosen = self.choose(backbone, known)
        if not chosen.layers:
            return NotApplicable("the register neurons are one pair that cancels: no half of them can be moved alone")
        return chosen

    def choose(self, backbone: Backbone, known: Known) -> MovedNeurons:
        """Which neurons are moved, of what detection wrote."""
        from vit_registers.interventions import neuron_sets

        assert known.registers is not None
        ranked = [(int(layer), int(index)) for layer, index, _ in known.registers["neurons"]]
        k = self.top_k or int(known.registers["top_k"])
        if len(ranked) < (2 * k if self.neurons == "next" else k):
            raise InputError(
                f"condition '{known.condition}': top_k: {k} neurons, but detection lists {len(ranked)}; lower it, or "
                "raise detection.top_k"
            )
        found = tuple(ranked[:k])
        if self.neurons == "random":
            drawn = neuron_sets.random_neurons(backbone, found, self.matched_on, known.statistics, known.names)
            one = self.draws == "one"
            sets = [drawn.draw(-1)] if one else [drawn.draw(row) for row in range(neuron_sets.COMPARED)]
            like = neuron_sets.likeness(backbone, found, sets, known.statistics)
            return MovedNeurons(self, sets[0] if one else (), None if one else drawn, like)
        if self.neurons == "half":
            return MovedNeurons(self, neuron_sets.half(backbone, found))
        return MovedNeurons(self, found if self.neurons == "found" else tuple(ranked[k : 2 * k]))


@dataclass(frozen=True)
class MovedNeurons(Applied):
    """Test-time registers with their neurons: the same ``neurons`` for every image, or sets ``drawn`` for each.

    ``likeness`` of random ones to those found: see :func:`.neuron_sets.likeness`.
    """

    how: TestTimeRegisters
    neurons: Neurons = ()
    drawn: RandomNeurons | None = None
    likeness: dict[str, list[float]] | None = None

    @property
    def appended(self) -> int:
        """Tokens that the neurons are moved to."""
        return self.how.tokens

    @property
    def batch(self) -> int | None:
        """As params say."""
        return self.how.batch

    @property
    def layers(self) -> list[int]:
        """Layers that neurons are moved in."""
        return self.drawn.layers if self.drawn else sorted({layer for layer, _ in self.neurons})

    def described(self) -> Any:
        """Its params, with the neurons themselves in place of how they were chosen."""
        how = self.how.model_dump(mode="json", exclude={"top_k"})
        if self.likeness:
            how |= {"likeness": self.likeness}
        if self.drawn:
            return how | {"neurons": self.drawn.described()}
        return how | {"neurons": [list(one) for one in self.neurons]}

    def check(self, backbone: Backbone, layout: TokenLayout) -> None:
        """Refuse a neuron that is not there."""
        from vit_registers.forward.hooks import second_linear

        for layer, index in self.neurons:
            width = second_linear(backbone, layer).in_features if 0 <= layer < backbone.depth else 0
            if not 0 <= index < width:
                raise InputError(f"model '{backbone.name}' has no neuron {index} in layer {layer}; detect them again")

    def hooks(self, backbone: Backbone, layout: TokenLayout, stack: ExitStack) -> None:
        """Append the tokens, and move the neurons right before the second linear layer of their MLPs."""
        from vit_registers.forward import hooks

        if self.how.tokens:
            append(backbone, self.how.tokens, stack)
        for layer in self.layers:
            change = partial(self._changed, layer=layer, layout=layout)
            hooks.Hooks(stack).input(hooks.second_linear(backbone, layer), change)

    def _changed(self, activations: Tensor, layer: int, layout: TokenLayout) -> Tensor:
        """Activations (b, t, h) of a layer with its neurons moved."""
        import torch

        indices = torch.tensor(self._indices(layer, len(activations)), device=activations.device)
        return moved(activations, indices, layout, self.how)

    def _indices(self, layer: int, images: int) -> list[list[int]]:
        """Neurons of the layer that are moved in each image of the batch: (b, k)."""
        from vit_registers.forward.reading import rows_of_batch

        if self.drawn is None:
            return [[index for at, index in self.neurons if at == layer]] * images
        sets = (self.drawn.draw(row) for row in rows_of_batch(images))
        return [[index for at, index in neurons if at == layer] for neurons in sets]


def moved(activations: Tensor, indices: Tensor, layout: TokenLayout, how: TestTimeRegisters) -> Tensor:
    """Activations (b, t, h) with the neurons ``indices`` (b, k) moved as ``how`` says; the input is not changed."""
    index = indices[:, None].expand(-1, activations.shape[1], -1)
    chosen = activations.gather(2, index)  # (b, t, k)
    out, patches = chosen.clone(), chosen[:, layout.patch_slice]
    value = largest(patches if how.value_over == "patches" else chosen, how.value)  # (b, 1, k)
    if how.value_per == "layer":
        value = largest(value.transpose(1, 2), how.value).expand_as(value)
    out[:, layout.patch_slice] = _cleared(patches, patches, how)
    if how.clear_cls:
        out[:, layout.cls_slice] = _cleared(chosen[:, layout.cls_slice], patches, how)
    out[:, layout.appended_slice] = (how.scale * value).to(out.dtype)
    if how.images == "first":
        out[1:] = chosen[1:]
    return activations.scatter(2, index, out)


def largest(values: Tensor, by: str) -> Tensor:
    """The value over tokens (b, t, k) -> (b, 1, k) that is largest by ``magnitude``, with its sign, or signed.

    Of opposite values the negative one, as in the published ``sign_max``.
    """
    import torch

    highest = values.amax(dim=1, keepdim=True)
    if by == "signed_maximum":
        return highest
    lowest = values.amin(dim=1, keepdim=True)
    return torch.where(highest.abs() > lowest.abs(), highest, lowest)


def _cleared(values: Tensor, patches: Tensor, how: TestTimeRegisters) -> Tensor:
    """What tokens with ``values`` (b, n, k) of the neurons take, given those of the ``patches`` (b, p, k)."""
    import torch

    if how.patches == "zero":
        return torch.zeros_like(values)
    if how.patches == "same":
        return values
    mean = patches.mean(dim=1, keepdim=True)
    if how.patches == "mean":
        return mean.expand_as(values)
    return torch.where(values > mean + patches.std(1, keepdim=True), mean, values)
