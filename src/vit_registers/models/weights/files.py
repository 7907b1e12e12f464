"""Files of weights: read as data alone, and put into a module of timm whole or not at all."""

import pickle
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from timm.models import eva, load_state_dict, vision_transformer
from torch import Tensor, nn

from vit_registers.core.errors import InputError, one_line, reason

# Beside those that timm unwraps (state_dict, model, EMA): those of self-distillation, and I-JEPA's.
WRAPPERS = ("teacher", "student", "encoder")
PREFIXES = ("module.", "backbone.", "encoder.")
HEADS = ("head.", "head_dist.", "fc_norm.", "attn_pool.", "dino_head.", "ibot_head.", "projector.")
SHOWN = 3  # keys of a kind that a message names


def unreadable(error: Exception) -> str:
    """Why a file is no weights, in one line. torch would rather tell how to run the code of a pickle."""
    if pickle.UnpicklingError in (type(error), type(error.__cause__)):  # timm raises its own of it
        return "neither safetensors nor a pickle of tensors alone; no code of a file is run"
    return one_line(f"{reason(error)}" if str(error) else type(error).__name__)


def read(path: Path, where: str) -> dict[str, Tensor]:
    """The tensors of a file by name, out of all usual wrappings. Pickles are read as data alone (``weights_only``)."""
    refuse_no_file(path, where)
    try:
        state: Any = load_state_dict(str(path))
    except AttributeError:  # timm unwraps dictionaries alone
        state = {}
    except Exception as error:  # of torch, pickle, zipfile, safetensors: whatever a file made them stumble over
        raise InputError(f"{where}: cannot be read as weights ({unreadable(error)})") from error
    state = state if isinstance(state, Mapping) else {}
    for wrapper in WRAPPERS:
        inner = state.get(wrapper)
        state = inner if isinstance(inner, Mapping) else state
    state = {key: tensor for key, tensor in state.items() if isinstance(key, str) and isinstance(tensor, Tensor)}
    for prefix in PREFIXES:
        if state and all(key.startswith((prefix, *HEADS)) for key in state):
            state = {key.removeprefix(prefix): tensor for key, tensor in state.items()}
    if not state:
        raise InputError(f"{where}: holds no tensors by name; expected a state dict")
    return state


def refuse_no_file(path: Path, where: str) -> None:
    """:class:`InputError` for what cannot be opened as a file: nothing, a folder, a pipe (which is waited for)."""
    if not path.is_file():
        what = "no such file" if not path.exists() else "is no file"
        raise InputError(f"{where}: {what}; expected a checkpoint")


def fill(module: Any, state: Mapping[str, Tensor], name: str, where: str) -> None:
    """Put ``state`` into ``module``, timm's ``name``: all of its weights, and no others but those of a head.

    Names are mapped as timm maps them: those of torch.hub's DINO and DINOv2, of CLIP, of DINOv3 among others. DINOv2's
    ``mask_token`` is of its training alone; its registers have no position, and that of [CLS] is added to [CLS].
    Nothing is resampled: :class:`InputError` for position embeddings of another grid, as for all that does not fit.
    """
    _refuse_other_grid(state, module, name, where)
    converted = _converted(state, module, name, where)
    expected = module.state_dict()
    converted = {k: tensor for k, tensor in converted.items() if k in expected or not k.startswith(HEADS)}
    wrong = differences(converted, expected)
    if wrong:
        raise InputError(f"{where}: not the weights of '{name}': {wrong}; correct name or arguments")
    _refuse_odd_values(converted, expected, where)
    module.load_state_dict(converted)


def _refuse_odd_values(found: Mapping[str, Tensor], expected: Mapping[str, Tensor], where: str) -> None:
    """Refuse weights that are no numbers of the kind expected, or not finite."""
    for key, tensor in found.items():
        if tensor.is_floating_point() != expected[key].is_floating_point():
            raise InputError(
                f"{where}: '{key}' is {tensor.dtype} where {expected[key].dtype} was expected; restore the file"
            )
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise InputError(f"{where}: '{key}' holds NaN or infinity; restore the file")


def differences(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> str:
    """Keys that are missing, keys that nothing is known of, and shapes that differ; empty where nothing does."""
    shapes = [
        f"'{key}' is {list(found[key].shape)} where {list(tensor.shape)} was expected"
        for key, tensor in expected.items()
        if key in found and found[key].shape != tensor.shape
    ]
    return "; ".join(
        [
            *_some("missing ", [f"'{key}'" for key in sorted(expected.keys() - found.keys())]),
            *_some("unexpected ", [f"'{key}'" for key in sorted(found.keys() - expected.keys())]),
            *_some("", shapes),
        ]
    )


def _some(what: str, those: list[str]) -> list[str]:
    more = f" and {len(those) - SHOWN} more" if len(those) > SHOWN else ""
    return [what + ", ".join(those[:SHOWN]) + more] if those else []


def _converted(state: Mapping[str, Tensor], module: nn.Module, name: str, where: str) -> dict[str, Tensor]:
    """``state`` under timm's names. Positions wait aside where timm would rather resample them than leave them."""
    if isinstance(module, eva.Eva):
        convert = eva.checkpoint_filter_fn
    else:
        convert = partial(vision_transformer.checkpoint_filter_fn, adapt_layer_scale=True)  # DeiT-III's gamma_1
    aside = {} if "register_tokens" in state else {k: tensor for k, tensor in state.items() if k == "pos_embed"}
    try:
        converted = convert({k: tensor for k, tensor in state.items() if k not in aside}, module) | aside
    except (RuntimeError, KeyError, ValueError, AssertionError) as error:
        raise InputError(f"{where}: not the weights of '{name}' ({reason(error)}); correct name or arguments") from None
    storages = {tensor.untyped_storage().data_ptr() for tensor in state.values()}
    for key in ("pos_embed", "patch_embed.proj.weight"):
        if key in converted and converted[key].untyped_storage().data_ptr() not in storages:
            raise InputError(
                f"{where}: '{key}' is of other sizes than '{name}' has, and would have to be resampled; give those it "
                "was trained at, as in arguments: {img_size: 224, patch_size: 16}, and image_size for another one"
            )
    return converted


def _refuse_other_grid(state: Mapping[str, Tensor], module: Any, name: str, where: str) -> None:
    """Refuse position embeddings that are not those of the module's patches."""
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
    if "register_tokens" in state and (module.reg_token is None or module.pos_embed.shape[1] != patches):
        registers = state["register_tokens"].shape[1]
        raise InputError(
            f"{where}: not the weights of '{name}': has 'register_tokens' without positions, which it has not; take a "
            f"model that has, as with arguments: {{reg_tokens: {registers}, no_embed_class: true}}"
        )
