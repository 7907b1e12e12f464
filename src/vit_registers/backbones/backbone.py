"""One backbone, whatever it was loaded from: a timm module, its token layout, its preprocessing, its card."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import timm
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from timm.layers import QuickGELU
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as transforms

from vit_registers.backbones.layout import TokenLayout
from vit_registers.errors import InputError
from vit_registers.files import digest, read_json, replacing, sha256, write_json


@dataclass(frozen=True)
class Preprocess:
    """Image to tensor (3, size, size): shorter side resized to ``resize``, centre crop of ``size``, normalised."""

    size: int
    resize: int
    interpolation: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def __call__(self, image: Image.Image) -> Tensor:
        """An RGB image as float32 (3, size, size)."""
        return self.normalise(self.pixels(image))

    def pixels(self, image: Image.Image) -> Tensor:
        """An RGB image as uint8 (3, size, size), resized and cropped: what is worth keeping in memory."""
        if min(image.size) != self.resize:
            mode = InterpolationMode(self.interpolation)
            image = transforms.resize(image, [self.resize], interpolation=mode, antialias=True)
        return transforms.pil_to_tensor(transforms.center_crop(image, [self.size, self.size]))

    def normalise(self, pixels: Tensor) -> Tensor:
        """uint8 (..., 3, h, w) to float32, normalised with mean and std."""
        mean = torch.tensor(self.mean, device=pixels.device).view(3, 1, 1)
        std = torch.tensor(self.std, device=pixels.device).view(3, 1, 1)
        return (pixels.float() / 255.0 - mean) / std

    def to_json(self) -> dict[str, Any]:
        """Plain JSON for the model card."""
        return {**asdict(self), "mean": list(self.mean), "std": list(self.std)}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Preprocess":
        """Inverse of :meth:`to_json`."""
        return cls(**{**content, "mean": tuple(content["mean"]), "std": tuple(content["std"])})


@dataclass(frozen=True)
class Backbone:
    """A frozen ViT in eval mode and fp32. ``card`` is the content of its model.json."""

    name: str
    module: nn.Module
    layout: TokenLayout
    preprocess: Preprocess
    card: dict[str, Any]

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
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.module.parameters()).device


def pick_device(name: str) -> torch.device:
    """``auto``: cuda, then mps, then cpu. A named device that is not there is refused, never replaced."""
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return torch.device(next(device for device, there in available.items() if there))
    if not available[name]:
        raise InputError(f"params: device: '{name}' is not available here; write auto or cpu")
    return torch.device(name)


def layout_of(module: nn.Module, name: str) -> TokenLayout:
    """Token layout of a timm ViT at its own input size; an architecture whose tokens cannot be told is refused."""
    if not isinstance(module, VisionTransformer | Eva):
        raise InputError(f"model '{name}' is a {type(module).__name__}; expected timm's VisionTransformer or Eva")
    cls = int(module.cls_token is not None)
    registers = 0 if module.reg_token is None else int(module.reg_token.shape[1])
    if cls + registers != module.num_prefix_tokens:
        raise InputError(
            f"model '{name}' has prefix tokens that are neither [CLS] nor registers; it cannot be laid out"
        )
    if not all(getattr(block.attn, "fused_attn", False) for block in module.blocks):
        raise InputError(f"model '{name}': attention that bypasses scaled_dot_product_attention cannot be measured")
    height, width = module.patch_embed.grid_size
    return TokenLayout(cls, registers, (int(height), int(width)))


def build(architecture: str | Mapping[str, Any], image_size: int | None = None) -> nn.Module:
    """A timm module with untrained weights, by name or as ``VisionTransformer`` keyword arguments.

    ``clip: true`` stands for what CLIP's towers do otherwise and JSON cannot hold: a norm before the blocks,
    LayerNorm's epsilon of 1e-5, QuickGELU where asked for, no head.
    """
    if not isinstance(architecture, str):
        arguments = dict(architecture)
        if arguments.pop("clip", False):
            activation = QuickGELU if arguments.pop("quick_gelu") else nn.GELU
            arguments |= {"pre_norm": True, "norm_layer": nn.LayerNorm, "act_layer": activation, "num_classes": 0}
        return VisionTransformer(**arguments).eval()
    size: dict[str, Any] = {} if image_size is None else {"img_size": image_size}
    return timm.create_model(architecture, pretrained=False, num_classes=0, **size).eval()


def state_digest(module: nn.Module) -> str:
    """SHA-256 over names, shapes and bytes of all weights, on any device."""
    parts = {
        name: digest([list(tensor.shape), tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes().hex()])
        for name, tensor in module.state_dict().items()
    }
    return digest(parts)


def save(folder: Path, module: nn.Module, card: Mapping[str, Any]) -> None:
    """Write model.safetensors, then model.json with its checksum, which makes the model whole."""
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in module.state_dict().items()}
    with replacing(folder / "model.safetensors") as temporary:
        save_file(state, temporary)
    weights = {"file": "model.safetensors", "sha256": sha256(folder / "model.safetensors")}
    write_json(folder / "model.json", {**card, "weights": weights})


def load(folder: Path | str, device: str = "cpu") -> Backbone:
    """The model of ``folder``'s model.json, with weights that match the checksum recorded at first use."""
    folder = Path(folder)
    card = read_json(folder / "model.json")
    weights = card["weights"]
    if "file" in weights:
        path = folder / weights["file"]
        if not path.is_file() or sha256(path) != weights["sha256"]:
            raise InputError(f"{path}: missing, or not the weights that model.json records; make the model again")
        module = build(card["architecture"], card.get("image_size"))
        module.load_state_dict(load_file(path))
    else:
        module = from_hub(card["architecture"], weights, card.get("image_size"))
        if state_digest(module) != weights["sha256"]:
            raise InputError(
                f"{folder / 'model.json'}: the weights of '{card['architecture']}' changed since first use"
            )
    module.eval().requires_grad_(False)
    preprocess = Preprocess.from_json(card["preprocess"])
    layout = TokenLayout.from_json(card["layout"])
    return Backbone(card["name"], module.to(pick_device(device)), layout, preprocess, card)


def from_hub(architecture: str, weights: Mapping[str, Any], image_size: int | None) -> nn.Module:
    """A timm model with pretrained weights, or with random ones drawn from the recorded seed."""
    if "seed" in weights:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(weights["seed"])
            return build(architecture, image_size)
    size: dict[str, Any] = {} if image_size is None else {"img_size": image_size}
    try:
        return timm.create_model(architecture, pretrained=True, num_classes=0, **size).eval()
    except (OSError, RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(
            f"model '{architecture}': its weights cannot be had ({reason}); connect, or fill the cache"
        ) from None
