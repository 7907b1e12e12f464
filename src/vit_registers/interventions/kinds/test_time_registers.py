"""Test-time registers (jiang2025): activations of register neurons moved from the patches to appended tokens."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from pydantic import NonNegativeInt, PositiveInt

from vit_registers.core.errors import InputError
from vit_registers.core.prose import plural
from vit_registers.core.seeds import generator
from vit_registers.interventions.base import Applied, Known, NotApplicable
from vit_registers.interventions.kinds.append import append
from vit_registers.params.bases import Intervention

if TYPE_CHECKING:
    from torch import Tensor

    from vit_registers.models.backbone import Backbone
    from vit_registers.models.layout import TokenLayout
    from vit_registers.params.study import Params

Neurons = tuple[tuple[int, int], ...]  # (layer, index)


class TestTimeRegisters(Intervention):
    """Test-time registers (jiang2025): register neurons moved from the patches to ``tokens`` appended tokens.

    Right before the MLP's second linear layer, each appended token takes ``scale`` times the signed maximum of each
    neuron over the patches, and the patches take 0 (``zero``), the neuron's mean (``mean``), its mean where they exceed
    mean + sd (``only_outliers``), or stay (``same``). ``tokens: 0`` clears the neurons without a register.

    ``neurons`` says which: the first ``top_k`` that detection ``found`` (null: as many as detection takes), the first
    ``half`` of them, the ``next`` as many in the ranking, or as many at ``random`` from the same layers.
    The switches default to what the paper describes; the published code takes ``max_over: layer``, one maximum over all
    selected neurons of a layer, and ``images: first``, as it changes the first image of a batch only.
    ``max_includes_cls`` and ``clear_cls`` treat [CLS] as a patch.
    """

    __test__ = False  # pytest: its name begins as that of a test does

    kind: Literal["test_time_registers"] = "test_time_registers"
    tokens: NonNegativeInt
    neurons: Literal["found", "half", "next", "random"] = "found"
    top_k: PositiveInt | None = None
    scale: float = 1.0
    patches: Literal["zero", "mean", "only_outliers", "same"] = "zero"
    max_over: Literal["neuron", "layer"] = "neuron"
    max_includes_cls: bool = False
    clear_cls: bool = False
    images: Literal["every", "first"] = "every"

    def label(self) -> str:
        """``4 test-time registers``; what is otherwise than in the paper is named."""
        if self.images == "first":
            return f"{self.model_copy(update={'images': 'every'}).label()}, 1st image only"  # of a batch
        if self.top_k is not None and self.neurons == "found":
            return f"first {plural(self.top_k, 'neuron')}, {plural(self.tokens, 'token')}"
        which = {"found": "neurons", "half": "half the neurons", "next": "next neurons", "random": "random neurons"}
        if self.tokens == 0:
            return f"{which[self.neurons]} cleared"
        if self.scale == 0.0:
            return f"{which[self.neurons]} cleared, {plural(self.tokens, 'zero token')}"
        if self.scale != 1.0:
            return f"{self.model_copy(update={'scale': 1.0}).label()} at {self.scale:g} times their strength"
        if self.neurons == "found":
            return plural(self.tokens, "test-time register")
        return f"{which[self.neurons]}, {plural(self.tokens, 'token')}"

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
        if self.tokens == 0:
            return f"{self._which()} are cleared (on patches: {patches}{cleared}) and nothing is appended{only}"
        over = "patches and [CLS]" if self.max_includes_cls else "patches"
        own = "each its own" if self.max_over == "neuron" else "one for all neurons of a layer"
        scale = "" if self.scale == 1.0 else f"{self.scale:g} times "
        return (
            f"{plural(self.tokens, 'zero token')} appended; {self._which()} take there {scale}the signed maximum "
            f"over {over}, {own}, and on patches: {patches}{cleared}{only}"
        )

    def _which(self) -> str:
        which = {
            "found": "the register neurons that detection found",
            "half": "the first half of the neurons found",
            "next": "as many neurons, the next in the ranking",
            "random": "as many neurons drawn at random from the same layers",
        }[self.neurons]
        if self.top_k is not None:
            which += f" (counting the first {plural(self.top_k, 'neuron')} of the ranking as found)"
        return which

    @property
    def appended(self) -> int:
        """All its tokens."""
        return self.tokens

    @property
    def moves_neurons(self) -> bool:
        """Detection has to come first."""
        return True

    @property
    def as_described(self) -> bool:
        """Whether it is what the paper calls test-time registers: the neurons found, moved in every image."""
        plain = self.tokens > 0 and self.top_k is None and self.scale == 1.0
        return plain and self.neurons == "found" and self.images == "every"

    def resolve(self, backbone: Backbone, known: Known) -> MovedNeurons | NotApplicable:
        """The neurons that are moved; not applicable where detection found none."""
        if known.registers is None:
            raise InputError(f"condition '{known.condition}' moves register neurons; detect them first")
        if not known.registers["found"]:
            return NotApplicable(known.registers["reason"])
        return MovedNeurons(self, self.choose(backbone, known.registers, known.names))

    def choose(self, backbone: Backbone, registers: dict[str, Any], names: tuple[str | int, ...]) -> Neurons:
        """Which neurons are moved, of what detection wrote; ``names`` as in :class:`.Known`.

        Random neurons come from the layers of those found, as many from each, and are none of them.
        """
        ranked = [(int(layer), int(index)) for layer, index, _ in registers["neurons"]]
        k = self.top_k or int(registers["top_k"])
        if len(ranked) < (2 * k if self.neurons == "next" else k):
            raise InputError(
                f"condition '{names[-1]}': top_k: {k} neurons, but detection lists {len(ranked)}; lower it, or raise "
                "detection.top_k"
            )
        if self.neurons == "random":
            return _random(backbone, ranked[:k], names)
        start, stop = {"found": (0, k), "half": (0, k // 2), "next": (k, 2 * k)}[self.neurons]
        return tuple(ranked[start:stop])


def _random(backbone: Backbone, found: list[tuple[int, int]], names: tuple[str | int, ...]) -> Neurons:
    """As many neurons as were ``found`` in each layer, others than these."""
    from vit_registers.forward.hooks import second_linear

    seed, *purpose = names
    rng = generator(int(seed), "random neurons", *purpose)
    chosen: list[tuple[int, int]] = []
    for layer in sorted({layer for layer, _ in found}):
        taken = {index for at, index in found if at == layer}
        others = [i for i in range(second_linear(backbone, layer).in_features) if i not in taken]
        chosen += [(layer, int(index)) for index in rng.choice(others, size=len(taken), replace=False)]
    return tuple(chosen)


@dataclass(frozen=True)
class MovedNeurons(Applied):
    """Activations of ``neurons`` (layer, index) moved from the patches to appended tokens."""

    how: TestTimeRegisters
    neurons: Neurons

    @property
    def appended(self) -> int:
        """Tokens that the neurons are moved to."""
        return self.how.tokens

    def described(self) -> Any:
        """Its params, with the neurons themselves in place of how they were chosen."""
        return self.how.model_dump(mode="json", exclude={"top_k"}) | {"neurons": [list(one) for one in self.neurons]}

    def check(self, backbone: Backbone, layout: TokenLayout) -> None:
        """Refuse a neuron that is not there."""
        from vit_registers.forward.hooks import second_linear

        for layer, index in self.neurons:
            width = second_linear(backbone, layer).in_features if 0 <= layer < backbone.depth else 0
            if not 0 <= index < width:
                raise InputError(f"model '{backbone.name}' has no neuron {index} in layer {layer}; detect them again")

    def hooks(self, backbone: Backbone, layout: TokenLayout, stack: ExitStack) -> None:
        """Append the tokens, and move the neurons right before the second linear layer of their MLPs."""
        import torch

        from vit_registers.forward import hooks

        if self.how.tokens:
            append(backbone, self.how.tokens, stack)
        for layer in sorted({layer for layer, _ in self.neurons}):
            indices = torch.tensor([index for at, index in self.neurons if at == layer], device=backbone.device)
            site = hooks.second_linear(backbone, layer)
            hooks.Hooks(stack).input(site, partial(moved, indices=indices, layout=layout, how=self.how))


def moved(activations: Tensor, indices: Tensor, layout: TokenLayout, how: TestTimeRegisters) -> Tensor:
    """Activations (b, t, h) with the neurons ``indices`` moved as ``how`` says; the input is not changed."""
    import torch

    whole = activations.clone()
    if how.images == "first":
        activations = activations[:1]
    out = whole[: len(activations)]
    chosen = activations[..., indices]  # (b, t, k)
    patches = chosen[:, layout.patch_slice]
    source = torch.cat([chosen[:, layout.cls_slice], patches], dim=1) if how.max_includes_cls else patches
    maximum = source.amax(dim=1, keepdim=True)  # (b, 1, k)
    if how.max_over == "layer":
        maximum = maximum.amax(dim=2, keepdim=True).expand_as(maximum)
    out[:, layout.patch_slice, indices] = _cleared(patches, patches, how)
    if how.clear_cls:
        out[:, layout.cls_slice, indices] = _cleared(chosen[:, layout.cls_slice], patches, how)
    out[:, layout.appended_slice, indices] = (how.scale * maximum).expand(-1, layout.appended, -1).to(out.dtype)
    return whole


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
