"""What every source of weights ends in, before it gets its metadata."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn


@dataclass(frozen=True)
class Loaded:
    """A timm module at its own input size, and what its metadata need to know.

    ``architecture``: for :func:`backbone.build`. ``config``: crop_pct, crop_mode, interpolation, mean, std, as timm
    names them. ``weights``: where they are had again, with their digest; None where they are to be saved.
    ``origin``: the file that they were taken from, where they are saved in another form.
    """

    module: nn.Module
    architecture: str | dict[str, Any]
    source: str
    config: Mapping[str, Any]
    weights: dict[str, Any] | None = None
    origin: dict[str, Any] | None = None
