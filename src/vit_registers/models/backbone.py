"""One backbone, whatever it was loaded from: a timm module, its token layout, its preprocessing, its metadata."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors.torch import load_file, save_file
from timm.layers import QuickGELU
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from vit_registers.core.doors import door, read_json
from vit_registers.core.errors import InputError
from vit_registers.core.files import replacing, sha256, write_json
from vit_registers.data.transforms import Size
from vit_registers.models.layout import TokenLayout
from vit_registers.models.outlier_reading import OutlierReader
from vit_registers.models.position_embedding import at_size
from vit_registers.models.preprocess import Preprocess
from vit_registers.models.resampling import PositionResampling
from vit_registers.models.weights import files, hub
from vit_registers.models.weights.hub import HubFile


@dataclass(frozen=True)
class Backbone:
    """A frozen ViT in eval mode and fp32. ``metadata`` is the content of its model.json."""

    name: str
    module: nn.Module
    layout: TokenLayout
    preprocess: Preprocess
    metadata: dict[str, Any]

    @property
    def blocks(self) -> list[nn.Module]:
        """Transformer blocks in order."""
        return list(self.module.blocks)  # type: ignore[arg-type]

    @property
    def depth(self) -> int:
        """Number of blocks."""
        return len(self.blocks)

    @property
    def width(self) -> int:
        """Channels of a token."""
        return int(self.module.embed_dim)  # type: ignore[arg-type]

    @property
    def patch(self) -> Size:
        """Height and width of a patch in pixels."""
        height, width = self.module.patch_embed.feat_ratio(as_scalar=False)  # type: ignore[operator, union-attr]
        return int(height), int(width)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.module.parameters()).device

    def at_size(self, size: Size) -> "Backbone":
        """The same weights for images of ``size`` (height, width); :class:`InputError` unless that is whole patches."""
        patch = self.patch
        if size[0] % patch[0] or size[1] % patch[1]:
            raise InputError(
                f"model '{self.name}': an input of {size[0]}x{size[1]} is not whole patches of {patch[0]}x{patch[1]}; "
                f"give multiples of {patch[0]} and {patch[1]}"
            )
        module = at_size(self.module, size, PositionResampling(**self.metadata.get("positions", {})))
        grid = (size[0] // patch[0], size[1] // patch[1])
        return replace(self, module=module.eval().requires_grad_(False), layout=replace(self.layout, grid=grid))


def pick_device(name: str) -> torch.device:
    """``auto``: cuda, then mps, then cpu. A named device that is not there is refused, never replaced."""
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return torch.device(next(device for device, there in available.items() if there))
    if not available[name]:
        raise InputError(f"params: device: '{name}' is not available here; write auto or cpu")
    return torch.device(name)


def build(architecture: str | Mapping[str, Any]) -> nn.Module:
    """A timm module with untrained weights: by name, by ``name`` and arguments, or ``VisionTransformer`` arguments.

    What is built by name has no head unless ``num_classes`` says so.

    ``clip: true`` stands for what CLIP's towers do otherwise and JSON cannot hold: a norm before the blocks,
    LayerNorm's epsilon of 1e-5, QuickGELU where asked for, no head. ``identity_norms: true`` leaves out all norms.
    ``reads``: an :class:`OutlierReader`.
    """
    arguments = {"name": architecture} if isinstance(architecture, str) else dict(architecture)
    if "name" in arguments:
        classes = arguments.pop("num_classes", 0)
        return timm.create_model(arguments.pop("name"), pretrained=False, num_classes=classes, **arguments).eval()
    if arguments.pop("clip", False):
        activation = QuickGELU if arguments.pop("quick_gelu") else nn.GELU
        arguments |= {"pre_norm": True, "norm_layer": nn.LayerNorm, "act_layer": activation, "num_classes": 0}
    if arguments.pop("identity_norms", False):
        arguments |= {"norm_layer": nn.Identity}
    module = OutlierReader if "reads" in arguments else VisionTransformer
    return module(**arguments).eval()


def state_digest(module: nn.Module) -> str:
    """SHA-256 over names, dtypes, shapes and bytes of all weights, on any device."""
    whole = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        whole.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        whole.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return whole.hexdigest()


def save(folder: Path, module: nn.Module, metadata: Mapping[str, Any]) -> None:
    """Write model.safetensors, then model.json with its checksum, which makes the model whole."""
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in module.state_dict().items()}
    with replacing(folder / "model.safetensors") as temporary:
        save_file(state, temporary)
    weights = {"file": "model.safetensors", "sha256": sha256(folder / "model.safetensors")}
    write_json(folder / "model.json", {**metadata, "weights": weights})


def load(folder: Path | str, device: str = "cpu") -> Backbone:
    """The model of ``folder``'s model.json, with weights that match the checksum recorded at first use."""
    folder = Path(folder)
    again = "delete it and make the model again"
    keys = ("name", "architecture", "weights", "layout", "preprocess")
    metadata = read_json(folder / "model.json", *keys, damaged=again, missing="make the model first")
    module = _load_weights(folder, metadata).eval().requires_grad_(False)
    layout, preprocess = TokenLayout.from_json(metadata["layout"]), Preprocess.from_json(metadata["preprocess"])
    backbone = Backbone(metadata["name"], module.to(pick_device(device)), layout, preprocess, metadata)
    size = metadata.get("image_size")
    return backbone if size is None else backbone.at_size((size[0], size[1]))


def _load_weights(folder: Path, metadata: Mapping[str, Any]) -> nn.Module:
    weights = metadata["weights"]
    if "file" not in weights:
        return _from_elsewhere(metadata["architecture"], weights, f"{folder / 'model.json'}: weights")
    path = folder / weights["file"]
    if not path.is_file() or sha256(path) != weights["sha256"]:
        raise InputError(f"{path}: missing, or not the weights that model.json records; make the model again")
    module = build(metadata["architecture"])
    with door(path, f"weights of {folder.name}", "make the model again"):
        module.load_state_dict(load_file(path))
    return module


def _from_elsewhere(architecture: str | Mapping[str, Any], weights: Mapping[str, Any], where: str) -> nn.Module:
    """A timm model whose weights are drawn again from their seed, or are in the hub's cache."""
    if "hub" in weights:
        return from_hub(architecture, hub.recorded(weights, where), where)
    module = drawn(architecture, weights["seed"])
    if state_digest(module) != weights["sha256"]:
        raise InputError(
            f"{where}: '{architecture}' is drawn otherwise than at first use; take the versions of then, or delete the "
            "file to take the new weights"
        )
    return module


def drawn(architecture: str | Mapping[str, Any], seed: int) -> nn.Module:
    """A module with random weights from ``seed``; torch's global generator stays as it is."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build(architecture)


def from_hub(architecture: str | Mapping[str, Any], file: HubFile, where: str) -> nn.Module:
    """A timm model with all weights of a file of the hub."""
    module, where = build(architecture), f"{where}: {file}"
    name = architecture if isinstance(architecture, str) else architecture["name"]
    files.fill(module, files.read(file.path, where), name, where)
    return module
