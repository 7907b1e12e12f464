"""Sixteen small images, two small models, and their features below one folder."""

import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from vit_registers.core.files import write_json
from vit_registers.data import manifest
from vit_registers.data.correspondence import Pair
from vit_registers.data.manifest import Manifest
from vit_registers.extraction import extract, join, store
from vit_registers.extraction.store import Features
from vit_registers.interventions.base import applied
from vit_registers.interventions.kinds.ablate import Ablate
from vit_registers.interventions.kinds.append import Append
from vit_registers.interventions.kinds.test_time_registers import TestTimeRegisters
from vit_registers.models import backbone as backbones
from vit_registers.models.layout import TokenLayout
from vit_registers.models.preprocess import Preprocess
from vit_registers.params.passes import Extraction
from vit_registers.pipeline.configs import ExtractConfig, ShardConfig

SPLITS = ["train", "test", "test", "train", "test", *["test"] * 8, "train", "test", "train"]  # of sixteen images
TEST = [row for row, split in enumerate(SPLITS) if split == "test"]
VIEWED = [2, 4, 6, 7, 8]  # images of split test that can have a second view; image 1 has none
NEURONS = {"found": True, "top_k": 2, "neurons": [[0, 3, 9.0], [1, 7, 8.0], [1, 2, 7.0], [0, 9, 6.0]]}
NONE = {"found": False, "top_k": 2, "neurons": [], "reason": "no outlier patches found: 0.00% of the patches exceed 51"}
SETTINGS = {
    "batch_size": 3,
    "memory_mb": 500,
    "precision": "fp32",
    "dense_split": "test",
    "dense_images": 5,
    "projections": {"k": [-1]},
}
CONDITIONS = {
    "append": Append(tokens=2),
    "move": TestTimeRegisters(tokens=1),
    "random": TestTimeRegisters(tokens=1, neurons="random"),
    "zero": Ablate(tokens="registers"),
}


