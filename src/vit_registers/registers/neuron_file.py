"""Register neurons in a file: which they are, what they were found in, and whether a model is that one.

``registers.json`` is small and meant to be kept beside one's own code. A neuron is a place in the weights it was found
in, so the file holds checksums of these weights.
"""

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from vit_registers.core.errors import InputError
from vit_registers.core.files import read_json, write_json
from vit_registers.forward.hooks import second_linear
from vit_registers.models.backbone import Backbone, state_digest

FORMAT = "vit-registers neurons, version 1"
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
KEYS = ("format", "model", "architecture", "blocks", "width", "weights", "neurons", "threshold", "settings")


@dataclass(frozen=True)
class Neurons:
    """Register neurons of one model, best first.

    ``neurons``: (layer, index, score) of each, layers from 0; the index counts the inputs of the second linear layer of
    the layer's MLP. ``model``: the name it was asked for by, ``architecture`` what timm builds it from. The model has
    ``blocks`` blocks whose MLPs have ``width`` neurons. ``weights``: SHA-256, by precision, of the weights of the first
    blocks up to the last that has one of the neurons. ``threshold``: the norm above which a patch is an outlier, at
    the block that ``settings`` name with everything else that detection was told and how stable its answer is.
    """

    model: str
    architecture: Any
    blocks: int
    width: int
    weights: dict[str, str]
    neurons: tuple[tuple[int, int, float], ...]
    threshold: float
    settings: dict[str, Any]

    def __len__(self) -> int:
        """How many there are."""
        return len(self.neurons)

    @classmethod
    def of(
        cls, backbone: Backbone, neurons: list[tuple[int, int, float]], threshold: float, settings: dict[str, Any]
    ) -> "Neurons":
        """The ``neurons`` found in ``backbone``."""
        last = max(layer for layer, _, _ in neurons)
        return cls(
            model=backbone.name,
            architecture=backbone.metadata.get("architecture"),
            blocks=backbone.depth,
            width=second_linear(backbone, 0).in_features,
            weights={name: _digest(backbone, last, dtype) for name, dtype in PRECISIONS.items()},
            neurons=tuple(neurons),
            threshold=threshold,
            settings=settings,
        )

    @property
    def places(self) -> tuple[tuple[int, int], ...]:
        """Layer and index of each."""
        return tuple((layer, index) for layer, index, _ in self.neurons)

    def check(self, backbone: Backbone, other_weights: bool = False) -> None:
        """:class:`InputError` unless ``backbone`` has these neurons: in blocks of this number and width, and weights.

        ``other_weights``: whatever its weights are.
        """
        shape = backbone.depth, int(second_linear(backbone, 0).in_features)
        if shape != (self.blocks, self.width):
            raise InputError(
                f"model '{backbone.name}' has {shape[0]} blocks of {shape[1]} neurons; these were found in "
                f"'{self.model}', which has {self.blocks} of {self.width}: find those of this model"
            )
        if other_weights:
            return
        precision = str(second_linear(backbone, 0).weight.dtype).removeprefix("torch.")
        if precision not in self.weights:
            raise InputError(
                f"model '{backbone.name}' is in {precision}, for which there is no checksum; expected one of "
                f"{', '.join(self.weights)}, or pass other_weights=True"
            )
        last = max(layer for layer, _ in self.places)
        if _digest(backbone, last, PRECISIONS[precision]) != self.weights[precision]:
            raise InputError(
                f"model '{backbone.name}' has other weights than '{self.model}' had, in which these neurons were "
                "found: find those of this model, or pass other_weights=True"
            )

    def save(self, path: Path | str) -> None:
        """Write them as JSON, whole or not at all."""
        values = {name: getattr(self, name) for name in KEYS if name != "format"}
        write_json(path, {"format": FORMAT, **values})


def load(path: Path | str) -> Neurons:
    """Neurons that :meth:`Neurons.save` wrote; :class:`InputError` for a file that holds something else."""
    content = read_json(path)
    if not isinstance(content, dict) or content.get("format") != FORMAT or set(content) != set(KEYS):
        raise InputError(f"{path}: not '{FORMAT}'; expected what `vit-registers doctor --save` writes")
    values = {name: content[name] for name in KEYS if name != "format"}
    try:
        neurons = tuple((int(layer), int(index), float(score)) for layer, index, score in values.pop("neurons"))
    except (TypeError, ValueError):
        raise InputError(f"{path}: neurons: expected a list of [layer, index, score]; write the file again") from None
    if not neurons:
        raise InputError(f"{path}: neurons: has none; write the file again")
    return Neurons(neurons=neurons, **values)


def _digest(backbone: Backbone, last: int, dtype: torch.dtype) -> str:
    """SHA-256 of the weights of the blocks up to ``last``, as they are in a precision."""
    blocks = nn.ModuleList(backbone.blocks[: last + 1])
    if any(weights.dtype != dtype for weights in blocks.parameters()):
        blocks = copy.deepcopy(blocks).to(dtype)
    return state_digest(blocks)
