"""Published data sets: what is prepared of them, and what is refused (files: helpers.layouts)."""

import pytest
from pydantic import TypeAdapter

from vit_registers.core.errors import InputError
from vit_registers.data import prepare
from vit_registers.data.manifest import Manifest
from vit_registers.params.bases import DatasetSource
from vit_registers.params.kinds import kinds
from vit_registers.pipeline.configs import PrepareConfig


def prepared(out, kind, root, **fields):
    """The manifest of a data set of ``kind`` in ``root``, with seed 0."""
    known = kinds("vit_registers.data.sources", DatasetSource)[kind]
    source = TypeAdapter(known).validate_python({"kind": kind, "path": str(root), **fields})
    prepare.run(PrepareConfig(seed=0, name="mine", source=source), out)
    return Manifest.load(out)


def contents(root):
    """Every file below ``root`` and what is in it."""
    return {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}


def splits(made):
    """Images by split, in the order of the table."""
    return {split: group["image_id"].tolist() for split, group in made.table.groupby("split", sort=False)}


def refused(out, expected, *arguments, **fields):
    """That preparing is refused in one line that matches ``expected``, and leaves nothing behind."""
    with pytest.raises(InputError, match=expected) as error:
        prepared(out, *arguments, **fields)
    assert "\n" not in str(error.value)
    assert not out.exists()
    assert not list(out.parent.glob("*.partial"))