class Workshop:
    """A data set, models and features below one folder."""

    def __init__(self, root):
        self.root, self.data, self.features = root, root / "data", root / "features"

    def step(self, model, interventions=None, **extraction):
        return ExtractConfig(
            seed=0,
            device="cpu",
            dataset="tiny",
            model=model,
            extraction=Extraction(**{**SETTINGS, **extraction}),
            interventions={"baseline": None} if interventions is None else interventions,
        )

    def registers(self, interventions, found=None):
        """What detection found, where there are interventions."""
        if interventions is None:
            return None
        write_json(self.root / "registers.json", NEURONS if found is None else found)
        return self.root / "registers.json"

    def run(self, model="vit", interventions=None, found=None, calibrated=None, **extraction):
        registers, step = self.registers(interventions, found), self.step(model, interventions, **extraction)
        extract.run(step, self.data, self.root / "models" / model, self.features, registers, calibrated)

    def run_shard(self, shard, model="vit", interventions=None, **extraction):
        registers = self.registers(interventions)
        step = self.step(model, interventions, shards=shard.of, **extraction)
        config = ShardConfig(**{name: getattr(step, name) for name in ExtractConfig.model_fields}, shard=str(shard))
        extract.run_shard(config, self.data, self.root / "models" / model, self.features, registers)

    def join(self, count, model="vit", interventions=None, **extraction):
        step = self.step(model, interventions, shards=count, **extraction)
        join.run(step, self.features, interventions is not None)

    def folder(self, condition="baseline", model="vit"):
        return store.condition_folder(self.features, "tiny", model, condition)

    def unfinished(self, condition="baseline", model="vit"):
        """Where a condition is made as a whole."""
        folder = store.unfinished_folder(self.features, "tiny", model, condition != "baseline")
        return folder / store.WHOLE / condition

    def add_views(self):
        """Give some images of split test second views of another size."""
        (self.data / "views").mkdir()
        table, draw = Manifest.load(self.data).table, np.random.default_rng(1)
        entries = [None] * len(table)
        for row in VIEWED:
            pixels = draw.integers(0, 256, (44, 40 + row, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(self.data / f"views/{row:02d}.png")
            entries[row] = Pair(pair=f"views/{row:02d}.png", matrix=((1, 0, row), (0, 1, 0))).model_dump_json()
        table["correspondence"] = entries
        table = manifest.check(table, ["a", "b"], self.data, "the test")
        manifest.write(self.data, table, ["a", "b"], "tiny", ".", "made by the test", "MIT")

    def tokens(self, model="vit", intervention=None):
        """Tokens of every image, one image at a time, without the pass."""
        backbone = backbones.load(self.root / "models" / model)
        table = Manifest.load(self.data)
        found = []
        with applied(backbone, intervention), torch.inference_mode():
            for row in range(len(table.table)):
                pixels = backbone.preprocess(Image.open(table.file(row)))
                found.append(backbone.module.forward_features(pixels[None])[0])
        return torch.stack(found).numpy()

    def blocks(self, rows):
        """Raw outputs of all blocks (n, layers, t, d) of some images of vit-r2."""
        backbone, table, found = backbones.load(self.root / "models/vit-r2"), Manifest.load(self.data), []
        handles = [block.register_forward_hook(lambda m, i, o: found.append(o)) for block in backbone.blocks]
        with torch.inference_mode():
            backbone.module(torch.stack([backbone.preprocess(Image.open(table.file(int(row)))) for row in rows]))
        assert len(handles) == 2
        return torch.stack(found, dim=1).numpy()


def write_data(folder):
    (folder / "images").mkdir(parents=True)
    draw = np.random.default_rng(0)
    for i in range(16):
        pixels = draw.integers(0, 256, (40, 36 + i, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "images" / f"{i:02d}.png")
    table = pd.DataFrame(
        {
            "image_id": [f"i{i:02d}" for i in range(16)],
            "path": [f"images/{i:02d}.png" for i in range(16)],
            "split": SPLITS,
            "label": [0, *[1] * 2, 1, *[0] * 12],
        }
    )
    checked = manifest.check(table, ["a", "b"], folder, "the test")
    manifest.write(folder, checked, ["a", "b"], "tiny", ".", "made by the test", "MIT")


def write_model(folder, registers, seed=0, heads=2, **preprocess):
    architecture = {
        "img_size": 32,
        "patch_size": 8,
        "embed_dim": 16,
        "depth": 2,
        "num_heads": heads,
        "num_classes": 0,
        "reg_tokens": registers,
        "no_embed_class": True,
    }
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        module = backbones.build(architecture)
        with torch.no_grad():
            for weights in module.parameters():
                weights.add_(0.3 * torch.randn(weights.shape))
    settings = {
        "size": (32, 32),
        "resize": (36, 36),
        "interpolation": "bicubic",
        "mean": (0.5,) * 3,
        "std": (0.25,) * 3,
    }
    card = {
        "name": folder.name,
        "kind": "trained",
        "architecture": architecture,
        "layout": TokenLayout(1, registers, (4, 4)).to_json(),
        "preprocess": Preprocess(**{**settings, **preprocess}).to_json(),
    }
    backbones.save(folder, module, card)


def contents(folder):
    """Bytes of all files but locks."""
    found = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != ".lock")
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


def times(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file() and path.name != ".lock"}


def arrays(folder):
    features = Features.open(folder)
    return {name: np.asarray(features.array(name)) for name in features.index["arrays"]}


@pytest.fixture(scope="session")
def template(tmp_path_factory):
    root = tmp_path_factory.mktemp("workshop")
    write_data(root / "data")
    write_model(root / "models" / "vit", 0)
    write_model(root / "models" / "vit-r2", 2)
    return root


@pytest.fixture
def workshop(template, tmp_path):
    shutil.copytree(template, tmp_path / "workshop")
    return Workshop(tmp_path / "workshop")
