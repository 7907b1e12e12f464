"""A tiny ViT whose register neurons are written in by hand, the same ViT without them, and data sets of 14 images.

Detection runs on them for real, as a rule on the twelve test images of each data set; what extraction left of the same
images is there to compare with.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image
from timm.models.vision_transformer import VisionTransformer

from vit_registers.core.files import read_json
from vit_registers.data import manifest
from vit_registers.extraction import extract
from vit_registers.models import backbone as backbones
from vit_registers.models.preprocess import Preprocess
from vit_registers.models.supported import layout_of
from vit_registers.params.passes import Detection, Extraction
from vit_registers.params.statistics import Statistics
from vit_registers.pipeline.configs import DetectConfig, ExtractConfig
from vit_registers.registers import detect

ARCHITECTURE = {
    "img_size": 32,
    "patch_size": 8,
    "embed_dim": 16,
    "depth": 3,
    "num_heads": 2,
    "num_classes": 0,
    "reg_tokens": 1,
    "no_embed_class": True,
}
NEURONS = [[1, 3], [1, 40]]
TAGGED = [5, 10]  # patches
BRIGHTNESS = [30, 60, 90, 120, 150, 40, 70, 100, 130, 45, 75, 220]  # of the images; the neurons fire from 65


@dataclass(frozen=True)
class Made:
    """Data sets, and features of the models ``planted`` and ``plain`` on each of them, below ``root``."""

    root: Path

    def config(self, model: str, dataset: str = "tiny", **changes: Any) -> DetectConfig:
        """Config of detection: ``changes`` are of its settings, or of what else the step is given."""
        settings = {
            "split": "test",
            "threshold_rule": "absolute",
            "threshold": 100.0,
            "outlier_layer": -1,
            "highest_layer": -1,
            "score": "activation",
            "top_k": 2,
            "images": 12,
            "minimum_share": 1e-3,
            "sparsity": "off",
            "sparsity_tokens": "patches",
            "bootstrap": 20,
        }
        fields: dict[str, Any] = {"seed": 0, "device": "cpu", "dataset": dataset, "model": model}
        fields |= {"batch_size": 5, "memory_mb": 500, "precision": "fp32"}
        fields["statistics"] = Statistics(confidence=0.95, resamples=1000)
        fields |= {name: changes.pop(name) for name in list(changes) if name in fields}
        return DetectConfig(**fields, detection=Detection(**{**settings, **changes}))

    def paths(self, model: str, out: str = "registers", dataset: str = "tiny") -> list[Path]:
        """Arguments of detection's ``run`` after its config."""
        root = self.root
        return [root / "data" / dataset, root / "models" / model, root / out / f"{model}.json"]

    def detect(self, model: str, out: str = "registers", dataset: str = "tiny", **changes: Any) -> dict[str, Any]:
        """What detection wrote to the folder ``out``."""
        paths = self.paths(model, out, dataset)
        detect.run(self.config(model, dataset, **changes), *paths)
        found: dict[str, Any] = read_json(paths[-1])
        return found


def write_images(folder: Path, seed: int) -> None:
    """Fourteen noisy images of given brightness, all but the first and the last of the test split."""
    rng = np.random.default_rng(seed)
    (folder / "images").mkdir(parents=True)
    for i, mean in enumerate([100, *BRIGHTNESS, 100]):
        pixels = np.clip(mean + 10.0 * rng.standard_normal((32, 32, 3)), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / "images" / f"{i:02d}.png")
    table = pd.DataFrame(
        {
            "image_id": [f"i{i:02d}" for i in range(14)],
            "path": [f"images/{i:02d}.png" for i in range(14)],
            "split": ["train", *["test"] * 12, "train"],
            "label": [0, 1] * 7,
        }
    )
    table = manifest.check(table, ["even", "odd"], folder, "the test")
    manifest.write(folder, table, ["even", "odd"], folder.name, ".", "made by the test", "MIT")


def write_model(folder: Path, planted: bool) -> None:
    """Neurons that fire at the tagged patches of bright images, and add a vector of norm 400 or so there."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        module = VisionTransformer(**ARCHITECTURE).eval().requires_grad_(False)
    module.patch_embed.proj.weight.zero_()
    module.patch_embed.proj.weight[0] = 1 / 192.0  # channel 0: brightness of the patch
    module.patch_embed.proj.bias.zero_()
    module.pos_embed.normal_(0.0, 0.05, generator=torch.Generator().manual_seed(2))
    for block in module.blocks:  # only the neurons below write into the stream
        block.attn.proj.weight.zero_()
        block.mlp.fc2.weight.zero_()
    module.blocks[2].mlp.fc2.bias[5] = 2.0  # but that norms differ from block to block
    module.pos_embed[0, :, 1] = -1.0
    module.pos_embed[0, TAGGED, 1] = 3.0
    if planted:
        mlp = module.blocks[1].mlp
        for (_, index), gain in zip(NEURONS, (1.0, 0.8), strict=True):
            mlp.fc1.weight[index] = 0.0
            mlp.fc1.weight[index, 0], mlp.fc1.weight[index, 1] = 20.0 * gain, 20.0 * gain
            mlp.fc1.bias[index] = -100.0 * gain
            mlp.fc2.weight[2:, index] = 30.0 * (-1.0) ** torch.arange(14)
    metadata: dict[str, Any] = {
        "name": folder.name,
        "kind": "planted" if planted else "trained",
        "architecture": ARCHITECTURE,
        "layout": layout_of(module, folder.name).to_json(),
        "preprocess": Preprocess.square(32, 32, "bicubic", (0.0,) * 3, (0.25,) * 3).to_json(),
        "parameters": sum(p.numel() for p in module.parameters()),
    }
    backbones.save(folder, module, metadata | ({"planted": {"neurons": NEURONS}} if planted else {}))


def make(root: Path, *datasets: str) -> Made:
    """Data sets of other images each, both models, and baseline features of all pairs."""
    for seed, dataset in enumerate(datasets):
        write_images(root / "data" / dataset, seed)
    settings = Extraction(
        batch_size=5, precision="fp32", dense_split="test", dense_images=12, memory_mb=500, projections={"k": [-1]}
    )
    for model in ("planted", "plain"):
        write_model(root / "models" / model, model == "planted")
        for dataset in datasets:
            cfg = ExtractConfig(
                seed=0,
                device="cpu",
                dataset=dataset,
                model=model,
                extraction=settings,
                interventions={"baseline": None},
            )
            extract.run(cfg, root / "data" / dataset, root / "models" / model, root / "features", None)
    return Made(root)
