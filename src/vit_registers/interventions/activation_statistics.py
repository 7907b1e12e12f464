"""Activation statistics of block outputs and neurons, and resample sources, that interventions draw from."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from typing_extensions import override

from vit_registers.core.doors import door
from vit_registers.core.files import canonical, replacing, sha256
from vit_registers.forward import sinks
from vit_registers.forward.hooks import second_linear
from vit_registers.forward.readers.base import Reader
from vit_registers.models.attention import Attention
from vit_registers.models.backbone import Backbone

SOURCES = "donors"  # name of the resample sources in the file


@dataclass(frozen=True, eq=False)
class ActivationStatistics:
    """Statistics of raw block outputs over calibration images; equal where the file they came from is.

    ``mean``, ``sd``: of each special token, (layers, specials, d); ``patch_mean``, ``patch_sd``: over all patches,
    (layers, d); ``resample_sources``: special tokens of some images, (images, layers, specials, d);
    ``neuron_activity``: mean |activation| of every neuron over all patches, (layers, h). ``sink_value``: mean value of
    the most attended token of each head, (layers, heads, d / heads); None where params do not ask for it. All fp32, sd
    unbiased.
    """

    mean: Tensor
    sd: Tensor
    patch_mean: Tensor
    patch_sd: Tensor
    resample_sources: Tensor
    neuron_activity: Tensor
    digest: str
    sink_value: Tensor | None = None

    def __eq__(self, other: object) -> bool:
        """By the digest of the file."""
        return isinstance(other, ActivationStatistics) and other.digest == self.digest

    def __hash__(self) -> int:
        """By the digest of the file."""
        return hash(self.digest)


class ActivationStatisticsReader(Reader):
    """Accumulates :class:`ActivationStatistics` in fp64; of the first ``resample_sources`` images tokens are kept."""

    def __init__(self, backbone: Backbone, resample_sources: int) -> None:
        layout = backbone.layout
        self.specials, self.patches, self.wanted = list(layout.specials), layout.patch_slice, resample_sources
        shape = (backbone.depth, len(self.specials), backbone.width)
        self.images = self.patch_count = 0
        self.special_sums = torch.zeros(2, *shape, dtype=torch.float64)
        self.patch_sums = torch.zeros(2, backbone.depth, backbone.width, dtype=torch.float64)
        self.sources: list[list[Tensor]] = [[] for _ in range(backbone.depth)]
        self.activity = torch.zeros(backbone.depth, second_linear(backbone, 0).in_features, dtype=torch.float64)

    @override
    def block(self, layer: int, tokens: Tensor) -> None:
        specials = tokens[:, self.specials].to("cpu", torch.float64)
        patches = tokens[:, self.patches].to("cpu", torch.float64)
        self.special_sums[:, layer] += torch.stack([specials.sum(0), specials.square().sum(0)])
        self.patch_sums[:, layer] += torch.stack([patches.sum((0, 1)), patches.square().sum((0, 1))])
        self.sources[layer].append(specials[: max(0, self.wanted - self.images)].float())
        if layer == len(self.sources) - 1:
            self.images += len(tokens)
            self.patch_count += len(tokens) * patches.shape[1]

    @override
    def activation(self, layer: int, activations: Tensor) -> None:
        self.activity[layer] += activations[:, self.patches].float().abs().sum((0, 1)).to("cpu", torch.float64)

    def finish(self) -> dict[str, Tensor]:
        """Tensors of :class:`ActivationStatistics`, by their names in the file."""
        mean, sd = _mean_and_sd(self.special_sums, self.images)
        patch_mean, patch_sd = _mean_and_sd(self.patch_sums, self.patch_count)
        sources = torch.stack([torch.cat(parts) for parts in self.sources], dim=1)
        patches = {"patch_mean": patch_mean, "patch_sd": patch_sd}
        activity = (self.activity / self.patch_count).float()
        return {"mean": mean, "sd": sd, **patches, "neuron_activity": activity, SOURCES: sources}


class SinkValueReader(Reader):
    """Accumulates, in fp64, the value of the most attended token of every head (fesser2026)."""

    def __init__(self, backbone: Backbone) -> None:
        self.sums = [torch.zeros((), dtype=torch.float64)] * backbone.depth
        self.images = 0

    @override
    def attention(self, layer: int, attention: Attention) -> None:
        found = sinks.values(attention, sinks.find(attention).token)
        self.sums[layer] = self.sums[layer] + found.to("cpu", torch.float64).sum(0)
        self.images += len(found) if layer == 0 else 0

    def finish(self) -> dict[str, Tensor]:
        """The mean, by its name in :class:`ActivationStatistics`."""
        return {"sink_value": (torch.stack(self.sums) / self.images).float()}


def _mean_and_sd(sums: Tensor, count: int) -> tuple[Tensor, Tensor]:
    mean = sums[0] / count
    variance = (sums[1] - count * mean.square()) / (count - 1)
    return mean.float(), variance.clamp(min=0.0).sqrt().float()


def save(path: Path, tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> None:
    """Write the tensors with ``about`` in the file's metadata, whole or not at all.

    As one entry: safetensors writes several in an order that changes from run to run.
    """
    with replacing(path) as temporary:
        whole = {name: tensor.contiguous() for name, tensor in tensors.items()}
        save_file(whole, temporary, {"about": canonical(about)})


def load(path: Path) -> ActivationStatistics:
    """Read what :func:`save` wrote; :class:`InputError` where it is not there."""
    again = "run `vit-registers calibrate` for this model and data set"
    with door(path, "activation statistics", f"{again} again", f"{again} first"):
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return ActivationStatistics(resample_sources=tensors.pop(SOURCES), **tensors, digest=sha256(path))
