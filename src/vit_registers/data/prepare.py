"""The step from a data set of params to its manifest."""

import os
import shutil
from pathlib import Path

from vit_registers.core.files import abandoned, read_json, unfinished, writing
from vit_registers.data.first_look import limited
from vit_registers.data.published.versions import compare
from vit_registers.pipeline.configs import PrepareConfig

PARTIAL = ".partial"  # end of the name of what is not whole yet


def run(cfg: PrepareConfig, out: Path) -> None:
    """Write ``out``/manifest.parquet and dataset.json (and images that are made here), whole or not at all.

    Everything is made under a temporary name beside ``out`` and renamed at the end; an older ``out`` goes only then.
    Where a published data set has not as many images as published, the log says so.
    """
    temporary = unfinished(out, PARTIAL)
    with writing(out):
        for left in abandoned(out, PARTIAL):
            shutil.rmtree(left, ignore_errors=True)
        temporary.mkdir(parents=True)
        try:
            with limited(cfg.limit):
                cfg.source.prepare(cfg.name, cfg.seed, temporary)
            if cfg.limit is None:  # a first look has as many images as it was told to
                compare(cfg.name, cfg.source.published(), read_json(temporary / "dataset.json")["images"])
            shutil.rmtree(out, ignore_errors=True)
            os.replace(temporary, out)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
