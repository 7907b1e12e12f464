"""Checkpoint files over timm's architectures."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from timm.data.config import resolve_data_config

from vit_registers.core.errors import InputError
from vit_registers.core.files import sha256
from vit_registers.models import backbone, timm_models
from vit_registers.models.loaded import Loaded
from vit_registers.models.weights import files


def load(
    file: str, name: str, arguments: dict[str, Any], preprocess: Mapping[str, Any], expected: str | None, key: str
) -> Loaded:
    """timm's architecture ``name`` with all weights of ``file`` and no others but a head's.

    ``preprocess`` is laid over what timm gives for the architecture; ``expected`` is the file's SHA-256, if it is
    stated; ``key`` is that of params which messages open with.
    """
    timm_models.untrained(name, arguments, key)
    where = f"{key}.path: {file}"
    files.refuse_no_file(Path(file), where)
    found = sha256(file)
    if expected not in (None, found):
        raise InputError(f"{key}.sha256: {file}: expected {expected}, found {found}; correct it, or restore the file")
    architecture = timm_models.architecture_of(name, arguments)
    module = backbone.build(architecture)
    files.fill(module, files.read(Path(file), where), name, where)
    config = {**resolve_data_config({}, model=module), **preprocess}
    origin = {"file": Path(file).name, "sha256": found}
    return Loaded(module, architecture, f"{Path(file).name} ({name})", config, origin=origin)
