"""The step from a data set of params to its manifest."""

import os
import shutil
from pathlib import Path

from vit_registers.data.shapes import write as shapes
from vit_registers.data.sources import coco, folder, voc
from vit_registers.data.sources import csv_table as csv_manifest
from vit_registers.params import CifarDataset, CocoDataset, CsvDataset, FolderDataset, VocDataset
from vit_registers.pipeline.slices import PrepareStep


def run(cfg: PrepareStep, out: Path) -> None:
    """Write ``out``/manifest.parquet and dataset.json (and images that are made here), whole or not at all.

    Everything is made under a temporary name beside ``out`` and renamed at the end; an older ``out`` goes only then.
    """
    temporary = out.with_name(f".{out.name}.{os.getpid()}.partial")
    temporary.mkdir(parents=True)
    try:
        if isinstance(cfg.source, FolderDataset):
            folder.prepare(cfg.source, cfg.name, cfg.seed, temporary)
        elif isinstance(cfg.source, CsvDataset):
            csv_manifest.prepare(cfg.source, cfg.name, temporary)
        elif isinstance(cfg.source, CifarDataset):
            from vit_registers.data.sources import cifar  # imports torch, which no other data set needs

            cifar.prepare(cfg.source, cfg.name, cfg.seed, temporary)
        elif isinstance(cfg.source, VocDataset):
            voc.prepare(cfg.source, cfg.name, temporary)
        elif isinstance(cfg.source, CocoDataset):
            coco.prepare(cfg.source, cfg.name, cfg.seed, temporary)
        else:
            shapes.prepare(cfg.source, cfg.name, cfg.seed, temporary)
        shutil.rmtree(out, ignore_errors=True)
        os.replace(temporary, out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
