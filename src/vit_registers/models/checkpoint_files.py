"""Checkpoint files over timm's architectures."""

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from timm.data.config import resolve_data_config
from timm.models import eva, load_state_dict, vision_transformer
from torch import Tensor

from vit_registers.core.errors import InputError
from vit_registers.models import backbone, timm_models
from vit_registers.models.loaded import Loaded

WRAPPERS = ("teacher", "student")  # of self-distillation, beside those that timm unwraps (state_dict, model, EMA)
PREFIXES = ("module.", "backbone.", "encoder.")
HEADS = ("head.", "head_dist.", "fc_norm.", "dino_head.", "ibot_head.", "projector.")


def load(file: str, name: str, arguments: dict[str, Any], preprocess: Mapping[str, Any], key: str) -> Loaded:
    """timm's architecture ``name`` with all weights of ``file`` and no others but a head's.

    Pickles are read as data alone (``weights_only``): a file that would run code is refused. ``preprocess`` is laid
    over what timm gives for the architecture; ``key`` is that of params which messages open with.
    """
    timm_models.untrained(name, arguments, key)
    architecture = timm_models.architecture_of(name, arguments)
    module = backbone.build(architecture)
    where = f"{key}.path: {file}"
    state = _read(Path(file), where)
    _same_grid(state, module, where)
    convert = eva if isinstance(module, eva.Eva) else vision_transformer
    state = convert.checkpoint_filter_fn(state, module)  # type: ignore[arg-type]
    state = {weight: tensor for weight, tensor in state.items() if not weight.startswith(HEADS)}
    wrong = _differences(state, module.state_dict())
    if wrong:
        raise InputError(f"{where}: not the weights of '{name}': {wrong}; correct name or arguments")
    module.load_state_dict(state)
    config = {**resolve_data_config({}, model=module), **preprocess}
    return Loaded(module, architecture, f"{Path(file).name} ({name})", config)


def _read(path: Path, where: str) -> dict[str, Tensor]:
    try:
        state: Any = load_state_dict(str(path))
    except AttributeError:  # timm unwraps dictionaries alone
        state = {}
    except (pickle.UnpicklingError, SafetensorError, RuntimeError, EOFError, ValueError) as error:
        raise InputError(f"{where}: cannot be read as weights ({backbone.reason(error)})") from None
    for wrapper in WRAPPERS:
        state = state.get(wrapper, state)
    state = {key: tensor for key, tensor in state.items() if isinstance(tensor, Tensor)}
    for prefix in PREFIXES:
        if state and all(key.startswith((prefix, *HEADS)) for key in state):
            state = {key.removeprefix(prefix): tensor for key, tensor in state.items()}
    if not state:
        raise InputError(f"{where}: holds no tensors by name; expected a state dict")
    return state


def _same_grid(state: dict[str, Tensor], module: Any, where: str) -> None:
    """Refuse position embeddings of another grid: timm would resample them without a word."""
    positions = state.get("pos_embed")
    if positions is None or positions.ndim != 3 or module.pos_embed is None:
        return
    patches = module.patch_embed.num_patches
    counts = [positions.shape[1] - prefix for prefix in {0, 1, module.num_prefix_tokens}]
    if patches not in counts:
        side = round(max(counts) ** 0.5) * module.patch_embed.patch_size[0]
        raise InputError(
            f"{where}: has {positions.shape[1]} position embeddings where the model has {patches} patches; "
            f"give the size it was trained at, as in arguments: {{img_size: {side}}}, and image_size for another one"
        )


def _differences(found: dict[str, Tensor], expected: dict[str, Tensor]) -> str:
    """The first difference of names or shapes in words; empty where there is none."""
    for key in sorted(found.keys() ^ expected.keys()):
        return f"{'no' if key in expected else 'an unknown'} '{key}'"
    for key, tensor in expected.items():
        if found[key].shape != tensor.shape:
            return f"'{key}' is {list(found[key].shape)} where {list(tensor.shape)} was expected"
    return ""
